//! Follows consumers that all coordinators share, many deliveries at once.

use std::time::{Duration, Instant};

use broker::{Delivery, Error, Kind, PullEnd, PullEvent, PullInbox, PullRequest, SideConnection, topology};
use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use protocol::topology::Consumer;

use crate::post::Post;

/// Deliveries of one consumer that are handled at once.
const AT_ONCE: usize = 64;

const EXPIRES: Duration = Duration::from_secs(30);
const HEARTBEAT: Duration = Duration::from_secs(5);

/// Without a word from the broker for this long, a pull is taken as lost.
const SILENCE_MAX: Duration = Duration::from_secs(15);

/// One consumer and what was asked of it.
struct Feed<'a> {
    consumer: &'a Consumer,
    tag: u64,
    /// What the pull that is open may still bring.
    asked: usize,
    in_hand: usize,
    heard_at: Instant,
}

/// Hands over what these consumers bring, each as if it were alone, until they have to be asked anew. What is in hand when this
/// is dropped is delivered again.
pub(super) async fn follow<F>(post: &Post, consumers: &[Consumer], handle: F) -> Result<(), Error>
where
    F: Fn(Delivery) -> BoxFuture<'static, ()> + Send,
{
    for consumer in consumers {
        topology::ensure_consumer(&post.connection, consumer).await?;
    }
    let mut inbox = PullInbox::open_apart(&SideConnection::new(&post.connection), consumers, &post.reader).await?;
    let mut feeds: Vec<Feed<'_>> = consumers.iter().map(Feed::new).collect();
    let mut jobs: FuturesUnordered<BoxFuture<'static, usize>> = FuturesUnordered::new();
    let mut tag = 0;
    loop {
        // One pull of each at a time, so that its end says how much is asked for: nothing.
        for feed in feeds.iter_mut().filter(|feed| feed.asked == 0 && feed.in_hand < AT_ONCE) {
            tag += 1;
            feed.pull(&inbox, tag).await?;
        }
        let silent_at = feeds.iter().filter(|feed| feed.asked > 0).map(|feed| feed.heard_at + SILENCE_MAX).min();
        tokio::select! {
            event = inbox.next() => match event {
                Some(PullEvent::Delivered(delivery)) => {
                    let of = |feed: &Feed<'_>| {
                        feed.consumer.name == delivery.consumer() && feed.consumer.stream == delivery.stream()
                    };
                    let Some(index) = feeds.iter().position(of) else { continue };
                    feeds[index].took_one();
                    jobs.push(handle(*delivery).map(move |()| index).boxed());
                }
                // It has to be made anew; what is in hand is delivered again.
                Some(PullEvent::Ended { end: PullEnd::Gone, .. }) => {
                    return Err(Error::new(Kind::NotFound, "the consumer is gone; it is made anew"));
                }
                Some(PullEvent::Ended { tag, .. }) => {
                    feeds.iter_mut().filter(|feed| feed.tag == tag).for_each(|feed| feed.asked = 0);
                }
                Some(PullEvent::Alive { tag }) => {
                    feeds.iter_mut().filter(|feed| feed.tag == tag).for_each(|feed| feed.heard_at = Instant::now());
                }
                Some(PullEvent::Broke) => feeds.iter_mut().for_each(|feed| feed.asked = 0),
                None => return Ok(()),
            },
            Some(index) = jobs.next(), if !jobs.is_empty() => feeds[index].in_hand -= 1,
            // What is asked for does not come while all hands are full, and need not be heard of.
            () = sleep_until(silent_at), if silent_at.is_some() => return Ok(()),
        }
    }
}

async fn sleep_until(at: Option<Instant>) {
    if let Some(at) = at {
        tokio::time::sleep_until(at.into()).await;
    }
}

impl<'a> Feed<'a> {
    fn new(consumer: &'a Consumer) -> Self {
        Self { consumer, tag: 0, asked: 0, in_hand: 0, heard_at: Instant::now() }
    }

    async fn pull(&mut self, inbox: &PullInbox, tag: u64) -> Result<(), Error> {
        (self.tag, self.asked, self.heard_at) = (tag, AT_ONCE - self.in_hand, Instant::now());
        let request = PullRequest::Stream { batch: self.asked, expires: EXPIRES, heartbeat: HEARTBEAT };
        inbox.pull(self.consumer, request, tag).await
    }

    fn took_one(&mut self) {
        self.asked = self.asked.saturating_sub(1);
        self.in_hand += 1;
        self.heard_at = Instant::now();
    }
}
