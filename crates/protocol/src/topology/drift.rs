//! What differs between the table and a broker, field by field.

use std::time::Duration;

use serde::Serialize;

use super::{Consumer, Discard, Mapping, Pinned, Retention, Stream};
use crate::{
    duration,
    time::{self, Timestamp},
};

/// The one field of a consumer that a broker changes in no consumer that is there: "max waiting can not be updated".
const MAX_WAITING: &str = "max_waiting";

/// A consumer that is paused, where nobody may wish it.
const PAUSE: &str = "pause";

/// The one field of a stream without which nothing that it holds can be looked up.
const ALLOW_DIRECT: &str = "allow_direct";

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
    /// Whether a promise is broken by it: a limit where nothing acknowledged may be deleted, or a bound by which something
    /// is deleted before its age.
    pub breaks_promise: bool,
}

impl Drift {
    /// Whether a consumer has to be made anew for it. Streams never are.
    pub fn needs_new_consumer(&self) -> bool {
        self.field == MAX_WAITING
    }

    /// Whether it is a pause, which is taken off by itself.
    pub fn is_pause(&self) -> bool {
        self.field == PAUSE
    }

    /// Whether nothing that the stream holds can be looked up for it: outcomes, requests, settings.
    pub fn stops_lookups(&self) -> bool {
        self.field == ALLOW_DIRECT
    }
}

impl std::fmt::Display for Drift {
    /// `ack_wait is 1s, not 10s`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} is {}, not {}", self.field, self.found, self.expected)
    }
}

/// What of a stream differs. The description is no drift.
pub fn drift_of_stream(expected: &Stream, found: &Stream) -> Vec<Drift> {
    let (holds_promises, is_kept_by_age) = (expected.holds_promises(), expected.is_kept_by_age());
    let mut drifts = Vec::new();
    let mut compare = |field: &'static str, expected_value: String, found_value: String, is_limit: bool| {
        if expected_value != found_value {
            let is_bound = ["max_bytes", "max_messages", "max_messages_per_subject"].contains(&field);
            drifts.push(Drift {
                of: expected.name.clone(),
                field,
                expected: expected_value,
                found: found_value,
                breaks_promise: (holds_promises && is_limit) || (is_kept_by_age && is_bound),
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
    same!(in_memory, plain, true);
    same!(retention, retention, true);
    same!(discard, discard, true);
    same!(discard_new_per_subject, plain, true);
    same!(max_age, age, true);
    same!(max_bytes, bound, true);
    same!(max_messages, bound, true);
    same!(max_messages_per_subject, bound, true);
    same!(max_consumers, count, false);
    same!(replicas, plain, false);
    same!(duplicate_window, age_of, false);
    same!(allow_direct, plain, false);
    same!(allow_schedules, plain, false);
    same!(allow_message_ttl, plain, false);
    same!(allow_atomic_publish, plain, false);
    same!(group_commit, plain, false);
    same!(allow_rollup, plain, false);
    same!(deny_delete, plain, false);
    same!(delete_marker_ttl, age, false);
    same!(republish, mapping, false);
    same!(subject_transform, mapping, false);
    drifts
}

/// What of a consumer differs. `max_ack_pending` belongs to operators and is no drift.
pub fn drift_of_consumer(expected: &Consumer, found: &Consumer) -> Vec<Drift> {
    let fields = [
        ("filter", expected.filter.clone(), found.filter.clone()),
        ("ack_wait", age_of(&expected.ack_wait), age_of(&found.ack_wait)),
        ("max_deliver", bound(&expected.max_deliver), bound(&found.max_deliver)),
        (MAX_WAITING, plain(&expected.max_waiting), plain(&found.max_waiting)),
        ("pinned", pinned(&expected.pinned), pinned(&found.pinned)),
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

/// The pause of a consumer that nobody may wish paused: those of coordinators. The others are operators' to pause.
pub fn drift_of_pause(expected: &Consumer, paused_until: Option<Timestamp>) -> Option<Drift> {
    paused_until.map(|until| Drift {
        of: format!("{}/{}", expected.stream, expected.name),
        field: PAUSE,
        expected: "none".to_owned(),
        found: format!("until {}", time::format(until)),
        breaks_promise: false,
    })
}

fn pinned(value: &Option<Pinned>) -> String {
    value
        .as_ref()
        .map_or_else(|| "none".to_owned(), |pinned| format!("{} for {}", pinned.group, age_of(&pinned.timeout)))
}

fn plain<T: ToString>(value: &T) -> String {
    value.to_string()
}

fn bound<T: ToString>(value: &Option<T>) -> String {
    value.as_ref().map_or_else(|| "none".to_owned(), ToString::to_string)
}

/// How many, where the broker writes -1 for no bound.
fn count(value: &i32) -> String {
    if *value < 0 { "none".to_owned() } else { value.to_string() }
}

fn retention(value: &Retention) -> String {
    match value {
        Retention::Limits => "limits",
        Retention::WorkQueue => "work queue",
        Retention::Interest => "interest",
    }
    .to_owned()
}

fn discard(value: &Discard) -> String {
    match value {
        Discard::Old => "old",
        Discard::New => "new",
    }
    .to_owned()
}

fn mapping(value: &Option<Mapping>) -> String {
    value.as_ref().map_or_else(|| "none".to_owned(), |mapping| format!("{} to {}", mapping.source, mapping.destination))
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
        found.retention = Retention::Limits;
        let drifts = drift_of_stream(&expected, &found);
        let told: Vec<_> =
            drifts.iter().map(|drift| (drift.field, drift.found.as_str(), drift.breaks_promise)).collect();
        assert_eq!(told, [("retention", "limits", true), ("max_age", "1m", true), ("max_consumers", "none", false)]);
    }

    #[test]
    fn a_bound_that_deletes_outcomes_before_their_age_breaks_a_promise() {
        let table = streams(&Namespace::default(), &Settings::default());
        for (name, breaks) in [("FLEET_OUTCOMES", true), ("FLEET_DEAD", true), ("FLEET_LOGS", false)] {
            let expected = table.iter().find(|stream| stream.name == name).unwrap();
            let found = Stream { max_messages: Some(10), max_bytes: Some(1 << 30), ..expected.clone() };
            let drifts = drift_of_stream(expected, &found);
            assert!(!drifts.is_empty() && drifts.iter().all(|drift| drift.breaks_promise == breaks), "{drifts:?}");
        }
    }

    #[test]
    fn a_consumer_is_told_in_words_and_made_anew_for_one_field_only() {
        let capability = crate::Capability::parse("echo").unwrap();
        let expected =
            super::super::worker_consumer(&Namespace::default(), &capability, super::super::Source::Unique, 1);
        let found = Consumer {
            ack_wait: Duration::from_secs(1),
            max_deliver: Some(2),
            max_waiting: 512,
            max_ack_pending: 1,
            ..expected.clone()
        };
        let drifts = drift_of_consumer(&expected, &found);
        let told: Vec<_> = drifts.iter().map(|drift| (drift.to_string(), drift.needs_new_consumer())).collect();
        let wanted = [
            ("ack_wait is 1s, not 10s", false),
            ("max_deliver is 2, not none", false),
            ("max_waiting is 512, not 4096", true),
        ];
        assert_eq!(told, wanted.map(|(text, anew)| (text.to_owned(), anew)));
    }
}
