//! Work that does not move.

use std::{collections::BTreeMap, time::Duration};

use chrono::TimeDelta;
use client::QueuesAsk;
use protocol::{
    Capability, Request, RequestId, Service,
    breaker::State,
    duration, event,
    registry::AgentEntry,
    service::{self, Attendance},
    subject::filter,
    time::{self, Timestamp},
    topology::Source,
};

use super::Found;
use crate::{
    Patient,
    finding::{Finding, counted},
    queue::Queue,
};

/// Schedules that are looked at.
const SCHEDULES_MAX: usize = 1_000;

/// Those that are overdue and counted.
const OVERDUE_MAX: usize = 1_000;

/// How late a schedule must be: the broker may be firing it.
const OVERDUE_BY: Duration = Duration::from_secs(5);

/// How long ago an agent may have gone to be named, and how many of them are looked at.
const LATELY: TimeDelta = TimeDelta::hours(1);
const GONE_MAX: usize = 500;

/// Messages of one queue that are read to name them.
const NAMED_MAX: usize = 3;

/// Work, and nobody who takes it. What is in hand counts as soon as it has not moved for as long as its deadline: its
/// agent hangs or is gone, also where its entry in the registry has run out since.
pub(super) async fn unserved(patient: &Patient) -> Found {
    let agents = patient.agents().await?;
    let queues = patient.queues().await?;
    let now = patient.now().await?;
    let service = |capability: &Capability| {
        let lanes = queues.iter().filter(|queue| queue.capability == *capability);
        let lanes: Vec<Attendance> = lanes.filter_map(Queue::attendance).collect();
        service::judge(capability, agents, &lanes, now)
    };
    let mut findings = Vec::new();
    for queue in queues {
        match service(&queue.capability) {
            Service::Served => {}
            Service::Paused => findings.extend(resting(queue)),
            Service::Unserved => {
                let Some(finding) = abandoned(queue, now) else { continue };
                let last = last_served(patient, &queue.capability, now).await;
                findings.push(match last {
                    Some(agent) => {
                        let AgentEntry { kind, instance, host, pid, .. } = agent;
                        let seen = format!("{}; {kind} {instance} did, process {pid} on {host}", finding.seen);
                        let remedy = finding.remedy.unwrap_or_default();
                        let remedy = format!(
                            "{remedy}. Where process {pid} still stands on {host}, it hangs: end it first (`kill -9 {pid}`)"
                        );
                        Finding { seen, remedy: Some(remedy), ..finding }
                    }
                    None => finding,
                });
            }
        }
    }
    Ok(findings)
}

/// Who served it last, as far as a coordinator told lately that it is gone: a process that hangs may still stand there.
async fn last_served(patient: &Patient, capability: &Capability, now: Timestamp) -> Option<AgentEntry> {
    let (stream, filter) = (&patient.names().events, filter::event(patient.namespace(), event::AGENT_GONE));
    let reader = patient.reader();
    let from = reader.first_since(stream, &filter, now - LATELY).await.ok()??;
    let page = reader.page(stream, &filter, from, GONE_MAX).await.ok()?;
    let last = |message: &broker::StoredMessage| {
        let told: serde_json::Value = serde_json::from_slice(&message.body).ok()?;
        serde_json::from_value::<AgentEntry>(told.get("last")?.clone()).ok()
    };
    page.messages.iter().rev().filter_map(last).find(|agent| agent.serves(capability))
}

fn abandoned(queue: &Queue, now: Timestamp) -> Option<Finding> {
    let (capability, waiting) = (&queue.capability, queue.undelivered());
    let attendance = queue.attendance().unwrap_or_default();
    let mut parts = Vec::new();
    if waiting > 0 {
        parts.push(format!("{} waiting", counted(waiting, "request")));
    }
    if attendance.in_hand > 0 {
        let heard = attendance.last_moved.and_then(|moved| (now - moved).to_std().ok());
        let heard = heard.map_or_else(
            || "not heard of since the broker began".to_owned(),
            |since| format!("last seen {} ago", duration::format(Duration::from_secs(since.as_secs()))),
        );
        parts.push(format!("{} in the hands of agents that are gone, {heard}", counted(attendance.in_hand, "request")));
    }
    (!parts.is_empty()).then(|| {
        Finding::error(format!("{}: {}: nobody serves it", queue.name(), parts.join(", ")))
            .about(capability)
            .remedy(format!(
                "start an agent that serves {capability}: `sortie process agent-exec FILE` or `sortie process agent-http \
                 FILE` with its definition, or the program that did; it is given all of that at once. If nobody ever will, \
                 as the name is a mistake: `sortie cancel --capability {capability}` gives it up"
            ))
    })
}

/// Somebody paused every agent that serves it.
fn resting(queue: &Queue) -> Option<Finding> {
    let (capability, waiting) = (&queue.capability, queue.undelivered());
    (waiting > 0).then(|| {
        let waiting = counted(waiting, "request");
        Finding::warning(format!("{}: {waiting} waiting, and every agent that serves it is paused", queue.name()))
            .about(capability)
            .remedy("let them go on, when what they were paused for is over")
            .command(format!("sortie agents resume --capability {capability}"))
    })
}

/// A pause is no fault, but work that waits behind one is told, with who wanted it. What a circuit breaker pauses is told
/// with the breaker.
pub(super) async fn paused(patient: &Patient) -> Found {
    let ask = QueuesAsk { rates_over: None, schedules_max: 0, ..QueuesAsk::default() };
    let found = patient.client().queues(&ask).await?;
    let breakers = patient.client().breakers().await?;
    let is_broken = |capability: &Capability| {
        breakers.iter().any(|one| one.now != State::Closed && one.breaker.pauses.contains(capability))
    };
    let waits = |queue: &&client::Queue| queue.waiting > 0 && !is_broken(&queue.capability);
    Ok(found.queues.iter().filter(waits).filter_map(|queue| Some(behind(queue, queue.paused.as_ref()?))).collect())
}

fn behind(queue: &client::Queue, pause: &client::Pause) -> Finding {
    let by = pause.by.as_ref().map_or_else(|| "by hand, past Sortie".to_owned(), |by| format!("by {by}"));
    let since = pause.at.map_or_else(String::new, |at| format!(" since {}", time::format(at)));
    let until = pause.until.map_or_else(String::new, |until| format!(" until {}", time::format(until)));
    let reason = pause.reason.as_ref().map_or_else(String::new, |reason| format!(" ({reason})"));
    let waiting = counted(queue.waiting, "request");
    Finding::warning(format!("{} is paused {by}{since}{until}{reason}, with {waiting} waiting", queue.capability))
        .about(&queue.capability)
        .remedy("let it go on, when what it was paused for is over; a coordinator carries it out")
        .command(format!("sortie queues resume {}", queue.capability))
}

/// Messages that reached `max_deliver`: they are in the stream, and no consumer counts them. A moment may look so, hence
/// two looks.
pub(super) async fn given_up(patient: &Patient) -> Found {
    if patient.queues().await?.iter().all(|queue| given_up_for_good(queue) == 0) {
        return Ok(Vec::new());
    }
    let before = patient.queues().await?;
    let mut findings = Vec::new();
    for queue in patient.queues_again().await? {
        let same = before.iter().find(|one| (&one.capability, one.source) == (&queue.capability, queue.source));
        let count = same.map_or(0, given_up_for_good).min(given_up_for_good(queue));
        if count == 0 {
            continue;
        }
        let named: Vec<String> = named(patient, queue).await.into_iter().map(|id| id.to_string()).collect();
        let seen = format!(
            "{}: {} delivered too often, and never again: {}",
            queue.name(),
            counted(count, "request"),
            named.join(", ")
        );
        findings.push(
            Finding::error(seen)
                .about(&queue.capability)
                .remedy("a coordinator makes dead letters of them within a minute, from where they can be replayed")
                .command("sortie process coordinator"),
        );
    }
    Ok(findings)
}

/// Unique work has no bound of deliveries.
fn given_up_for_good(queue: &Queue) -> u64 {
    let has_bound = queue.consumer.as_ref().is_some_and(|consumer| consumer.consumer.max_deliver.is_some());
    if has_bound { queue.given_up() } else { 0 }
}

/// The first of them. Given up lies at or below the floor, or, where nothing is in hands, the last delivery.
async fn named(patient: &Patient, queue: &Queue) -> Vec<RequestId> {
    let Some(consumer) = &queue.consumer else { return Vec::new() };
    let through = match consumer.ack_pending {
        0 => consumer.delivered.max(consumer.ack_floor),
        _ => consumer.ack_floor,
    };
    let wanted = &consumer.consumer;
    let page = patient.reader().page(&wanted.stream, &wanted.filter, 1, NAMED_MAX).await;
    let messages = page.map(|page| page.messages).unwrap_or_default();
    let id = |message: &broker::StoredMessage| {
        let own = match queue.source {
            Source::Lane(_) => RequestId::of_sequence(message.sequence),
            Source::Unique => RequestId::of_unique_sequence(message.sequence),
        };
        Request::read(&message.headers, own.clone()).map_or(own, |request| request.id)
    };
    messages.iter().filter(|message| message.sequence <= through).map(id).collect()
}

/// The broker forgets a schedule whose firing failed once.
pub(super) async fn overdue(patient: &Patient) -> Found {
    let now = patient.now().await?;
    let waiting = patient.client().overdue(OVERDUE_BY, patient.read_max(SCHEDULES_MAX), OVERDUE_MAX).await?;
    let mut late: BTreeMap<Option<&Capability>, Vec<(&RequestId, Duration)>> = BTreeMap::new();
    for schedule in &waiting {
        let by = schedule.due.and_then(|due| (now - due).to_std().ok()).unwrap_or_default();
        late.entry(schedule.capability.as_ref()).or_default().push((&schedule.id, by));
    }
    if late.is_empty() {
        return Ok(Vec::new());
    }
    let is_coordinated = super::coordinator::is_running(patient).await?;
    Ok(late.into_iter().map(|(capability, late)| overdue_of(capability, &late, is_coordinated)).collect())
}

/// One cause keeps them all, so they are one finding.
fn overdue_of(capability: Option<&Capability>, late: &[(&RequestId, Duration)], is_coordinated: bool) -> Finding {
    let named: Vec<&str> = late.iter().take(NAMED_MAX).map(|(id, _)| id.as_str()).collect();
    let more = if late.len() > NAMED_MAX { " and others" } else { "" };
    let longest = late.iter().map(|(_, by)| by.as_secs()).max().unwrap_or_default();
    let longest = duration::format(Duration::from_secs(longest));
    let what = capability.map_or_else(|| "what has no target".to_owned(), ToString::to_string);
    let seen = match late {
        [_] => format!("1 request should have been tried {longest} ago, and its schedule has not fired"),
        _ => format!(
            "{} requests should have been tried up to {longest} ago, and their schedules have not fired",
            late.len()
        ),
    };
    let finding = Finding::error(format!("{what}: {seen}: {}{more}", named.join(", ")));
    let finding = match capability {
        Some(capability) => finding.about(capability),
        None => finding,
    };
    if is_coordinated {
        return finding.remedy(
            "the coordinator that runs publishes them again, each minute and at once when the store has room: what keeps them is \
             told by the other checks, store and streams first",
        );
    }
    finding
        .remedy("a coordinator publishes overdue schedules again, each minute and at once when the store has room")
        .command("sortie process coordinator")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_overdue_for_one_cause_is_one_finding() {
        let ids: Vec<RequestId> = (0..20).map(|n| RequestId::parse(&format!("r{n}")).unwrap()).collect();
        let late: Vec<_> = ids.iter().zip(1..).map(|(id, second)| (id, Duration::from_secs(second))).collect();
        let pay = Capability::parse("pay").unwrap();
        let found = overdue_of(Some(&pay), &late, false);
        assert_eq!(found.command.as_deref(), Some("sortie process coordinator"));
        assert_eq!(overdue_of(Some(&pay), &late, true).command, None);
        assert_eq!(found.about.as_deref(), Some("pay"));
        assert_eq!(
            found.seen,
            "pay: 20 requests should have been tried up to 20s ago, and their schedules have not fired: r0, r1, r2 and others"
        );
        let one = overdue_of(Some(&pay), &late[..1], false);
        assert!(one.seen.ends_with("its schedule has not fired: r0"), "{}", one.seen);
    }
}
