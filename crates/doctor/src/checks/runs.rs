//! Runs that are alive: whether a coordinator follows them, and whether their timers fire.

use std::{collections::BTreeMap, time::Duration};

use broker::{
    due_time,
    topology::inspect::{self, ConsumerFacts},
};
use chrono::TimeDelta;
use protocol::{
    Subject,
    subject::filter,
    time::Timestamp,
    topology::{RUN_PARTITIONS, run_consumer},
};

use super::Found;
use crate::{
    Patient,
    finding::{Finding, counted},
    patient::Fact,
};

/// Looks until one sees who follows a partition, and how far they are apart: whoever does pulls again within a second, and
/// takes a partition over within two.
const LOOKS: u32 = 6;
const LOOKS_APART: Duration = Duration::from_secs(1);

/// Who was given something, or extended what he has, so lately follows.
const MOVED_WITHIN: TimeDelta = TimeDelta::seconds(3);

/// Timers that are read, at a time and in all, and those that are named.
const PAGE: usize = 256;
const TIMERS_MAX: usize = 1_000;
const NAMED_MAX: usize = 3;

/// How late a timer must be: the broker may be firing it.
const OVERDUE_BY: TimeDelta = TimeDelta::seconds(5);

/// Partitions with runs that nobody follows.
pub(super) async fn owners(patient: &Patient) -> Found {
    let mut unfollowed: BTreeMap<u8, u64> = BTreeMap::new();
    for partition in 0..RUN_PARTITIONS {
        let started = filter::runs_started_in(patient.namespace(), partition);
        let runs = patient.reader().count(&patient.names().runs, &started).await?;
        if runs > 0 {
            unfollowed.insert(partition, runs);
        }
    }
    for look in 0..LOOKS {
        if unfollowed.is_empty() {
            return Ok(Vec::new());
        }
        if look > 0 {
            tokio::time::sleep(LOOKS_APART).await;
        }
        let followed = followed(patient).await?;
        unfollowed.retain(|partition, _| !followed.contains(partition));
    }
    let runs: u64 = unfollowed.values().sum();
    let partitions: Vec<String> = unfollowed.keys().map(u8::to_string).collect();
    let seen =
        format!("{} alive that no coordinator follows, in partitions {}", counted(runs, "run"), partitions.join(", "));
    Ok((!unfollowed.is_empty())
        .then(|| {
            Finding::error(seen)
                .remedy("start a coordinator: it takes over what nobody has within seconds, and each run goes on where it was")
                .command("sortie process coordinator")
        })
        .into_iter()
        .collect())
}

async fn followed(patient: &Patient) -> Fact<Vec<u8>> {
    let now = patient.now().await?;
    let consumers = inspect::consumers(patient.connection(), &patient.names().runs).await?;
    let of = |partition: &u8| {
        let name = run_consumer(patient.namespace(), *partition).name;
        consumers.iter().find(|facts| facts.consumer.name == name)
    };
    Ok((0..RUN_PARTITIONS).filter(|partition| of(partition).is_some_and(|facts| is_followed(facts, now))).collect())
}

fn is_followed(facts: &ConsumerFacts, now: Timestamp) -> bool {
    facts.waiting > 0 || facts.last_active.is_some_and(|moved| now - moved < MOVED_WITHIN)
}

/// Timers that should have fired.
pub(super) async fn timers(patient: &Patient) -> Found {
    let (stream, filter) = (&patient.names().runs, filter::run_timers(patient.namespace()));
    let (mut late, mut named, mut read, mut from) = (0_u64, Vec::new(), 0, Some(1));
    while let Some(sequence) = from
        && read < patient.read_max(TIMERS_MAX)
    {
        let page = patient.reader().page(stream, &filter, sequence, PAGE).await?;
        let now = patient.now().await?;
        read += page.messages.len();
        for message in &page.messages {
            if due_time(&message.headers).is_some_and(|due| now - due > OVERDUE_BY) {
                late += 1;
                let run = match Subject::parse(patient.namespace(), &message.subject) {
                    Some(Subject::Timer { run, .. }) => Some(run.to_string()),
                    _ => None,
                };
                named.extend(run.filter(|_| named.len() < NAMED_MAX));
            }
        }
        from = page.next;
    }
    if late == 0 {
        return Ok(Vec::new());
    }
    let more = if late > named.len() as u64 { " and others" } else { "" };
    let seen = format!("{} overdue, of runs {}{more}", counted(late, "timer"), named.join(", "));
    Ok(vec![
        Finding::error(seen)
            .remedy("a coordinator publishes overdue timers again, each minute and at once when the store has room")
            .command("sortie process coordinator"),
    ])
}

#[cfg(test)]
mod tests {
    use protocol::{Namespace, time};

    use super::*;

    #[test]
    fn who_pulls_or_was_given_something_lately_follows() {
        let now = time::parse("2030-01-01T12:00:00Z").unwrap();
        let mut facts = ConsumerFacts {
            consumer: run_consumer(&Namespace::default(), 3),
            pending: 1,
            ack_pending: 0,
            redelivered: 0,
            waiting: 0,
            delivered: 0,
            ack_floor: 0,
            last_active: None,
            paused_until: None,
            is_in_memory: false,
        };
        assert!(!is_followed(&facts, now));
        facts.last_active = Some(now - TimeDelta::seconds(9));
        assert!(!is_followed(&facts, now));
        facts.last_active = Some(now - TimeDelta::seconds(1));
        assert!(is_followed(&facts, now));
        facts.last_active = None;
        facts.waiting = 1;
        assert!(is_followed(&facts, now));
    }
}
