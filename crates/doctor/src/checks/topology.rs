//! What differs from the topology table.

use protocol::{
    Namespace, duration,
    topology::{self, Drift, Settings, Shortened, drift_of_consumer, drift_of_stream, shortened, worker_consumer},
};

use super::Found;
use crate::{Patient, finding::Finding, queue::Queue};

/// Differences that break no promise.
pub(super) async fn drift(patient: &Patient) -> Found {
    patient.is_sighted().await?;
    let drifts = drifts(patient).await.into_iter().filter(|drift| !drift.breaks_promise);
    let finding = |drift: Drift| match drift.stops_lookups() {
        true => Finding::error(format!("{}: nothing that it holds can be looked up", told(&drift))),
        false => Finding::warning(told(&drift)),
    };
    Ok(drifts.map(|drift| mended(finding(drift.clone()), &drift)).collect())
}

/// A limit where nothing acknowledged may be deleted makes room by deleting it.
pub(super) async fn limits(patient: &Patient) -> Found {
    patient.is_sighted().await?;
    let drifts = drifts(patient).await.into_iter().filter(|drift| drift.breaks_promise);
    let finding = |drift: Drift| {
        let seen = format!("{}: what was acknowledged may be deleted or lost", told(&drift));
        mended(Finding::error(seen), &drift)
    };
    Ok(drifts.map(finding).collect())
}

fn told(drift: &Drift) -> String {
    format!("{}: {drift}", drift.of)
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
    let drifted = queues.iter().filter_map(|queue| drifted(patient.namespace(), &settings, queue));
    let in_memory = queues.iter().filter_map(|queue| super::consumers::in_memory(queue.consumer.as_ref()?));
    Ok(drifted.chain(in_memory).collect())
}

fn drifted(namespace: &Namespace, settings: &Settings, queue: &Queue) -> Option<Finding> {
    let found = &queue.consumer.as_ref()?.consumer;
    let expected = worker_consumer(namespace, &queue.capability, queue.source, settings.replicas);
    let drifts = drift_of_consumer(&expected, found);
    let of = format!("{}/{}", found.stream, found.name);
    let fields: Vec<String> = drifts.iter().map(Drift::to_string).collect();
    (!fields.is_empty()).then(|| {
        let seen = format!("{of}: {}; no worker of {} starts beside it", fields.join(", "), queue.capability);
        let finding = Finding::error(seen).about(of);
        match drifts.iter().any(Drift::needs_new_consumer) {
            true => finding
                .remedy(
                    "make it anew; no message is lost, and pauses and limits stay, but what is in hand is delivered again: \
                     attempts that run now may run twice",
                )
                .command("sortie topology apply --recreate"),
            false => finding
                .remedy("set it back in place; its messages, and what is in hand, stay as they are")
                .command("sortie topology apply"),
        }
    })
}

/// How long things are kept is the operator's to choose, so it is no drift; what less than usual costs is told.
pub(super) async fn retention(patient: &Patient) -> Found {
    patient.is_sighted().await?;
    let shortened = shortened(patient.namespace(), &patient.settings().await);
    let finding = |short: Shortened| {
        Finding::warning(short.to_string())
            .about(&short.stream)
            .remedy("keep it for as long as usual, unless it is meant so: what is gone already does not come back")
            .command(short.command)
    };
    if shortened.is_empty() {
        return Ok(vec![Finding::ok(kept(&patient.settings().await))]);
    }
    Ok(shortened.into_iter().map(finding).collect())
}

/// `kept: outcomes 1d, dead letters 30d, …`.
fn kept(settings: &Settings) -> String {
    let all = [
        ("outcomes", settings.outcomes_kept),
        ("dead letters", settings.dead_kept),
        ("events", settings.events_kept),
        ("log lines", settings.logs_kept),
        ("the audit trail", settings.audit_kept),
    ];
    let told = all.map(|(what, kept)| format!("{what} {}", duration::format(kept)));
    format!("kept: {}", told.join(", "))
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
        let finding = of(facts.clone()).unwrap();
        let fields = "ack_wait is 1s, not 10s, max_deliver is 2, not 100";
        assert!(finding.seen.contains(fields), "{}", finding.seen);
        assert_eq!(finding.command.as_deref(), Some("sortie topology apply"));
        facts.consumer.max_waiting = 512;
        assert_eq!(of(facts).unwrap().command.as_deref(), Some("sortie topology apply --recreate"));
    }
}
