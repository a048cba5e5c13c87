//! How coordinators share the runs: by partition, each pinned to one of them, and one consumer for all starts.

use std::time::Duration;

use super::{Consumer, Names, Pinned};
use crate::{Namespace, subject::filter};

/// Partitions of the runs' logs. The broker counts them into the stored subjects, so this never changes.
pub const RUN_PARTITIONS: u8 = 16;

/// The priority group of a partition's consumer.
const GROUP: &str = "coordinators";

/// How fast a partition is asked for, and how soon one that is silent loses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunPace {
    /// How long an event may go without an acknowledgement or an extension. Whoever takes a partition over is given what
    /// the one before had in hand after this long, and not sooner.
    pub ack_wait: Duration,
    /// How often what is in hand is extended.
    pub extended_every: Duration,
    /// How long a coordinator may go without a pull before the partition is another's.
    pub priority_timeout: Duration,
    /// How long one pull waits.
    pub expires: Duration,
    /// How often one is sent. The end of a pull proves that the broker had it, and tells so when it has waited: from the
    /// last pull that is proved the fence counts, so this and `expires` together stay below `priority_timeout`.
    pub pulled_every: Duration,
}

/// The pace that moves everything of a coordinator that is gone within two to three seconds, and of none that is alive.
pub fn run_pace() -> RunPace {
    RunPace {
        ack_wait: Duration::from_secs(2),
        extended_every: Duration::from_millis(600),
        priority_timeout: Duration::from_secs(2),
        expires: Duration::from_millis(800),
        pulled_every: Duration::from_millis(400),
    }
}

/// The consumer of one partition of the runs' logs, below [`RUN_PARTITIONS`].
pub fn run_consumer(namespace: &Namespace, partition: u8) -> Consumer {
    let pace = run_pace();
    Consumer {
        stream: Names::of(namespace).runs,
        name: format!("coordinator_runs_{partition}"),
        filter: filter::run_partition(namespace, partition),
        ack_wait: pace.ack_wait,
        max_deliver: None,
        // A purge leaves what was delivered in ack-pending, and one step may have ten thousand items.
        max_ack_pending: 20_000,
        max_waiting: 512,
        pinned: Some(Pinned { group: GROUP.to_owned(), timeout: pace.priority_timeout }),
    }
}

/// The consumer by which coordinators share the starts of runs.
pub fn starts_consumer(namespace: &Namespace) -> Consumer {
    Consumer {
        stream: Names::of(namespace).requests,
        name: "coordinator_starts".to_owned(),
        filter: filter::starts(namespace),
        // A start is work of milliseconds, and harmless when done twice.
        ack_wait: Duration::from_secs(5),
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
    fn a_live_coordinator_proves_its_pulls_before_its_fence_falls() {
        let pace = run_pace();
        assert!(pace.expires + pace.pulled_every + Duration::from_millis(800) <= pace.priority_timeout);
        assert!(pace.extended_every * 3 <= pace.ack_wait);
    }

    #[test]
    fn each_partition_has_a_consumer_of_its_own() {
        let consumer = run_consumer(&Namespace::default(), 15);
        assert_eq!((consumer.name.as_str(), consumer.filter.as_str()), ("coordinator_runs_15", "fleet.run.15.>"));
        assert!(consumer.pinned.is_some_and(|pinned| pinned.group.len() <= 16));
    }
}
