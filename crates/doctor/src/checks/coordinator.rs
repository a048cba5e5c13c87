//! Whether anybody does the duties that nobody else has, and whether the broker delivers what they are done with.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use broker::{
    Kind,
    topology::{
        consumer_state,
        inspect::{self, ConsumerFacts},
    },
};
use protocol::{
    time,
    topology::{Drift, Shared, drift_of_consumer, shared_by_coordinators},
};

use super::Found;
use crate::{
    Patient,
    finding::{Finding, counted},
    patient::Fact,
};

/// Whether one runs: whether anybody holds a duty.
pub(super) async fn is_running(patient: &Patient) -> Fact<bool> {
    Ok(!holders(patient).await?.is_empty())
}

/// How long a coordinator that is well takes to make what is missing.
const MADE_WITHIN: Duration = Duration::from_secs(5);

/// Who holds the leases, and how many.
async fn holders(patient: &Patient) -> Fact<BTreeMap<String, usize>> {
    let leases = patient.bucket(&patient.names().locks).list("coordinator.>").await?;
    let mut holders: BTreeMap<String, usize> = BTreeMap::new();
    for owner in leases.iter().filter_map(|entry| entry.value.as_deref()) {
        *holders.entry(String::from_utf8_lossy(owner).into_owned()).or_default() += 1;
    }
    Ok(holders)
}

pub(super) async fn coordinator(patient: &Patient) -> Found {
    let holders = holders(patient).await?;
    if holders.is_empty() {
        return Ok(vec![
            Finding::error(
                "no coordinator runs: what nobody serves does not expire, overdue schedules and what the broker gave up stay",
            )
            .remedy("start one; more than one may run, on any machine")
            .command("sortie process coordinator"),
        ]);
    }
    let told: Vec<String> =
        holders.iter().map(|(owner, count)| format!("{owner} has {}", counted(*count, "lease"))).collect();
    Ok(vec![Finding::ok(told.join(", "))])
}

/// The consumers that coordinators share. One that is paused, missing or different stops a duty that everybody takes for
/// done.
pub(super) async fn consumers(patient: &Patient) -> Found {
    let wanted = shared_by_coordinators(patient.namespace());
    let streams: BTreeSet<&String> = wanted.iter().map(|shared| &shared.consumer.stream).collect();
    let mut there: BTreeMap<(String, String), ConsumerFacts> = BTreeMap::new();
    for stream in streams {
        let found = inspect::consumers(patient.connection(), stream).await?;
        there.extend(
            found.into_iter().map(|facts| ((facts.consumer.stream.clone(), facts.consumer.name.clone()), facts)),
        );
    }
    let of = |shared: &Shared| there.get(&(shared.consumer.stream.clone(), shared.consumer.name.clone()));
    let mut findings: Vec<Finding> = Vec::new();
    for shared in &wanted {
        let Some(facts) = of(shared) else { continue };
        findings.extend(paused(shared, facts));
        findings.extend(different(shared, facts));
        findings.extend(super::consumers::in_memory(facts));
    }
    let absent: Vec<&Shared> = wanted.iter().filter(|shared| shared.is_always_there && of(shared).is_none()).collect();
    if !absent.is_empty() && !holders(patient).await?.is_empty() {
        // One that just starts makes them, and so does one that has just lost them.
        tokio::time::sleep(MADE_WITHIN).await;
        for shared in absent {
            let (stream, name) = (&shared.consumer.stream, &shared.consumer.name);
            match consumer_state(patient.connection(), stream, name).await {
                Err(error) if error.kind() == Kind::NotFound => findings.push(missing(shared)),
                // The list leaves out whose leader does not answer.
                _ => {}
            }
        }
    }
    Ok(findings)
}

fn name(shared: &Shared) -> String {
    format!("{}/{}", shared.consumer.stream, shared.consumer.name)
}

fn paused(shared: &Shared, facts: &ConsumerFacts) -> Option<Finding> {
    let until = facts.paused_until?;
    let seen = format!(
        "{}, a consumer of coordinators, is paused until {}, with {} undelivered: {} wait",
        name(shared),
        time::format(until),
        counted(facts.pending, "message"),
        shared.brings
    );
    let finding = Finding::error(seen).about(name(shared));
    Some(finding.remedy("take the pause off: nobody needs this one to wait").command("sortie topology apply"))
}

fn different(shared: &Shared, facts: &ConsumerFacts) -> Option<Finding> {
    let drifts = drift_of_consumer(&shared.consumer, &facts.consumer);
    let fields: Vec<String> = drifts.iter().map(Drift::to_string).collect();
    (!fields.is_empty()).then(|| {
        let seen = format!(
            "{}: {}; no coordinator that starts follows it, and what may be lost or late: {}",
            name(shared),
            fields.join(", "),
            shared.brings
        );
        let finding = Finding::error(seen).about(name(shared));
        match drifts.iter().any(Drift::needs_new_consumer) {
            true => finding.remedy("make it anew; no message is lost").command("sortie topology apply --recreate"),
            false => finding.remedy("set it back in place; its messages stay").command("sortie topology apply"),
        }
    })
}

fn missing(shared: &Shared) -> Finding {
    let seen = format!(
        "{}, a consumer of coordinators, is not there, and the coordinator that runs does not make it: {} wait",
        name(shared),
        shared.brings
    );
    Finding::error(seen)
        .about(name(shared))
        .remedy("make it, and if it does not stay, look at the coordinator's logs for why it may not make consumers")
        .command("sortie topology apply")
}

#[cfg(test)]
mod tests {
    use protocol::Namespace;

    use super::*;

    #[test]
    fn each_fault_of_a_shared_consumer_is_an_error_with_what_waits() {
        let shared = shared_by_coordinators(&Namespace::default()).remove(0);
        let mut facts = ConsumerFacts {
            consumer: shared.consumer.clone(),
            pending: 8,
            ack_pending: 0,
            redelivered: 0,
            waiting: 0,
            delivered: 0,
            ack_floor: 0,
            last_active: None,
            paused_until: None,
            is_in_memory: false,
        };
        assert_eq!((paused(&shared, &facts), different(&shared, &facts)), (None, None));
        facts.paused_until = Some(time::now());
        let told = paused(&shared, &facts).unwrap();
        assert!(told.seen.contains("with 8 messages undelivered: firings of recurring requests"), "{}", told.seen);
        facts.consumer.max_deliver = Some(2);
        let told = different(&shared, &facts).unwrap();
        assert!(told.seen.contains("max_deliver is 2, not none"), "{}", told.seen);
        assert_eq!(told.command.as_deref(), Some("sortie topology apply"));
        facts.consumer.max_waiting = 1;
        let told = different(&shared, &facts).unwrap();
        assert_eq!(told.command.as_deref(), Some("sortie topology apply --recreate"));
        assert!(missing(&shared).seen.contains("coordinator_fires"), "{:?}", missing(&shared));
    }
}
