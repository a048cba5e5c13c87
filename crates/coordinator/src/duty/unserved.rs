//! Capabilities that have work and nobody who serves them, told as events: once when that begins and once when it ends.
//!
//! What was told last is read from the events themselves, so that another coordinator goes on where one stopped.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use broker::{Error, StoredMessage};
use protocol::{
    Capability, Service, event,
    registry::AgentEntry,
    service::{self, Attendance},
    subject,
    time::Timestamp,
};
use serde::{Deserialize, Serialize};

use crate::{post::Post, queues::Queue};

/// Events that one read asks for.
const PAGE: usize = 500;

/// What an event about a capability says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Told {
    capability: Capability,
    /// Whether it has work and nobody who serves it.
    unserved: bool,
    /// Messages that wait for it, in all lanes.
    messages: u64,
}

/// Tells when a capability becomes unserved, and when it no longer is.
pub(crate) struct Unserved {
    post: Post,
    /// Of the look before: a capability may have one request a moment before its first agent joins.
    before: Option<BTreeSet<Capability>>,
    /// Capabilities whose last event says that they are unserved; none until the events were read.
    told: Option<BTreeSet<Capability>>,
}

impl Unserved {
    pub(crate) fn new(post: &Post) -> Self {
        Self { post: post.clone(), before: None, told: None }
    }

    pub(crate) fn begin(&mut self) {
        (self.before, self.told) = (None, None);
    }

    /// `now` is when the queues were looked at.
    pub(crate) async fn look(&mut self, queues: &[Queue], now: Timestamp) -> Result<(), Error> {
        let agents = self.post.agents().await?;
        let found = unserved(queues, &agents, now);
        self.post.metrics.capabilities_unserved.set(i64::try_from(found.len()).unwrap_or(i64::MAX));
        let now: BTreeSet<Capability> = found.keys().cloned().collect();
        let told = match self.told.take() {
            Some(told) => told,
            None => self.told_before().await?,
        };
        let before = self.before.replace(now.clone()).unwrap_or_default();
        let mut told_now = told.clone();
        for (capability, is_unserved) in changes(&told, &before, &now) {
            let told = Told {
                unserved: is_unserved,
                messages: found.get(&capability).copied().unwrap_or(0),
                capability: capability.clone(),
            };
            if self.tell(&told).await? {
                if is_unserved {
                    told_now.insert(capability)
                } else {
                    told_now.remove(&capability)
                };
            }
        }
        self.told = Some(told_now);
        Ok(())
    }

    async fn told_before(&self) -> Result<BTreeSet<Capability>, Error> {
        let filter = subject::filter::event(self.post.namespace(), event::CAPABILITY_UNSERVED);
        let mut told = BTreeSet::new();
        let mut from = Some(1);
        while let Some(sequence) = from {
            let page = self.post.reader.page(&self.post.names.events, &filter, sequence, PAGE).await?;
            from = page.next;
            for said in page.messages.iter().filter_map(read) {
                if said.unserved {
                    told.insert(said.capability)
                } else {
                    told.remove(&said.capability)
                };
            }
        }
        Ok(told)
    }

    /// Publishes an event unless it was told already, or the last one is too young; says whether it stands now.
    async fn tell(&self, told: &Told) -> Result<bool, Error> {
        let topic = format!("{}.{}", event::CAPABILITY_UNSERVED, told.capability);
        let subject = subject::event(self.post.namespace(), &topic);
        let last = self.post.reader.last(&self.post.names.events, &subject).await?;
        let now = self.post.clock.now();
        match &last {
            Some(last) if read(last).is_some_and(|said| said.unserved == told.unserved) => return Ok(true),
            Some(last) if is_too_young(last.time, now, self.post.config.unserved_told_every) => return Ok(false),
            _ => {}
        }
        let id = format!("{topic}.{}", now.timestamp_millis());
        let outgoing = self.post.event(&topic, &id, told).expecting(last.map_or(0, |last| last.sequence));
        self.post.recorder.record(&outgoing).await?;
        if told.unserved {
            tracing::warn!(capability = %told.capability, messages = told.messages, "work that nobody serves");
        } else {
            tracing::info!(capability = %told.capability, "no longer unserved");
        }
        Ok(true)
    }
}

fn read(message: &StoredMessage) -> Option<Told> {
    serde_json::from_slice(&message.body).ok()
}

fn is_too_young(at: Timestamp, now: Timestamp, every: Duration) -> bool {
    (now - at).to_std().is_ok_and(|age| age < every)
}

/// Capabilities that have messages and nobody who serves them, and how many messages they have. An agent that is paused
/// is somebody.
fn unserved(queues: &[Queue], agents: &[AgentEntry], now: Timestamp) -> BTreeMap<Capability, u64> {
    let mut lanes: BTreeMap<&Capability, (u64, Vec<Attendance>)> = BTreeMap::new();
    for queue in queues {
        let (messages, attendance) = lanes.entry(&queue.capability).or_default();
        *messages += queue.messages;
        attendance.extend(queue.attendance());
    }
    let judged = lanes.into_iter().filter_map(|(capability, (messages, attendance))| {
        let service = service::judge(capability, agents, &attendance, now);
        (service == Service::Unserved).then(|| (capability.clone(), messages))
    });
    judged.collect()
}

/// What is to be told: what was unserved in two looks in a row and not told so, and what was told so and no longer is.
fn changes(
    told: &BTreeSet<Capability>,
    before: &BTreeSet<Capability>,
    now: &BTreeSet<Capability>,
) -> Vec<(Capability, bool)> {
    let begun = now.intersection(before).filter(|capability| !told.contains(*capability));
    let ended = told.difference(now);
    begun
        .map(|capability| (capability.clone(), true))
        .chain(ended.map(|capability| (capability.clone(), false)))
        .collect()
}

#[cfg(test)]
mod tests {
    use broker::topology;
    use protocol::{
        InstanceId, Kind, Lane,
        registry::{CapabilityEntry, Counts, Health, State},
        time,
        topology::Source,
    };

    use super::*;
    use crate::queues::tests::queue;

    fn agent(capability: &str, state: State) -> AgentEntry {
        let name = Capability::parse(capability).unwrap();
        AgentEntry {
            instance: InstanceId::generate(),
            kind: Kind::parse("k").unwrap(),
            version: "1.0.0".to_owned(),
            host: "h".to_owned(),
            pid: 1,
            state,
            health: Health::Healthy,
            health_reason: None,
            capabilities: vec![CapabilityEntry {
                name,
                description: None,
                input_schema: None,
                output_schema: None,
                slots: None,
            }],
            slots: 1,
            slots_busy: 0,
            counts: Counts::default(),
            started_at: Timestamp::default(),
            seen_at: Timestamp::default(),
            tags: BTreeMap::new(),
        }
    }

    #[test]
    fn unserved_is_what_nobody_has_waits_for_or_lists() {
        let (normal, bulk) = (Source::Lane(Lane::Normal), Source::Lane(Lane::Bulk));
        let now = time::parse("2030-01-01T00:00:10Z").unwrap();
        let moved = |at| {
            let state = queue("any", normal, 3, 0, 1).state.unwrap();
            Some(topology::ConsumerState { last_active: time::parse(at).ok(), ..state })
        };
        let queues = [
            queue("alone", normal, 3, 0, 0),
            queue("alone", Source::Unique, 1, 0, 0),
            queue("waited-for", normal, 3, 1, 0),
            Queue { state: moved("2030-01-01T00:00:05Z"), ..queue("in-hands", normal, 3, 0, 1) },
            queue("in-hands", bulk, 2, 0, 0),
            Queue { state: moved("2029-12-31T23:59:00Z"), ..queue("in-dead-hands", normal, 1, 0, 1) },
            queue("listed", normal, 3, 0, 0),
            queue("resting", normal, 3, 0, 0),
            queue("stopped", normal, 1, 0, 0),
            Queue { state: None, ..queue("without-consumer", normal, 2, 0, 0) },
        ];
        let agents = [agent("listed", State::Ready), agent("resting", State::Paused), agent("stopped", State::Stopped)];
        let found = unserved(&queues, &agents, now);
        let found: Vec<_> = found.iter().map(|(name, count)| (name.as_str(), *count)).collect();
        assert_eq!(found, [("alone", 4), ("in-dead-hands", 1), ("stopped", 1), ("without-consumer", 2)]);
    }

    #[test]
    fn a_change_is_told_once_and_not_at_the_first_look() {
        let set = |names: &[&str]| names.iter().map(|name| Capability::parse(name).unwrap()).collect::<BTreeSet<_>>();
        for (told, before, now, expected) in [
            (&[][..], &[][..], &["a"][..], &[][..]),
            (&[], &["a"], &["a"], &[("a", true)]),
            (&["a"], &["a"], &["a"], &[]),
            (&["a"], &["a"], &[], &[("a", false)]),
            (&[], &["a"], &["b"], &[]),
        ] {
            let changes = changes(&set(told), &set(before), &set(now));
            let changes: Vec<_> = changes.iter().map(|(name, is_unserved)| (name.as_str(), *is_unserved)).collect();
            assert_eq!(changes, expected, "{told:?} {before:?} {now:?}");
        }
    }

    #[test]
    fn events_about_one_capability_keep_their_distance() {
        let at = time::parse("2030-01-01T00:00:00Z").unwrap();
        let minute = Duration::from_secs(60);
        assert!(is_too_young(at, time::parse("2030-01-01T00:00:59Z").unwrap(), minute));
        assert!(!is_too_young(at, time::parse("2030-01-01T00:01:00Z").unwrap(), minute));
        assert!(!is_too_young(at, time::parse("2029-12-31T23:00:00Z").unwrap(), minute), "a clock that went back");
    }
}
