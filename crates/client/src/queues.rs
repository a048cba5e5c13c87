//! What waits and runs, per capability and lane; and how operators steer it.

use std::{collections::BTreeMap, time::Duration};

use protocol::{
    BreakerName, Capability, Operator, Service, breaker,
    desired::{self, QueueWish},
    registry::{AgentEntry, State},
    service,
    time::Timestamp,
    topology::{Source, worker_consumer},
};
use serde::Serialize;

mod gather;
mod peek;
mod steer;

pub use self::peek::Peeked;
pub(crate) use self::peek::id_of_sequence;
pub use self::steer::Fulfilment;
use crate::NamedBreaker;
use gather::{Counters, Facts};

/// What is to be told of queues.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueuesAsk {
    /// Only those of this capability. Defaults to all.
    pub capability: Option<Capability>,
    /// How long counters are watched for rates; none gives none. Defaults to 1 s.
    pub rates_over: Option<Duration>,
    /// Schedules that are read at most, their bodies coming along. Defaults to 1,000.
    pub schedules_max: usize,
}

impl Default for QueuesAsk {
    fn default() -> Self {
        Self { capability: None, rates_over: Some(Duration::from_secs(1)), schedules_max: 1_000 }
    }
}

/// The queues of a fleet at one moment.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Queues {
    /// Every lane of every capability that is served, asked for, or steered; by capability, then first lane to last.
    pub queues: Vec<Queue>,
    /// Requests that wait for their time, of all capabilities.
    pub scheduled: u64,
    /// Whether there are more schedules than were read, so that the numbers of single queues are too small.
    pub has_more_scheduled: bool,
    /// When this was so, on the broker's clock.
    pub at: Timestamp,
}

/// One lane of a capability.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Queue {
    /// What is asked for.
    pub capability: Capability,
    /// The lane: `urgent`, `normal`, `unique` or `bulk`.
    pub lane: Source,
    /// Requests that were never delivered.
    pub waiting: u64,
    /// Requests that are delivered and not acknowledged: in an agent's hands, or waiting for a delayed redelivery.
    pub running: u64,
    /// Of those, delivered more than once.
    pub redelivered: u64,
    /// Of those that run, in the hands of agents that are gone: they are delivered again as soon as somebody pulls.
    pub lost: u64,
    /// Requests that come here when their time has come: retries and delays.
    pub scheduled: u64,
    /// When the oldest of those that wait was published, on the broker's clock.
    pub oldest: Option<Timestamp>,
    /// Requests that came a second while counters were watched; a redelivery counts as one that came and one that went.
    pub rate_in: Option<f64>,
    /// Requests that went a second: done, put off for a retry, given up.
    pub rate_out: Option<f64>,
    /// Whether anybody serves the capability, in whichever lane.
    pub service: Service,
    /// Agents in the registry that take its requests.
    pub agents: usize,
    /// Their slots, shared with the other lanes and capabilities that they serve.
    pub slots: usize,
    /// Those that are free, as they said last, which may be ten seconds ago; and no more than what runs of the capability,
    /// in all its lanes, leaves free now.
    pub slots_free: usize,
    /// Pulls that wait: more than none says that somebody who serves it has a free slot.
    pub pulls: u64,
    /// Whether its consumer is there: whoever serves it first makes it.
    pub is_known: bool,
    /// How many may be in hand at once, in the whole fleet, as the broker has it; none without a consumer.
    pub max_in_hand: Option<i64>,
    /// The pause that it is in, or should be in.
    pub paused: Option<Pause>,
    /// The limit that it has, or should have; none is the usual 10,000.
    pub limit: Option<Limit>,
    /// The circuit breaker that pauses it, or lets only trials through.
    pub breaker: Option<BreakerNow>,
}

/// A circuit breaker that is not closed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BreakerNow {
    /// Its name.
    pub name: BreakerName,
    /// Open or half open.
    pub state: breaker::State,
    /// Until when it is open; none where it is half open.
    pub until: Option<Timestamp>,
    /// The code of the failure that opened it.
    pub after: Option<String>,
}

/// A pause of a queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Pause {
    /// Who wished it; none where it was made by hand, past Sortie.
    pub by: Option<Operator>,
    /// Since when.
    pub at: Option<Timestamp>,
    /// Why.
    pub reason: Option<String>,
    /// Until when; none means until somebody resumes it.
    pub until: Option<Timestamp>,
    /// Whether it holds: the coordinator needs a second or two, and the queue its consumer.
    pub is_in_force: bool,
}

/// A limit of a queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Limit {
    /// How many may be in hand at once, in the whole fleet.
    pub max: i64,
    /// Who wished it; none where it was set by hand, past Sortie.
    pub by: Option<Operator>,
    /// Since when.
    pub at: Option<Timestamp>,
    /// Why.
    pub reason: Option<String>,
    /// Whether it holds.
    pub is_in_force: bool,
}

impl Queue {
    /// Whether there is nothing to say of it but that it is there.
    pub fn is_idle(&self) -> bool {
        let rates = self.rate_in.unwrap_or(0.0) + self.rate_out.unwrap_or(0.0);
        let counts = self.waiting + self.running + self.scheduled;
        let is_steered = self.paused.is_some() || self.limit.is_some() || self.breaker.is_some();
        counts == 0 && rates == 0.0 && !is_steered
    }

    /// Whether its limit, ours or the usual one, keeps back what waits.
    pub fn is_at_limit(&self) -> bool {
        let is_reached = |max| i64::try_from(self.running).is_ok_and(|running| running >= max);
        self.waiting > 0 && self.max_in_hand.is_some_and(is_reached)
    }
}

/// Puts together what was found of one queue.
fn queue(capability: &Capability, source: Source, facts: &Facts, at: Timestamp) -> Queue {
    let key = (capability.clone(), source);
    let now = facts.now.get(&key);
    let wish = facts.wishes.get(&key);
    let agents: Vec<&AgentEntry> = facts.agents.iter().filter(|agent| takes(agent, capability)).collect();
    let slots: usize = agents.iter().map(|agent| slots_of(agent, capability)).sum();
    let said_free = agents.iter().map(|agent| free_slots_of(agent, capability)).sum::<usize>();
    let lanes = facts.now.iter().filter(|((name, _), _)| name == capability);
    let attendance: Vec<_> = lanes.clone().map(|(_, counters)| counters.attendance()).collect();
    let running = lanes
        .map(|(_, counters)| usize::try_from(counters.running).unwrap_or(usize::MAX))
        .fold(0, usize::saturating_add);
    let service = service::judge(capability, &facts.agents, &attendance, at);
    // Unique work that waits for its retry does not move either, and is nobody's loss while somebody serves it.
    let lost = now.filter(|_| service == Service::Unserved).map_or(0, |now| now.attendance().lost(at));
    let breaker = facts.breakers.iter().filter(|one| one.breaker.pauses.contains(capability));
    // The one that is open longest; a half-open one has no end.
    let breaker = breaker.filter(|one| one.now != breaker::State::Closed).max_by_key(|one| open_until(one));
    let usual = worker_consumer(&facts.namespace, capability, source, 1).max_ack_pending;
    let rates = facts.before.as_ref().map(|(before, over)| rates(before.get(&key), now, *over));
    Queue {
        waiting: now.map_or(0, |now| now.waiting),
        running: now.map_or(0, |now| now.running),
        redelivered: now.map_or(0, |now| now.redelivered),
        lost,
        scheduled: facts.scheduled.get(&key).copied().unwrap_or(0),
        oldest: facts.oldest.get(&key).copied(),
        rate_in: rates.map(|(rate_in, _)| rate_in),
        rate_out: rates.map(|(_, rate_out)| rate_out),
        service,
        agents: agents.len(),
        slots,
        slots_free: said_free.min(slots.saturating_sub(running)),
        pulls: now.map_or(0, |now| now.pulls),
        is_known: now.is_some_and(|now| now.max_ack_pending.is_some()),
        max_in_hand: now.and_then(|now| now.max_ack_pending),
        paused: pause(now, wish, breaker.and_then(open_until), at),
        limit: limit(now, wish, breaker.map(|one| one.breaker.settings.trials.into()), usual),
        breaker: breaker.map(|one| BreakerNow {
            name: one.name.clone(),
            state: one.now,
            until: open_until(one),
            after: one.breaker.opened.as_ref().map(|opening| opening.code.clone()),
        }),
        capability: capability.clone(),
        lane: source,
    }
}

/// Until when the broker is told to pause for a breaker.
fn open_until(one: &NamedBreaker) -> Option<Timestamp> {
    one.breaker.until.filter(|_| one.now == breaker::State::Open).map(desired::for_broker)
}

/// Whether an agent takes requests of a capability now.
pub(crate) fn takes(agent: &AgentEntry, capability: &Capability) -> bool {
    matches!(agent.state, State::Ready) && agent.serves(capability)
}

fn slots_of(agent: &AgentEntry, capability: &Capability) -> usize {
    let entry = agent.capabilities.iter().find(|entry| entry.name == *capability);
    entry.and_then(|entry| entry.slots).map_or(agent.slots, |cap| cap.min(agent.slots))
}

/// Slots of an agent that a request of this capability may take: an agent does not say how many of its busy ones run which
/// capability, so one with a cap may have fewer.
fn free_slots_of(agent: &AgentEntry, capability: &Capability) -> usize {
    agent.slots.saturating_sub(agent.slots_busy).min(slots_of(agent, capability))
}

/// What came and went a second. What is waiting and what was delivered grows with what comes; what was delivered and what
/// is in hand differ by what went.
fn rates(before: Option<&Counters>, now: Option<&Counters>, over: Duration) -> (f64, f64) {
    let (nothing, seconds) = (Counters::default(), over.as_secs_f64());
    let (before, now) = (before.unwrap_or(&nothing), now.unwrap_or(&nothing));
    if seconds <= 0.0 || now.deliveries < before.deliveries {
        // The consumer was made again meanwhile.
        return (0.0, 0.0);
    }
    let change = |now: u64, before: u64| i128::from(now) - i128::from(before);
    let delivered = change(now.deliveries, before.deliveries);
    let came = change(now.waiting, before.waiting) + delivered;
    let went = delivered - change(now.running, before.running);
    // A purge, and what was given up, take more than was delivered.
    #[allow(clippy::cast_precision_loss, reason = "a rate for people")]
    let per_second = |count: i128| count.max(0) as f64 / seconds;
    (per_second(came), per_second(went))
}

fn pause(
    now: Option<&Counters>,
    wish: Option<&QueueWish>,
    open_until: Option<Timestamp>,
    at: Timestamp,
) -> Option<Pause> {
    let found = now.and_then(|now| now.paused_until);
    let is_breakers = found.is_some() && found <= open_until;
    let wished = wish.and_then(|wish| wish.pause_at(at));
    let told = |until: Timestamp| (!desired::is_far(until)).then_some(until);
    match (found, wished) {
        (None, None) => None,
        (Some(_), None) if is_breakers => None,
        // Somebody's own pause covers ours only if it is longer.
        (Some(found), wished) if !is_breakers && wished.is_none_or(|wished| found > wished.broker_until()) => {
            Some(Pause { by: None, at: None, reason: None, until: told(found), is_in_force: true })
        }
        (found, Some(wished)) => Some(Pause {
            by: Some(wished.by.clone()),
            at: Some(wished.at),
            reason: wished.reason.clone(),
            until: wished.until,
            is_in_force: found >= Some(wished.broker_until()),
        }),
        (Some(_), None) => None,
    }
}

fn limit(now: Option<&Counters>, wish: Option<&QueueWish>, trials: Option<i64>, usual: i64) -> Option<Limit> {
    let found = now.and_then(|now| now.max_ack_pending);
    match wish.and_then(|wish| wish.limit.as_ref()) {
        Some(wished) => Some(Limit {
            max: wished.max.into(),
            by: Some(wished.by.clone()),
            at: Some(wished.at),
            reason: wished.reason.clone(),
            is_in_force: found.is_some_and(|found| found <= wished.max.into()),
        }),
        None => found.filter(|found| *found != usual && Some(*found) != trials).map(|max| Limit {
            max,
            by: None,
            at: None,
            reason: None,
            is_in_force: true,
        }),
    }
}

/// By capability, then first lane to last.
fn order(queues: &mut [Queue]) {
    let place: BTreeMap<Source, usize> = Source::ALL.into_iter().zip(0..).collect();
    queues.sort_by(|one, other| {
        (&one.capability, place.get(&one.lane)).cmp(&(&other.capability, place.get(&other.lane)))
    });
}

#[cfg(test)]
mod tests;
