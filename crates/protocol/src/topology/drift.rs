//! What differs between the table and a broker, field by field.

use std::time::Duration;

use serde::Serialize;

use super::{Consumer, Stream};
use crate::duration;

/// One field that is not as the table says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Drift {
    /// The stream, or `<stream>/<consumer>`.
    pub of: String,
    /// The field.
    pub field: &'static str,
    /// What the table says.
    pub expected: String,
    /// What the broker has.
    pub found: String,
    /// Whether a promise is broken by it: a limit where nothing acknowledged may be deleted.
    pub breaks_promise: bool,
}

/// What of a stream differs. The description is no drift.
pub fn drift_of_stream(expected: &Stream, found: &Stream) -> Vec<Drift> {
    let holds_promises = expected.holds_promises();
    let mut drifts = Vec::new();
    let mut compare = |field: &'static str, expected_value: String, found_value: String, is_limit: bool| {
        if expected_value != found_value {
            drifts.push(Drift {
                of: expected.name.clone(),
                field,
                expected: expected_value,
                found: found_value,
                breaks_promise: holds_promises && is_limit,
            });
        }
    };
    let sorted = |subjects: &[String]| {
        let mut subjects = subjects.to_vec();
        subjects.sort();
        subjects.join(", ")
    };
    macro_rules! same {
        ($field:ident, $show:expr, $is_limit:expr) => {
            compare(stringify!($field), $show(&expected.$field), $show(&found.$field), $is_limit)
        };
    }
    compare("subjects", sorted(&expected.subjects), sorted(&found.subjects), false);
    same!(in_memory, debug, true);
    same!(retention, debug, true);
    same!(discard, debug, true);
    same!(discard_new_per_subject, debug, true);
    same!(max_age, age, true);
    same!(max_bytes, bound, true);
    same!(max_messages, bound, true);
    same!(max_messages_per_subject, bound, true);
    same!(max_consumers, debug, false);
    same!(replicas, debug, false);
    same!(duplicate_window, age_of, false);
    same!(allow_direct, debug, false);
    same!(allow_schedules, debug, false);
    same!(allow_message_ttl, debug, false);
    same!(allow_atomic_publish, debug, false);
    same!(allow_rollup, debug, false);
    same!(deny_delete, debug, false);
    same!(delete_marker_ttl, age, false);
    same!(republish, debug, false);
    same!(subject_transform, debug, false);
    drifts
}

/// What of a consumer differs. `max_ack_pending` belongs to operators and is no drift.
pub fn drift_of_consumer(expected: &Consumer, found: &Consumer) -> Vec<Drift> {
    let fields = [
        ("filter", expected.filter.clone(), found.filter.clone()),
        ("ack_wait", age_of(&expected.ack_wait), age_of(&found.ack_wait)),
        ("max_deliver", debug(&expected.max_deliver), debug(&found.max_deliver)),
        ("max_waiting", debug(&expected.max_waiting), debug(&found.max_waiting)),
        ("pinned", debug(&expected.pinned), debug(&found.pinned)),
    ];
    let drifted = fields.into_iter().filter(|(_, expected_value, found_value)| expected_value != found_value);
    let of = format!("{}/{}", expected.stream, expected.name);
    drifted
        .map(|(field, expected_value, found_value)| Drift {
            of: of.clone(),
            field,
            expected: expected_value,
            found: found_value,
            breaks_promise: false,
        })
        .collect()
}

fn debug<T: std::fmt::Debug>(value: &T) -> String {
    format!("{value:?}")
}

fn bound(value: &Option<u64>) -> String {
    value.map_or_else(|| "none".to_owned(), |value| value.to_string())
}

fn age(value: &Option<Duration>) -> String {
    value.map_or_else(|| "none".to_owned(), duration::format)
}

fn age_of(value: &Duration) -> String {
    duration::format(*value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Namespace,
        topology::{Settings, streams},
    };

    #[test]
    fn the_same_is_no_drift_and_a_limit_breaks_a_promise() {
        let expected = streams(&Namespace::default(), &Settings::default()).remove(0);
        let mut found = expected.clone();
        found.subjects.reverse();
        assert_eq!(drift_of_stream(&expected, &found), []);
        found.max_age = Some(Duration::from_secs(60));
        found.max_consumers = -1;
        let drifts = drift_of_stream(&expected, &found);
        let told: Vec<_> =
            drifts.iter().map(|drift| (drift.field, drift.found.as_str(), drift.breaks_promise)).collect();
        assert_eq!(told, [("max_age", "1m", true), ("max_consumers", "-1", false)]);
    }
}
