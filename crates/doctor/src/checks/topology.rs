//! What differs from the topology table.

use protocol::{
    Namespace,
    topology::{self, Drift, Settings, drift_of_consumer, drift_of_stream, worker_consumer},
};

use super::Found;
use crate::{Patient, finding::Finding, queue::Queue};

/// Differences that break no promise.
pub(super) async fn drift(patient: &Patient) -> Found {
    let drifts = drifts(patient).await.into_iter().filter(|drift| !drift.breaks_promise);
    Ok(drifts.map(|drift| mended(Finding::warning(told(&drift)), &drift)).collect())
}

/// A limit where nothing acknowledged may be deleted makes room by deleting it.
pub(super) async fn limits(patient: &Patient) -> Found {
    let drifts = drifts(patient).await.into_iter().filter(|drift| drift.breaks_promise);
    let finding = |drift: Drift| {
        let seen = format!("{}: what was acknowledged may be deleted or lost", told(&drift));
        mended(Finding::error(seen), &drift)
    };
    Ok(drifts.map(finding).collect())
}

fn told(drift: &Drift) -> String {
    format!("{} has {} {}, not {}", drift.of, drift.field, drift.found, drift.expected)
}

fn mended(finding: Finding, drift: &Drift) -> Finding {
    finding
        .about(&drift.of)
        .remedy("set it back in place; messages that are there stay")
        .command("sortie topology apply")
}

async fn drifts(patient: &Patient) -> Vec<Drift> {
    let settings = patient.settings().await;
    let mut drifts = Vec::new();
    for expected in topology::streams(patient.namespace(), &settings) {
        if let Ok(facts) = patient.stream(&expected.name).await {
            drifts.extend(drift_of_stream(&expected, &facts.stream));
        }
    }
    drifts
}

/// Workers refuse to start beside a consumer that differs.
pub(super) async fn consumers(patient: &Patient) -> Found {
    let settings = patient.settings().await;
    let queues = patient.queues().await?;
    Ok(queues.iter().filter_map(|queue| drifted(patient.namespace(), &settings, queue)).collect())
}

fn drifted(namespace: &Namespace, settings: &Settings, queue: &Queue) -> Option<Finding> {
    let found = &queue.consumer.as_ref()?.consumer;
    let expected = worker_consumer(namespace, &queue.capability, queue.source, settings.replicas);
    let drifts = drift_of_consumer(&expected, found);
    let of = format!("{}/{}", found.stream, found.name);
    let fields: Vec<String> =
        drifts.iter().map(|drift| format!("{} {}, not {}", drift.field, drift.found, drift.expected)).collect();
    (!fields.is_empty()).then(|| {
        Finding::error(format!("{of} has {}: no worker of {} starts", fields.join(", "), queue.capability))
            .about(of)
            .remedy(format!(
                "remove it with `nats consumer rm {} {}` (its messages stay); the next worker makes it again",
                found.stream, found.name
            ))
            .command(format!("sortie topology check --capability {}", queue.capability))
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use protocol::{Lane, topology::Source};

    use super::*;
    use crate::queue::tests::{consumer, queue};

    #[test]
    fn a_consumer_that_differs_is_told_with_all_that_differs() {
        let mut facts = consumer("echo", Source::Lane(Lane::Normal), 0, 0, 0);
        let of = |facts| drifted(&Namespace::default(), &Settings::default(), &queue("echo", 0, Some(facts)));
        facts.consumer.max_ack_pending = 3;
        assert_eq!(of(facts.clone()), None, "it belongs to operators");
        facts.consumer.ack_wait = Duration::from_secs(1);
        facts.consumer.max_deliver = Some(2);
        let finding = of(facts).unwrap();
        assert!(finding.seen.contains("ack_wait 1s, not 10s, max_deliver Some(2), not Some(100)"), "{}", finding.seen);
    }
}
