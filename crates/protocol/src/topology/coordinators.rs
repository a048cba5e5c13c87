//! The consumers that coordinators make for themselves and share, whichever of them are there.

use std::time::Duration;

use super::{Consumer, Names, RUN_PARTITIONS, run_consumer, starts_consumer};
use crate::{Namespace, subject::filter};

const SECOND: Duration = Duration::from_secs(1);

/// A consumer of coordinators, and what waits where it does not deliver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shared {
    /// As every coordinator makes it.
    pub consumer: Consumer,
    /// What waits, as `starts of runs`.
    pub brings: String,
    /// Whether it is there wherever a coordinator runs.
    pub is_always_there: bool,
}

/// Every consumer that coordinators make. Nobody steers them: none of them is ever paused on purpose.
pub fn shared_by_coordinators(namespace: &Namespace) -> Vec<Shared> {
    let always = |consumer, brings: &str| Shared { consumer, brings: brings.to_owned(), is_always_there: true };
    let runs = (0..RUN_PARTITIONS)
        .map(|partition| always(run_consumer(namespace, partition), &format!("the runs of partition {partition}")));
    [
        always(fires_consumer(namespace), "firings of recurring requests that must not overlap"),
        always(advisories_consumer(namespace), "what the broker gave up, which has no dead letter until then"),
        always(starts_consumer(namespace), "starts of runs"),
        Shared { is_always_there: false, ..always(triggers_consumer(namespace), "events that triggers are for") },
    ]
    .into_iter()
    .chain(runs)
    .collect()
}

/// The consumer by which coordinators share what the broker tells of messages that it gave up.
pub fn advisories_consumer(namespace: &Namespace) -> Consumer {
    Consumer {
        stream: Names::of(namespace).advisories,
        name: "coordinator_advisories".to_owned(),
        filter: "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.>".to_owned(),
        ack_wait: 30 * SECOND,
        max_deliver: None,
        max_ack_pending: 10_000,
        max_waiting: 512,
        pinned: None,
    }
}

/// The consumer by which coordinators share the events that triggers are for. It is made when there is a trigger.
pub fn triggers_consumer(namespace: &Namespace) -> Consumer {
    Consumer {
        stream: Names::of(namespace).events,
        name: "coordinator_triggers".to_owned(),
        filter: filter::events(namespace),
        ack_wait: 30 * SECOND,
        max_deliver: None,
        max_ack_pending: 10_000,
        max_waiting: 512,
        pinned: None,
    }
}

/// The consumer by which coordinators share the firings of schedules that must not overlap with themselves.
pub fn fires_consumer(namespace: &Namespace) -> Consumer {
    Consumer {
        stream: Names::of(namespace).requests,
        name: "coordinator_fires".to_owned(),
        filter: filter::fire(namespace),
        ack_wait: 30 * SECOND,
        max_deliver: None,
        max_ack_pending: 10_000,
        max_waiting: 512,
        pinned: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_a_name_of_its_own_in_its_stream() {
        let all = shared_by_coordinators(&Namespace::default());
        let names: std::collections::BTreeSet<_> =
            all.iter().map(|shared| (&shared.consumer.stream, &shared.consumer.name)).collect();
        assert_eq!(names.len(), 20);
        assert!(names.iter().all(|(_, name)| name.starts_with("coordinator_")));
        assert_eq!(all.iter().filter(|shared| !shared.is_always_there).count(), 1);
    }
}
