//! Following a durable consumer that all coordinators share: one delivery at a time, and no lease.

use std::{future::Future, time::Duration};

use broker::{Delivery, Error, PullEnd, PullEvent, PullInbox, PullRequest, SideConnection, topology};
use protocol::topology::Consumer;
use tokio_util::sync::CancellationToken;

use crate::post::Post;

const PULL: PullRequest = PullRequest::Wait { expires: Duration::from_secs(30), heartbeat: Duration::from_secs(5) };

/// Without a word from the broker for this long, a pull is taken as lost.
const SILENCE_MAX: Duration = Duration::from_secs(15);

/// The wait before another inbox is opened, whatever ended the last one; twice as long each time in a row.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
const AGAIN_AFTER_MAX: Duration = Duration::from_secs(60);

/// What is done with the deliveries of one shared consumer.
pub(crate) trait Handler: Send + Sync + 'static {
    /// Its name in logs.
    const NAME: &'static str;

    /// Handles one, to its acknowledgement. Whatever is dropped half way is delivered again. Its headers may be such that
    /// nobody can read them, see [`Delivery::unreadable`].
    fn handle(&self, delivery: &Delivery) -> impl Future<Output = ()> + Send;
}

/// Hands over deliveries until `stop`.
pub(crate) async fn keep<H: Handler>(handler: H, post: Post, consumer: Consumer, stop: CancellationToken) {
    let mut wait = AGAIN_AFTER;
    while !stop.is_cancelled() {
        tokio::select! {
            ended = follow(&handler, &post, &consumer) => {
                match ended {
                    Ok(()) => wait = AGAIN_AFTER,
                    Err(error) => {
                        tracing::warn!(duty = H::NAME, %error, again_in = ?wait, "deliveries not followed");
                        wait = (wait * 2).min(AGAIN_AFTER_MAX);
                    }
                }
                tokio::select! { () = tokio::time::sleep(wait) => {}, () = stop.cancelled() => {} }
            }
            // What is in hand is delivered again.
            () = stop.cancelled() => {}
        }
    }
}

async fn follow<H: Handler>(handler: &H, post: &Post, consumer: &Consumer) -> Result<(), Error> {
    topology::ensure_consumer(&post.connection, consumer).await?;
    let mut inbox =
        PullInbox::open_apart(&SideConnection::new(&post.connection), std::slice::from_ref(consumer), &post.reader)
            .await?;
    for tag in 1.. {
        inbox.pull(consumer, PULL, tag).await?;
        loop {
            let Ok(event) = tokio::time::timeout(SILENCE_MAX, inbox.next()).await else { return Ok(()) };
            match event {
                Some(PullEvent::Delivered(delivery)) => {
                    handler.handle(&delivery).await;
                    break;
                }
                // Nobody answers a pull of a consumer that is gone but with this, for ever: it has to be made anew.
                Some(PullEvent::Ended { end: PullEnd::Gone, .. }) => {
                    tracing::warn!(duty = H::NAME, consumer = consumer.name, "the consumer is gone; it is made anew");
                    return Ok(());
                }
                Some(PullEvent::Ended { tag: ended, .. }) if ended == tag => break,
                Some(PullEvent::Broke) => break,
                Some(PullEvent::Ended { .. } | PullEvent::Alive { .. }) => {}
                None => return Ok(()),
            }
        }
    }
    Ok(())
}
