//! Pausing, resuming and limiting queues: wishes, which the coordinator fulfils.

use std::time::Duration;

use broker::topology;
use protocol::{
    Capability,
    breaker::Breaker,
    desired::{self, LIMIT_MAX, LimitWish, PauseWish, QueueWish, REASON_BYTES_MAX, wanted},
    topology::{Source, worker_consumer},
};
use serde::Serialize;
use tokio::time::Instant;

use crate::{Client, Error};

/// How often it is looked whether a wish is fulfilled.
const LOOK: Duration = Duration::from_millis(100);

/// What became of a wish.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fulfilment {
    /// The queue is as it is wished.
    InForce,
    /// The queue has no consumer yet: the wish holds from when somebody first serves it.
    Unserved,
    /// It is not fulfilled in time: is a coordinator running?
    Pending,
}

impl Client {
    /// Wishes that nothing of these queues is delivered; what is in hand goes on.
    ///
    /// # Errors
    /// `Invalid` for a reason that is too long; `StreamsMissing`, and what storing says.
    pub async fn pause_queues(
        &self,
        capability: &Capability,
        sources: &[Source],
        pause: &PauseWish,
    ) -> Result<(), Error> {
        check_reason(pause.reason.as_deref())?;
        self.wish(capability, sources, |wish| {
            wish.paused = Some(pause.clone());
            wish.resumed_at = None;
        })
        .await
    }

    /// Wishes that these queues run again, whoever paused them, also by hand.
    ///
    /// # Errors
    /// `StreamsMissing`, and what storing says.
    pub async fn resume_queues(&self, capability: &Capability, sources: &[Source]) -> Result<(), Error> {
        let at = self.now().await?;
        self.wish(capability, sources, |wish| {
            wish.paused = None;
            wish.resumed_at = Some(at);
        })
        .await
    }

    /// Wishes that at most so many requests of each of these queues are in hand at once, in the whole fleet; none takes
    /// every limit away, also one set by hand.
    ///
    /// # Errors
    /// `Invalid` for a limit that is none; `StreamsMissing`, and what storing says.
    pub async fn limit_queues(
        &self,
        capability: &Capability,
        sources: &[Source],
        limit: Option<&LimitWish>,
    ) -> Result<(), Error> {
        if let Some(limit) = limit {
            check_reason(limit.reason.as_deref())?;
            if limit.max == 0 || limit.max > LIMIT_MAX {
                let message = format!("a limit is from 1 to {LIMIT_MAX}; to let nothing through, pause the queue");
                return Err(Error::invalid(message));
            }
        }
        let at = self.now().await?;
        self.wish(capability, sources, |wish| {
            wish.limit = limit.cloned();
            wish.unlimited_at = limit.is_none().then_some(at);
        })
        .await
    }

    /// Waits until these queues are as it is wished, and says of each what became of it. A queue whose consumer is not
    /// there is not waited for.
    ///
    /// # Errors
    /// `StreamsMissing`, and what asking says.
    pub async fn fulfilled(
        &self,
        capability: &Capability,
        sources: &[Source],
        within: Duration,
    ) -> Result<Vec<(Source, Fulfilment)>, Error> {
        let until = Instant::now() + within;
        loop {
            let mut found = Vec::new();
            let (wishes, breakers) = (self.wishes().await?, self.breakers().await?);
            let breakers = breakers.iter().map(|one| &one.breaker);
            let breakers: Vec<&Breaker> = breakers.filter(|breaker| breaker.pauses.contains(capability)).collect();
            for source in sources {
                let wish = wishes.get(&(capability.clone(), *source)).cloned().unwrap_or_default();
                found.push((*source, self.fulfilment(capability, *source, &wish, &breakers).await?));
            }
            let is_pending = found.iter().any(|(_, fulfilment)| *fulfilment == Fulfilment::Pending);
            if !is_pending || Instant::now() >= until {
                return Ok(found);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn fulfilment(
        &self,
        capability: &Capability,
        source: Source,
        wish: &QueueWish,
        breakers: &[&Breaker],
    ) -> Result<Fulfilment, Error> {
        let consumer = worker_consumer(self.namespace(), capability, source, 1);
        let state = match topology::consumer_state(self.connection(), &consumer.stream, &consumer.name).await {
            Ok(state) => state,
            Err(error) if error.kind() == broker::Kind::NotFound => return Ok(Fulfilment::Unserved),
            Err(error) => return Err(self.explained(error, &consumer.stream).await),
        };
        let wanted = wanted(wish, breakers.iter().copied(), state.at);
        let is_paused = match wanted.paused_until {
            Some(until) => state.paused_until.is_some_and(|found| found >= until),
            None => wish.resumed_at.is_none() || state.paused_until.is_none(),
        };
        let max = state.consumer.max_ack_pending;
        let is_limited = match wanted.max_ack_pending {
            Some(wanted) => max == i64::from(wanted),
            None => wish.unlimited_at.is_none() || max == consumer.max_ack_pending,
        };
        Ok(if is_paused && is_limited { Fulfilment::InForce } else { Fulfilment::Pending })
    }

    /// Changes what is wished of each queue, whoever else does so at the same time.
    async fn wish(
        &self,
        capability: &Capability,
        sources: &[Source],
        change: impl Fn(&mut QueueWish) + Send + Sync,
    ) -> Result<(), Error> {
        let name = &self.names().desired;
        let bucket = self.bucket(name);
        for source in sources {
            let key = desired::queue_key(capability, *source);
            let changed = bucket.change(&key, None, |found| {
                // A wish that cannot be read is replaced.
                let mut wish: QueueWish =
                    found.and_then(|found| serde_json::from_slice(found).ok()).unwrap_or_default();
                change(&mut wish);
                // Plain data with text keys always has a JSON form.
                serde_json::to_vec(&wish).unwrap_or_default().into()
            });
            if let Err(error) = changed.await {
                return Err(self.explained(error, &Self::bucket_stream(name)).await);
            }
        }
        Ok(())
    }
}

fn check_reason(reason: Option<&str>) -> Result<(), Error> {
    match reason {
        Some(reason) if reason.len() > REASON_BYTES_MAX => {
            Err(Error::invalid(format!("the reason has {} bytes; {REASON_BYTES_MAX} are kept", reason.len())))
        }
        _ => Ok(()),
    }
}
