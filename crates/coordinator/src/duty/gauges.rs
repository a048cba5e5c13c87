//! Figures of the fleet as a whole, for whoever watches it from outside: how much waits where and for how long, who is
//! there, how full the store is. One coordinator asks for them, so that watching costs the same however many there are.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use broker::{Error, topology};
use futures_util::{StreamExt, stream};
use protocol::{
    Capability, Lane,
    registry::{AgentEntry, State},
    subject::filter,
    time::Timestamp,
    topology::Source,
};

use crate::{
    duty::Duty,
    gauges::FleetGauges,
    post::Post,
    queues::{Queue, queues},
};

/// Queues that are asked for their oldest message at once.
const ASKED_AT_ONCE: usize = 16;

/// Every state, so that each is a figure also where no agent is in it.
const STATES: [(State, &str); 6] = [
    (State::Starting, "starting"),
    (State::Ready, "ready"),
    (State::Paused, "paused"),
    (State::Draining, "draining"),
    (State::Stopped, "stopped"),
    (State::Failed, "failed"),
];

/// Sets the figures.
pub(crate) struct Gauges {
    post: Post,
    /// Queues that held something since the duty was taken: one that is empty now is 0, and not unknown.
    queues: BTreeSet<(Capability, Source)>,
    /// Capabilities that somebody served since then.
    served: BTreeSet<Capability>,
}

/// One queue in figures.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Figures {
    pending: u64,
    in_flight: u64,
    oldest: f64,
    is_paused: bool,
}

impl Gauges {
    pub(crate) fn new(post: &Post) -> Self {
        Self { post: post.clone(), queues: BTreeSet::new(), served: BTreeSet::new() }
    }

    /// How long the first message that nobody has yet has lain in a queue, in seconds.
    async fn oldest(&self, queue: &Queue, now: Timestamp) -> Result<f64, Error> {
        if pending(queue) == 0 {
            return Ok(0.0);
        }
        let from = queue.state.as_ref().map_or(1, |state| state.delivered + 1);
        let page = self.post.reader.page(&queue.consumer.stream, &queue.consumer.filter, from, 1).await?;
        Ok(page.messages.first().map_or(0.0, |message| age(message.time, now)))
    }

    async fn figures(&self, queue: &Queue, now: Timestamp) -> Result<((Capability, Source), Figures), Error> {
        let figures = Figures {
            pending: pending(queue),
            in_flight: queue.state.as_ref().map_or(0, |state| state.ack_pending),
            oldest: self.oldest(queue, now).await?,
            is_paused: queue.state.as_ref().is_some_and(|state| state.is_paused),
        };
        Ok(((queue.capability.clone(), queue.source), figures))
    }

    /// What waits for its time: everything in the request stream that is no work, counted without naming each.
    async fn scheduled(&self, queues: &[Queue]) -> Result<u64, Error> {
        let requests = &self.post.names.requests;
        let all = topology::stream_state(&self.post.connection, requests).await?.messages;
        let starts = filter::starts(self.post.namespace());
        let starts: u64 = topology::subject_counts(&self.post.connection, requests, &starts).await?.values().sum();
        let lanes = queues.iter().filter(|queue| matches!(queue.source, Source::Lane(_)));
        Ok(all.saturating_sub(starts + lanes.map(|queue| queue.messages).sum::<u64>()))
    }
}

impl Duty for Gauges {
    const NAME: &'static str = "gauges";

    fn begin(&mut self) {
        self.queues.clear();
        self.served.clear();
    }

    fn end(&mut self) {
        self.post.metrics.fleet.reset();
    }

    async fn look(&mut self) -> Result<Option<Duration>, Error> {
        let now = self.post.now().await?;
        let queues = queues(&self.post).await?;
        let scheduled = self.scheduled(&queues).await?;
        let dead = topology::stream_state(&self.post.connection, &self.post.names.dead).await?.messages;
        // The marks of replays lie in the same stream.
        let marks = filter::replayed(self.post.namespace(), None);
        let dead = dead.saturating_sub(self.post.reader.count(&self.post.names.dead, &marks).await?);
        let agents = self.post.agents().await?;
        let store = topology::inspect::account(&self.post.connection).await?;
        let asked: Vec<_> = queues.iter().map(|queue| self.figures(queue, now)).collect();
        let figures: Vec<_> = stream::iter(asked).buffered(ASKED_AT_ONCE).collect().await;
        let figures: BTreeMap<_, _> = figures.into_iter().collect::<Result<_, _>>()?;
        self.queues.extend(figures.keys().cloned());
        let serving = serving(&agents);
        self.served.extend(serving.keys().cloned());
        // Everything is known: nobody reads a half of it.
        let gauges = &self.post.metrics.fleet;
        for queue in &self.queues {
            set(gauges, queue, figures.get(queue).copied().unwrap_or_default());
        }
        for capability in &self.served {
            let count = serving.get(capability).copied().unwrap_or_default();
            gauges.agents_serving.with_label_values(&[capability.as_str()]).set(count);
        }
        for (state, label) in STATES {
            let count = agents.iter().filter(|agent| agent.state == state).count();
            gauges.agents.with_label_values(&[label]).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        gauges.store_bytes.set(store.stored as f64);
        gauges.store_bytes_max.set(store.stored_max.unwrap_or_default() as f64);
        gauges.scheduled.set(signed(scheduled));
        gauges.dead_letters_kept.set(signed(dead));
        Ok(None)
    }
}

fn set(gauges: &FleetGauges, (capability, source): &(Capability, Source), figures: Figures) {
    let labels = [capability.as_str(), lane(*source)];
    gauges.queue_pending.with_label_values(&labels).set(signed(figures.pending));
    gauges.queue_in_flight.with_label_values(&labels).set(signed(figures.in_flight));
    gauges.queue_oldest.with_label_values(&labels).set(figures.oldest);
    gauges.queue_paused.with_label_values(&labels).set(i64::from(figures.is_paused));
}

/// Without a consumer nobody has any of it.
fn pending(queue: &Queue) -> u64 {
    queue.state.as_ref().map_or(queue.messages, |state| state.pending)
}

fn age(since: Timestamp, now: Timestamp) -> f64 {
    (now - since).to_std().unwrap_or_default().as_secs_f64()
}

fn lane(source: Source) -> &'static str {
    match source {
        Source::Lane(Lane::Urgent) => "urgent",
        Source::Lane(Lane::Normal) => "normal",
        Source::Lane(Lane::Bulk) => "bulk",
        Source::Unique => "unique",
    }
}

/// Agents by what they serve; whoever has stopped serves nothing.
fn serving(agents: &[AgentEntry]) -> BTreeMap<Capability, i64> {
    let mut found = BTreeMap::new();
    let is_there = |agent: &&AgentEntry| !matches!(agent.state, State::Stopped | State::Failed);
    for capability in agents.iter().filter(is_there).flat_map(|agent| &agent.capabilities) {
        *found.entry(capability.name.clone()).or_insert(0) += 1;
    }
    found
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use protocol::time;

    use super::*;
    use crate::queues::tests::queue;

    #[test]
    fn what_has_no_consumer_waits_as_a_whole() {
        let in_hands = queue("echo", Source::Unique, 5, 0, 2);
        assert_eq!(pending(&in_hands), 3);
        assert_eq!(pending(&Queue { state: None, ..in_hands }), 5);
    }

    #[test]
    fn an_age_is_never_negative() {
        let at = time::parse("2030-01-01T00:00:10Z").unwrap();
        assert_eq!(age(time::parse("2030-01-01T00:00:08.5Z").unwrap(), at), 1.5);
        assert_eq!(age(time::parse("2030-01-01T00:00:11Z").unwrap(), at), 0.0);
    }

    #[test]
    fn every_source_is_a_lane_of_its_own() {
        assert_eq!(Source::ALL.map(lane), ["urgent", "normal", "unique", "bulk"]);
    }
}
