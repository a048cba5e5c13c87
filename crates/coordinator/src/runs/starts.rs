//! Starts of runs: whoever is given one checks it and writes the run's first fact, which is all that a start needs.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use broker::{Delivery, Disposition, Error, Kind, PullEnd, PullEvent, PullInbox, PullRequest, topology};
use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use protocol::topology::starts_consumer;
use tokio_util::sync::CancellationToken;

use super::{begin::Begin, means::Means};

/// Starts that are handled at once.
const AT_ONCE: usize = 64;

const EXPIRES: Duration = Duration::from_secs(30);
const HEARTBEAT: Duration = Duration::from_secs(5);

/// Without a word from the broker for this long, a pull is taken as lost.
const SILENCE_MAX: Duration = Duration::from_secs(15);

/// The wait before another inbox is opened, whatever ended the last one.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// How long a start is put off that could not be handled.
const PUT_OFF: Duration = Duration::from_millis(500);

/// How often a start asks again that waits because as many runs are alive as there may be.
const PLACE_ASKED_EVERY: Duration = Duration::from_secs(1);

/// Takes starts.
pub(super) struct Starts {
    begin: Arc<Begin>,
    means: Arc<Means>,
}

impl Starts {
    pub(super) fn new(means: &Arc<Means>) -> Self {
        Self { begin: Arc::new(Begin::new(means)), means: Arc::clone(means) }
    }

    /// Takes starts until `stop`.
    pub(super) async fn keep(self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            tokio::select! {
                ended = self.follow() => {
                    if let Err(error) = ended {
                        tracing::warn!(%error, "starts not followed");
                    }
                    tokio::select! { () = tokio::time::sleep(AGAIN_AFTER) => {}, () = stop.cancelled() => {} }
                }
                // What is in hand is delivered again.
                () = stop.cancelled() => {}
            }
        }
    }

    async fn follow(&self) -> Result<(), Error> {
        let consumer = starts_consumer(self.means.post.namespace());
        topology::ensure_consumer(&self.means.post.connection, &consumer).await?;
        let mut inbox = PullInbox::open(&self.means.post.connection).await?;
        let mut jobs: FuturesUnordered<BoxFuture<'static, ()>> = FuturesUnordered::new();
        let (mut tag, mut asked) = (0, 0_usize);
        let mut heard_at = Instant::now();
        loop {
            // One pull at a time, so that its end says how much is asked for: nothing.
            if asked == 0 && jobs.len() < AT_ONCE {
                (tag, asked) = (tag + 1, AT_ONCE - jobs.len());
                let request = PullRequest::Stream { batch: asked, expires: EXPIRES, heartbeat: HEARTBEAT };
                inbox.pull(&consumer, request, tag).await?;
                heard_at = Instant::now();
            }
            let silent_at = heard_at + SILENCE_MAX;
            tokio::select! {
                event = inbox.next() => {
                    heard_at = Instant::now();
                    match event {
                        Some(PullEvent::Delivered(delivery)) => {
                            asked = asked.saturating_sub(1);
                            jobs.push(handle(Arc::clone(&self.begin), *delivery).boxed());
                        }
                        // It has to be made anew; what is in hand is delivered again.
                        Some(PullEvent::Ended { end: PullEnd::Gone, .. }) => {
                            return Err(Error::new(Kind::NotFound, "the consumer is gone; it is made anew"));
                        }
                        Some(PullEvent::Ended { tag: ended, .. }) if ended == tag => asked = 0,
                        Some(PullEvent::Ended { .. } | PullEvent::Alive { .. }) => {}
                        None => return Ok(()),
                    }
                }
                Some(()) = jobs.next(), if !jobs.is_empty() => {}
                // What is asked for does not come while all hands are full, and need not be heard of.
                () = tokio::time::sleep_until(silent_at.into()), if asked > 0 => return Ok(()),
            }
        }
    }
}

async fn handle(begin: Arc<Begin>, delivery: Delivery) {
    let connection = begin.connection();
    match begin.take(&delivery).await {
        Ok(true) => delivery.ack(connection).await,
        Ok(false) => delivery.nak(connection, PLACE_ASKED_EVERY).await,
        Err(error) => {
            let is_final = error.disposition() == Disposition::Reject;
            tracing::warn!(sequence = delivery.sequence, %error, is_final, "start not handled yet");
            delivery.nak(connection, if is_final { 20 * PUT_OFF } else { PUT_OFF }).await;
        }
    }
}
