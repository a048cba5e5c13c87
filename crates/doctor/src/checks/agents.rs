//! The agents: how they feel, whether they answer, and whether they take work.

use std::time::Duration;

use broker::Kind;
use futures_util::{StreamExt, stream};
use protocol::{
    Subject,
    registry::{AgentEntry, Health, State},
    subject::Verb,
};

use super::Found;
use crate::{
    Patient,
    finding::{Finding, counted},
    patient::Unknown,
    queue::Queue,
};

/// How long an agent may take to answer: it answers from a thread that handlers cannot hold.
const ANSWERED_WITHIN: Duration = Duration::from_secs(2);

/// Agents that are asked at once.
const ASKED_AT_ONCE: usize = 64;

pub(super) async fn health(patient: &Patient) -> Found {
    let agents = patient.agents().await?;
    let mut findings: Vec<Finding> = agents.iter().filter_map(unwell).collect();
    if agents.is_empty() {
        findings.push(Finding::ok("no agent is registered"));
    } else if findings.is_empty() {
        findings.push(Finding::ok(format!("{}, healthy", counted(agents.len(), "agent"))));
    }
    Ok(findings)
}

fn unwell(agent: &AgentEntry) -> Option<Finding> {
    let reason = agent.health_reason.as_deref().unwrap_or("it does not say why");
    let name = named(agent);
    let finding = match (agent.state, agent.health) {
        (State::Failed, _) => Finding::error(format!("{name} has failed: {reason}")),
        (State::Stopped, _) => return None,
        (_, Health::Unhealthy) => {
            return Some(
                Finding::error(format!("{name} is unhealthy: {reason}"))
                    .about(&agent.instance)
                    .remedy(
                        "mend what it names: where the broker refuses it something, give its user what agents need \
                         (nats-config/dev.conf); what it could not store comes again, and restart it if it stays so",
                    )
                    .command(format!("sortie agents restart {}", agent.instance)),
            );
        }
        (_, Health::Degraded) => Finding::warning(format!("{name} is degraded: {reason}")),
        _ => return None,
    };
    Some(restarted(finding, agent))
}

/// An agent that stands still keeps its connection for a while, and its entry as long as that is kept.
pub(super) async fn answering(patient: &Patient) -> Found {
    let is_there = |agent: &&AgentEntry| !matches!(agent.state, State::Stopped | State::Failed);
    let agents: Vec<AgentEntry> = patient.agents().await?.iter().filter(is_there).cloned().collect();
    let asked = agents.into_iter().map(|agent| silence(patient, agent));
    let answers: Vec<_> = stream::iter(asked).buffered(ASKED_AT_ONCE).collect().await;
    let mut findings = Vec::new();
    for (agent, silence) in answers {
        let Some(error) = silence else { continue };
        let name = named(&agent);
        findings.push(match error.kind() {
            Kind::Forbidden => return Err(Unknown::from(error)),
            // The broker says the same of one that is gone and of one that is not allowed to listen.
            Kind::NoResponders => {
                let control = Subject::Control { instance: Some(agent.instance.clone()), verb: Verb::Inspect };
                Finding::warning(format!(
                    "{name} is registered, and hears nothing: it is not connected, or its user may not subscribe to {}",
                    control.render(patient.namespace())
                ))
                .about(&agent.instance)
                .remedy(
                    "if it died, or lost its connection, within the last half minute: start it again, if nobody else serves \
                     the same; what it had in hand comes back by itself. If it works all the same: give its user what agents \
                     subscribe to (nats-config/dev.conf), for until then it hears no pause, cancel or restart",
                )
            }
            _ => Finding::error(format!("{name} is connected and does not answer: it hangs"))
                .about(&agent.instance)
                .remedy(format!(
                    "who hangs hears no restart: end process {pid} on {} (`kill -9 {pid}`) and start it again; what it had \
                     in hand comes back by itself",
                    agent.host,
                    pid = agent.pid
                )),
        });
    }
    Ok(findings)
}

/// Why an agent does not answer, if it does not.
async fn silence(patient: &Patient, agent: AgentEntry) -> (AgentEntry, Option<broker::Error>) {
    let subject = Subject::Control { instance: Some(agent.instance.clone()), verb: Verb::Inspect };
    let subject = subject.render(patient.namespace());
    let answer = patient.connection().request(subject, None, Default::default(), ANSWERED_WITHIN).await;
    (agent, answer.err())
}

/// Registered as ready, with free slots, for a capability that has work: and nobody pulls, in two looks.
pub(super) async fn consuming(patient: &Patient) -> Found {
    let agents = patient.agents().await?;
    let before = patient.queues().await?;
    if !before.iter().any(is_left) {
        return Ok(Vec::new());
    }
    let mut findings = Vec::new();
    for queue in patient.queues_again().await?.iter().filter(|queue| is_left(queue)) {
        let is_same = |one: &&Queue| (&one.capability, one.source) == (&queue.capability, queue.source);
        let Some(first) = before.iter().find(is_same).filter(|first| is_left(first)) else { continue };
        if delivered(first) != delivered(queue) {
            continue;
        }
        for agent in agents.iter().filter(|agent| has_room_for(agent, queue)) {
            let seen = format!(
                "{} is ready, with {} of {} slots free, and does not pull: {} of {} waiting",
                named(agent),
                agent.slots - agent.slots_busy.min(agent.slots),
                agent.slots,
                counted(queue.undelivered(), "request"),
                queue.name(),
            );
            findings.push(restarted(Finding::error(seen), agent));
        }
    }
    Ok(findings)
}

/// Work that could be delivered, and no pull that waits for it.
fn is_left(queue: &Queue) -> bool {
    let Some(consumer) = &queue.consumer else { return false };
    let bound = u64::try_from(consumer.consumer.max_ack_pending).ok().filter(|bound| *bound > 0);
    let has_room = bound.is_none_or(|bound| consumer.ack_pending < bound);
    consumer.pending > 0 && consumer.waiting == 0 && has_room && !queue.is_paused()
}

fn delivered(queue: &Queue) -> u64 {
    queue.consumer.as_ref().map_or(0, |consumer| consumer.delivered)
}

fn has_room_for(agent: &AgentEntry, queue: &Queue) -> bool {
    agent.state == State::Ready && agent.slots_busy < agent.slots && agent.serves(&queue.capability)
}

fn restarted(finding: Finding, agent: &AgentEntry) -> Finding {
    finding
        .about(&agent.instance)
        .remedy(format!(
            "restart it; if it does not hear that, or is no longer listed, end process {} on {}: its work goes to others",
            agent.pid, agent.host
        ))
        .command(format!("sortie agents restart {}", agent.instance))
}

fn named(agent: &AgentEntry) -> String {
    format!("{} {} ({}:{})", agent.kind, agent.instance, agent.host, agent.pid)
}

#[cfg(test)]
mod tests {
    use protocol::{Lane, topology::Source};

    use super::*;
    use crate::queue::tests::{consumer, queue};

    #[test]
    fn only_what_could_be_delivered_and_is_not_waited_for_is_left() {
        let of = |pending, ack_pending, waiting| {
            queue("echo", pending, Some(consumer("echo", Source::Lane(Lane::Normal), pending, ack_pending, waiting)))
        };
        assert!(is_left(&of(1, 0, 0)));
        assert!(!is_left(&of(1, 0, 1)), "somebody waits");
        assert!(!is_left(&of(0, 1, 0)), "nothing to deliver");
        assert!(!is_left(&of(1, 10_000, 0)), "as many in hands as may be");
        assert!(!is_left(&queue("echo", 1, None)), "nobody serves it");
        let mut paused = of(1, 0, 0);
        paused.consumer.as_mut().unwrap().paused_until = Some(protocol::time::now());
        assert!(!is_left(&paused));
    }
}
