//! Asking the broker about queues.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use broker::topology::{self, ConsumerState};
use futures_util::{StreamExt, TryStreamExt, stream};
use protocol::{
    Capability, Namespace, Subject,
    desired::{self, QueueWish},
    header,
    registry::AgentEntry,
    service::Attendance,
    subject::filter,
    time::Timestamp,
    topology::{Source, queue_of_consumer, worker_consumer},
};
use tokio::time::Instant;

use super::{Queues, QueuesAsk, order, queue};
use crate::{Client, Error, NamedBreaker};

/// Consumers and queues that are asked about at once.
const ASKED_AT_ONCE: usize = 16;

/// Schedules that one read asks for: their bodies come along.
const PAGE: usize = 64;

/// How long schedules are read at most: large bodies come along, and somebody waits.
const SCHEDULES_WITHIN: Duration = Duration::from_secs(2);

type Key = (Capability, Source);

/// A queue's counters at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Counters {
    pub(super) waiting: u64,
    pub(super) running: u64,
    pub(super) redelivered: u64,
    pub(super) deliveries: u64,
    pub(super) pulls: u64,
    /// The last stream sequence that was delivered.
    pub(super) delivered: u64,
    /// When it was delivered or extended last, and how long it may stand without that.
    pub(super) last_moved: Option<Timestamp>,
    pub(super) ack_deadline: Duration,
    pub(super) paused_until: Option<Timestamp>,
    /// None where there is no consumer.
    pub(super) max_ack_pending: Option<i64>,
}

/// What was found of all queues.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    pub(super) namespace: Namespace,
    pub(super) now: BTreeMap<Key, Counters>,
    /// Earlier counters, and how long ago that was.
    pub(super) before: Option<(BTreeMap<Key, Counters>, Duration)>,
    pub(super) oldest: BTreeMap<Key, Timestamp>,
    pub(super) scheduled: BTreeMap<Key, u64>,
    pub(super) agents: Vec<AgentEntry>,
    pub(super) wishes: BTreeMap<Key, QueueWish>,
    pub(super) breakers: Vec<NamedBreaker>,
}

impl Client {
    /// What waits and runs in every queue, who serves it, and how it is steered. It makes no consumer, takes nothing, and
    /// asks the broker a handful of questions and one for each queue that has something waiting.
    ///
    /// # Errors
    /// `StreamsMissing`, and what asking says.
    pub async fn queues(&self, ask: &QueuesAsk) -> Result<Queues, Error> {
        let before = match ask.rates_over {
            Some(_) => Some((self.counters(ask).await?, Instant::now())),
            None => None,
        };
        let (agents, wishes, breakers) = (self.agents().await?, self.wishes().await?, self.breakers().await?);
        let (scheduled, all_scheduled, has_more) = self.scheduled_by_queue(ask).await?;
        if let (Some((_, asked)), Some(over)) = (&before, ask.rates_over) {
            tokio::time::sleep_until(*asked + over).await;
        }
        let before = before.map(|(counters, asked)| (counters, asked.elapsed()));
        let now = self.counters(ask).await?;
        let oldest = self.oldest(&now).await?;
        let facts =
            Facts { namespace: self.namespace().clone(), now, before, oldest, scheduled, agents, wishes, breakers };
        let at = self.now().await?;
        let is_asked = |capability: &&Capability| ask.capability.as_ref().is_none_or(|asked| asked == *capability);
        let named = facts.now.keys().chain(facts.scheduled.keys()).chain(facts.wishes.keys()).map(|(name, _)| name);
        let served = facts.agents.iter().flat_map(|agent| &agent.capabilities).map(|entry| &entry.name);
        let capabilities: BTreeSet<&Capability> = named.chain(served).filter(is_asked).collect();
        let each = capabilities.iter().flat_map(|name| Source::ALL.map(|source| (*name, source)));
        let mut queues: Vec<_> = each.map(|(name, source)| queue(name, source, &facts, at)).collect();
        order(&mut queues);
        Ok(Queues { queues, scheduled: all_scheduled, has_more_scheduled: has_more, at })
    }

    /// What operators wish.
    pub(crate) async fn wishes(&self) -> Result<BTreeMap<Key, QueueWish>, Error> {
        let name = &self.names().desired;
        let entries = match self.bucket(name).list("queue.>").await {
            Ok(entries) => entries,
            Err(error) => return Err(self.explained(error, &Self::bucket_stream(name)).await),
        };
        let read = |entry: broker::Entry| {
            Some((desired::parse_queue_key(&entry.key)?, serde_json::from_slice(entry.value.as_deref()?).ok()?))
        };
        Ok(entries.into_iter().filter_map(read).collect())
    }

    /// The counters of every queue that has a consumer or a message.
    async fn counters(&self, ask: &QueuesAsk) -> Result<BTreeMap<Key, Counters>, Error> {
        let mut found: BTreeMap<Key, Counters> = match &ask.capability {
            Some(capability) => self.counters_of(capability).await?,
            None => self.counters_of_all().await?,
        };
        let is_asked = |capability: &Capability| ask.capability.as_ref().is_none_or(|asked| asked == capability);
        for (key, count) in self.messages_by_queue(&found).await?.into_iter().filter(|((name, _), _)| is_asked(name)) {
            found.entry(key).or_insert_with(|| Counters { waiting: count, ..Counters::default() });
        }
        Ok(found)
    }

    async fn counters_of(&self, capability: &Capability) -> Result<BTreeMap<Key, Counters>, Error> {
        let mut found = BTreeMap::new();
        for source in Source::ALL {
            let consumer = worker_consumer(self.namespace(), capability, source, 1);
            match topology::consumer_state(self.connection(), &consumer.stream, &consumer.name).await {
                Ok(state) => found.insert((capability.clone(), source), Counters::of(&state)),
                Err(error) if error.kind() == broker::Kind::NotFound => None,
                Err(error) => return Err(self.explained(error, &consumer.stream).await),
            };
        }
        Ok(found)
    }

    async fn counters_of_all(&self) -> Result<BTreeMap<Key, Counters>, Error> {
        let mut found = BTreeMap::new();
        for stream in [&self.names().requests, &self.names().unique] {
            let states = match topology::consumer_states(self.connection(), stream).await {
                Ok(states) => states,
                Err(error) if error.kind() == broker::Kind::NotFound => return Err(Error::streams_missing(stream)),
                Err(error) => return Err(self.explained(error, stream).await),
            };
            let read = |state: &ConsumerState| {
                Some((queue_of_consumer(self.namespace(), &state.consumer)?, Counters::of(state)))
            };
            found.extend(states.iter().filter_map(read));
        }
        Ok(found)
    }

    /// Messages by queue, whoever has them. The unique stream has a subject per message: it is asked only where what the
    /// consumers know of is not all that there is.
    async fn messages_by_queue(&self, known: &BTreeMap<Key, Counters>) -> Result<BTreeMap<Key, u64>, Error> {
        let (connection, names) = (self.connection(), self.names());
        let mut counts = BTreeMap::new();
        for filter in filter::requests(self.namespace()) {
            counts.extend(topology::subject_counts(connection, &names.requests, &filter).await?);
        }
        let accounted = known.iter().filter(|((_, source), _)| *source == Source::Unique);
        let accounted: u64 = accounted.map(|(_, counters)| counters.waiting + counters.running).sum();
        if topology::stream_state(connection, &names.unique).await?.messages > accounted {
            let unique = filter::unique(self.namespace(), None);
            counts.extend(topology::subject_counts(connection, &names.unique, &unique).await?);
        }
        let mut found = BTreeMap::new();
        for (subject, count) in counts {
            let key = match Subject::parse(self.namespace(), &subject) {
                Some(Subject::Request { lane, capability }) => (capability, Source::Lane(lane)),
                Some(Subject::Unique { capability, .. }) => (capability, Source::Unique),
                _ => continue,
            };
            *found.entry(key).or_insert(0) += count;
        }
        Ok(found)
    }

    /// When the first of those that wait was published.
    async fn oldest(&self, counters: &BTreeMap<Key, Counters>) -> Result<BTreeMap<Key, Timestamp>, Error> {
        let waiting = counters.iter().filter(|(_, counters)| counters.waiting > 0);
        let asked: Vec<_> = waiting
            .map(|((capability, source), counters)| {
                let consumer = worker_consumer(self.namespace(), capability, *source, 1);
                let key = (capability.clone(), *source);
                let from = counters.delivered + 1;
                async move {
                    let page = self.reader().page(&consumer.stream, &consumer.filter, from, 1).await?;
                    Ok::<_, Error>(page.messages.first().map(|message| (key, message.time)))
                }
            })
            .collect();
        let found: Vec<_> = stream::iter(asked).buffered(ASKED_AT_ONCE).try_collect().await?;
        Ok(found.into_iter().flatten().collect())
    }

    /// What waits for its time, by the queue that it comes to; how much there is in all, and whether that is more than was
    /// read.
    async fn scheduled_by_queue(&self, ask: &QueuesAsk) -> Result<(BTreeMap<Key, u64>, u64, bool), Error> {
        let (stream, filter) = (&self.names().requests, filter::later(self.namespace()));
        let until = Instant::now() + SCHEDULES_WITHIN;
        let (mut found, mut read, mut remaining, mut from) = (BTreeMap::new(), 0, 0, Some(1));
        while let Some(sequence) = from
            && read < ask.schedules_max
            && Instant::now() < until
        {
            let count = PAGE.min(ask.schedules_max - read);
            let page = match self.reader().page(stream, &filter, sequence, count).await {
                Ok(page) => page,
                Err(error) => return Err(self.explained(error, stream).await),
            };
            read += page.messages.len();
            for message in &page.messages {
                let target = message.headers.get(header::NATS_SCHEDULE_TARGET);
                if let Some(Subject::Request { lane, capability }) =
                    target.and_then(|target| Subject::parse(self.namespace(), target))
                {
                    *found.entry((capability, Source::Lane(lane))).or_insert(0) += 1;
                }
            }
            (from, remaining) = (page.next, page.remaining.unwrap_or(0));
        }
        Ok((found, read as u64 + remaining, from.is_some()))
    }
}

impl Counters {
    pub(super) fn of(state: &ConsumerState) -> Self {
        Self {
            waiting: state.pending,
            running: state.ack_pending,
            redelivered: state.redelivered,
            deliveries: state.deliveries,
            pulls: state.waiting,
            delivered: state.delivered,
            last_moved: state.last_active,
            ack_deadline: state.consumer.ack_wait,
            paused_until: state.paused_until,
            max_ack_pending: Some(state.consumer.max_ack_pending),
        }
    }

    pub(super) fn attendance(&self) -> Attendance {
        Attendance {
            pulls: self.pulls,
            in_hand: self.running,
            last_moved: self.last_moved,
            ack_deadline: self.ack_deadline,
        }
    }
}
