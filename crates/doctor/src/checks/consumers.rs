//! What consumers deliver, against what workers can run.

use std::collections::{BTreeMap, BTreeSet};

use broker::topology::inspect::ConsumerFacts;
use client::Suspect;
use protocol::{
    Capability, InstanceId, Namespace, Subject, duration,
    registry::{AgentEntry, State},
    topology::{self, Source},
};

use super::Found;
use crate::{
    Patient,
    finding::{Finding, counted},
    queue::Queue,
};

/// A message that is delivered again while it still runs is done twice. Our own workers extend the deadline while they
/// run; one in another language that does not is seen by its redeliveries.
pub(super) async fn ack_deadline(patient: &Patient) -> Found {
    let (needed, every) = topology::ack_deadline(patient.settings().await.replicas);
    let now = patient.now().await?;
    let suspects = patient.client().suspects().await?;
    let alive: BTreeSet<&InstanceId> = patient.agents().await?.iter().map(|agent| &agent.instance).collect();
    let mut findings = Vec::new();
    for queue in patient.queues().await? {
        let Some(consumer) = &queue.consumer else { continue };
        let deadline = consumer.consumer.ack_wait;
        if deadline < needed {
            let seen = format!(
                "{}: the ack deadline is {}, and workers extend it every {}; below {} a lost extension starts live work twice",
                queue.name(),
                duration::format(deadline),
                duration::format(every),
                duration::format(needed),
            );
            findings.push(
                Finding::error(seen)
                    .about(queue.name())
                    .remedy("set it back in place; its messages, and what is in hand, stay as they are")
                    .command("sortie topology apply"),
            );
        }
        // Unique work waits for its retry in hand: it is delivered again by design.
        // What nobody has any more does not run: whether somebody should have it is another check's.
        let is_held = consumer.attendance().is_held(now);
        let redelivered =
            consumer.redelivered.saturating_sub(in_living_hands(patient.namespace(), &suspects, &alive, queue));
        if redelivered > 0 && is_held && queue.source != Source::Unique {
            let idle = consumer.last_active.and_then(|at| (now - at).to_std().ok()).unwrap_or_default();
            let seen = format!(
                "{}: {} in hands delivered before, the last {} ago: workers died, or one runs longer than the \
                 deadline of {} without extending it",
                queue.name(),
                counted(redelivered, "message"),
                duration::format(std::time::Duration::from_secs(idle.as_secs())),
                duration::format(deadline),
            );
            findings.push(Finding::warning(seen).about(queue.name()).remedy(
                "nothing need be done where workers died: whoever is left does it again; a worker in another \
                         language must extend by `+WPI` on the reply subject, or have less to do in one request",
            ));
        }
    }
    Ok(findings)
}

/// What was delivered again to an agent of ours that lives: whoever had it before died, and that is over. Our agents mark
/// what comes again before they run it, and extend its deadline for as long as it runs.
fn in_living_hands(namespace: &Namespace, suspects: &[Suspect], alive: &BTreeSet<&InstanceId>, queue: &Queue) -> u64 {
    let is_it = |suspect: &&Suspect| {
        let is_taken = suspect.takers.last().is_some_and(|taker| alive.contains(taker));
        let of = match Subject::parse(namespace, &suspect.subject) {
            Some(Subject::Request { lane, capability }) => Some((capability, Source::Lane(lane))),
            Some(Subject::Unique { capability, .. }) => Some((capability, Source::Unique)),
            _ => None,
        };
        is_taken && of.is_some_and(|(capability, source)| (&capability, source) == (&queue.capability, queue.source))
    };
    suspects.iter().filter(is_it).count() as u64
}

/// One whose file the server could not read when it was made: where it stands goes with the server, nothing else.
pub(super) fn in_memory(facts: &ConsumerFacts) -> Option<Finding> {
    let (stream, name) = (&facts.consumer.stream, &facts.consumer.name);
    facts.is_in_memory.then(|| {
        let seen = format!(
            "{stream}/{name} is kept in the server's memory, because its file there was torn, as by a loss of power: no message is \
             lost, but with the server it forgets how often each was delivered"
        );
        let remedy = format!(
            "delete the folder streams/{stream}/obs/{name} in the server's store, then the consumer: whoever follows it makes it \
             anew; what is in hand is delivered again"
        );
        Finding::warning(seen).about(format!("{stream}/{name}")).remedy(remedy).command(format!("nats consumer rm {stream} {name} -f"))
    })
}

/// Slots that the consumer's bound leaves idle, and messages that a client takes without having slots for them.
pub(super) async fn in_flight(patient: &Patient) -> Found {
    let agents = patient.agents().await?;
    let mut held: BTreeMap<&Capability, u64> = BTreeMap::new();
    let mut findings = Vec::new();
    for queue in patient.queues().await? {
        let Some(consumer) = &queue.consumer else { continue };
        *held.entry(&queue.capability).or_default() += consumer.ack_pending;
        findings.extend(bound_below_slots(queue, slots(agents, &queue.capability)));
    }
    for (capability, in_hands) in held {
        let slots = slots(agents, capability);
        // What was just delivered to one that died counts too, so this is no error.
        if slots > 0 && in_hands > 2 * slots {
            let seen = format!("{capability}: {in_hands} messages are in hands, and its agents have {slots} slots");
            findings.push(Finding::warning(seen).about(capability).remedy(
                "a client fetches more than it runs: the deadline of what lies in its buffer passes; have it pull no more \
                 than it has free slots",
            ));
        }
    }
    Ok(findings)
}

/// A bound that an operator set is no mistake, but it is told: it is why slots stand idle.
fn bound_below_slots(queue: &Queue, slots: u64) -> Option<Finding> {
    let consumer = queue.consumer.as_ref()?;
    let bound = u64::try_from(consumer.consumer.max_ack_pending).ok().filter(|bound| *bound > 0)?;
    let is_reached = consumer.ack_pending >= bound && consumer.pending > 0;
    (slots > bound || is_reached).then(|| {
        let seen = format!(
            "{}: {} of {bound} in hands at most, {} wait, and its agents have {slots} slots",
            queue.name(),
            consumer.ack_pending,
            consumer.pending
        );
        let finding = if is_reached { Finding::warning(seen) } else { Finding::ok(seen) };
        finding
            .about(queue.name())
            .remedy("raise the limit, unless it is meant so")
            .command(format!("sortie queues limit {} none", queue.capability))
    })
}

/// Attempts of a capability that its agents can run at once.
fn slots(agents: &[AgentEntry], capability: &Capability) -> u64 {
    let takes = agents.iter().filter(|agent| agent.state == State::Ready);
    let of = |agent: &AgentEntry| {
        let served = agent.capabilities.iter().find(|served| served.name == *capability)?;
        Some(served.slots.map_or(agent.slots, |own| own.min(agent.slots)) as u64)
    };
    takes.filter_map(of).sum()
}

#[cfg(test)]
mod tests {
    use protocol::Lane;

    use super::*;
    use crate::{
        Severity,
        queue::tests::{consumer, queue},
    };

    #[test]
    fn what_a_living_agent_took_again_accuses_nobody() {
        let [living, dead] = ["ins_1", "ins_2"].map(|name| InstanceId::parse(name).unwrap());
        let suspect = |subject: &str, takers: &[&InstanceId]| Suspect {
            id: protocol::RequestId::parse("order-1").unwrap(),
            subject: subject.to_owned(),
            takers: takers.iter().map(|taker| (*taker).clone()).collect(),
            began_with_a_death: true,
        };
        let suspects = [
            suspect("fleet.request.echo", &[&living]),
            suspect("fleet.request.echo", &[&dead, &living]),
            suspect("fleet.request.echo", &[&living, &dead]),
            suspect("fleet.request.echo.bulk", &[&living]),
            suspect("fleet.request.other", &[&living]),
        ];
        let count = |alive: &[&InstanceId]| {
            let alive = alive.iter().copied().collect();
            in_living_hands(&Namespace::default(), &suspects, &alive, &queue("echo", 3, None))
        };
        assert_eq!((count(&[&living]), count(&[]), count(&[&living, &dead])), (2, 0, 3));
    }

    #[test]
    fn a_bound_is_told_where_slots_stand_idle_and_warned_of_where_work_waits() {
        for (bound, in_hands, waiting, slots, severity) in [
            (10_000, 4, 9, 40, None),
            (3, 1, 0, 40, Some(Severity::Ok)),
            (3, 3, 9, 40, Some(Severity::Warning)),
            (50, 50, 9, 40, Some(Severity::Warning)),
            (-1, 4, 9, 40, None),
        ] {
            let mut facts = consumer("echo", Source::Lane(Lane::Normal), waiting, in_hands, 0);
            facts.consumer.max_ack_pending = bound;
            let found = bound_below_slots(&queue("echo", waiting + in_hands, Some(facts)), slots);
            assert_eq!(found.map(|finding| finding.severity), severity, "{bound} {in_hands}");
        }
    }
}
