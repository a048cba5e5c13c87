//! What operators wish of queues, and what circuit breakers ask for, made true at consumers.
//!
//! A wish stands in the desired bucket, and each look compares it with the consumer, so that one that was made again, or
//! a pause that ran out by the broker's clock, needs nobody's memory. What was done is remembered beside it, because only
//! that is taken back: a pause or a limit that somebody set by hand, with the `nats` command line, stays.

use std::{collections::BTreeMap, time::Duration};

use broker::{Disposition, Entry, Error, Kind, topology};
use futures_util::{StreamExt, stream};
use protocol::{
    Capability,
    breaker::{self, Breaker},
    desired::{self, QueueWish, Steered, wanted},
    time::{self, Timestamp},
    topology::{Source, worker_consumer},
};

use crate::{duty::Duty, post::Post};

mod steps;

use steps::{Found, Step, steps};

/// Queues that are looked at at once.
const AT_ONCE: usize = 16;

/// Makes consumers agree with what operators wish.
pub(crate) struct Wishes {
    post: Post,
}

/// One queue that somebody wishes something of, or of which something is to be taken back.
#[derive(Debug, Default)]
struct Wished {
    wish: QueueWish,
    steered: Steered,
    /// Of what was done.
    revision: u64,
    /// Breakers that pause its capability, open or half open.
    breakers: Vec<Breaker>,
}

impl Wishes {
    pub(crate) fn new(post: &Post) -> Self {
        Self { post: post.clone() }
    }

    async fn wished(&self) -> Result<BTreeMap<(Capability, Source), Wished>, Error> {
        let mut all: BTreeMap<(Capability, Source), Wished> = BTreeMap::new();
        for entry in self.post.desired.list("queue.>").await? {
            let Some(queue) = desired::parse_queue_key(&entry.key) else { continue };
            // What cannot be read is no wish that there is none: the queue stays as it is.
            let Some(wish) = read::<QueueWish>(&entry) else {
                tracing::warn!(key = entry.key, "a wish that cannot be read");
                continue;
            };
            all.insert(queue, Wished { wish, ..Wished::default() });
        }
        for entry in self.post.state.list(breaker::KEY_FILTER).await? {
            let Some(breaker) = read::<Breaker>(&entry).filter(|breaker| breaker.state != breaker::State::Closed)
            else {
                continue;
            };
            for queue in breaker.pauses.iter().flat_map(|name| Source::ALL.map(|source| (name.clone(), source))) {
                if all.contains_key(&queue) || !self.is_wished(&queue).await? {
                    all.entry(queue).or_default().breakers.push(breaker.clone());
                }
            }
        }
        for entry in self.post.state.list("steered.>").await? {
            let Some(queue) = desired::parse_steered_key(&entry.key) else { continue };
            let is_unread = !all.contains_key(&queue) && self.is_wished(&queue).await?;
            if is_unread {
                continue;
            }
            let wished = all.entry(queue).or_default();
            wished.steered = read(&entry).unwrap_or_default();
            wished.revision = entry.revision;
        }
        Ok(all)
    }

    /// Whether there is a wish at all. A list that was read before one was written, or one that cannot be read, shows
    /// none: nothing is taken back for that.
    async fn is_wished(&self, (capability, source): &(Capability, Source)) -> Result<bool, Error> {
        let found = self.post.desired.get(&desired::queue_key(capability, *source)).await?;
        Ok(found.is_some_and(|entry| entry.value.is_some()))
    }

    async fn fulfil(&self, capability: &Capability, source: Source, wished: &Wished) -> Result<(), Error> {
        // The name does not depend on the number of replicas.
        let consumer = worker_consumer(self.post.namespace(), capability, source, 1);
        let (stream, name) = (&consumer.stream, &consumer.name);
        let state = match topology::consumer_state(&self.post.connection, stream, name).await {
            Ok(state) => state,
            // Whoever serves it first makes it; the look after that finds it.
            Err(error) if error.kind() == Kind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        let found = Found {
            paused_until: state.paused_until,
            max_ack_pending: state.consumer.max_ack_pending,
            max_ack_pending_default: consumer.max_ack_pending,
        };
        let wanted = wanted(&wished.wish, &wished.breakers, state.at);
        let (steps, steered) = steps(&wanted, &wished.wish, &wished.steered, &found);
        // What is set is remembered first: else whoever dies in between leaves a pause that looks like somebody's own.
        let (before, after): (Vec<Step>, Vec<Step>) = steps.into_iter().partition(|step| step.is_taking_back());
        for step in before {
            self.carry_out(stream, name, step).await?;
        }
        if steered != wished.steered {
            self.remember(capability, source, &steered, wished.revision).await?;
        }
        for step in after {
            self.carry_out(stream, name, step).await?;
        }
        Ok(())
    }

    async fn carry_out(&self, stream: &str, name: &str, step: Step) -> Result<(), Error> {
        let connection = &self.post.connection;
        match step {
            Step::Pause(until) => {
                topology::pause_consumer(connection, stream, name, until).await?;
                tracing::info!(consumer = name, until = told(until), "queue paused");
            }
            Step::Resume => {
                topology::resume_consumer(connection, stream, name).await?;
                tracing::info!(consumer = name, "queue resumed");
            }
            Step::Limit(max) | Step::Unlimit(max) => {
                topology::limit_consumer(connection, stream, name, max).await?;
                tracing::info!(consumer = name, max_ack_pending = max, "limit of a queue set");
            }
        }
        Ok(())
    }

    async fn remember(
        &self,
        capability: &Capability,
        source: Source,
        steered: &Steered,
        revision: u64,
    ) -> Result<(), Error> {
        let key = desired::steered_key(capability, source);
        let revision = match revision {
            // A key that somebody deleted has left a marker, which is what the write must expect.
            0 => {
                self.post.state.get(&key).await?.filter(|entry| entry.value.is_none()).map_or(0, |entry| entry.revision)
            }
            known => known,
        };
        // Plain data with text keys always has a JSON form.
        let body = serde_json::to_vec(steered).unwrap_or_default();
        self.post.state.update(&key, body, revision, None).await.map(|_| ())
    }
}

impl Duty for Wishes {
    const NAME: &'static str = "wishes";

    fn begin(&mut self) {}

    async fn look(&mut self) -> Result<Option<Duration>, Error> {
        let wished = self.wished().await?;
        let looks: Vec<_> = wished.iter().map(|((name, source), wished)| self.fulfil(name, *source, wished)).collect();
        let ends: Vec<_> = stream::iter(looks).buffered(AT_ONCE).collect().await;
        for ((capability, source), ended) in wished.keys().zip(ends) {
            let Err(error) = ended else { continue };
            match error.kind() {
                // Another coordinator does it too, or a replica was behind: the next look decides.
                Kind::WrongSequence | Kind::Contended => {}
                _ if error.disposition() == Disposition::Fatal => return Err(error),
                _ => tracing::warn!(%capability, lane = source.token(), %error, "a wish is not fulfilled yet"),
            }
        }
        Ok(None)
    }
}

fn read<T: serde::de::DeserializeOwned>(entry: &Entry) -> Option<T> {
    serde_json::from_slice(entry.value.as_deref()?).ok()
}

fn told(until: Timestamp) -> String {
    if desired::is_far(until) { "somebody resumes it".to_owned() } else { time::format(until) }
}
