//! Messages that the broker gave up on: the last resort, behind the worker's own attempts and poison marks.
//!
//! How such a message shows (seen on nats-server 2.15.1): a delivery whose acknowledgement stays out remains
//! ack-pending, however long its deadline has passed, until somebody pulls. Only then, with `max_deliver` reached, the
//! broker sends its advisory and takes the message out of ack-pending. From then on it is neither pending nor
//! ack-pending, counts in the subject's messages, and is delivered to nobody. The acknowledgement floor does not move
//! at that moment; it passes the message when a later one is acknowledged. So of what is still in the stream, given up is
//! - what lies at or below the floor,
//! - and, where nothing at all is ack-pending, what lies at or below the last delivery.
//!
//! There may also lie what was acknowledged, and came back with a loss of power: the broker writes to its disk that a message
//! is gone apart from the consumer's state, and later, also where every message is flushed. Its outcome or its retry is
//! stored.
//!
//! Behind a message that is in somebody's hands for long, one that was given up waits until the floor passes it. That is
//! the price of never touching what is only slow.

mod advised;
mod burial;

use std::{collections::BTreeSet, time::Duration};

use broker::{Disposition, Error, topology::ConsumerState};

pub(crate) use advised::Advised;
pub(crate) use burial::Burial;

use crate::{
    duty::Duty,
    post::Post,
    queues::{Queue, queues},
};

/// Messages of one queue that one look reads.
const READ_MAX: usize = 100;

/// Works off what the broker gave up, by looking: the guarantee behind the advisories.
pub(crate) struct DeadLetters {
    post: Post,
    burial: Burial,
    /// Stream and sequence of what the look before found.
    before: BTreeSet<(String, u64)>,
}

impl DeadLetters {
    pub(crate) fn new(post: &Post) -> Self {
        Self { post: post.clone(), burial: Burial::new(post), before: BTreeSet::new() }
    }

    async fn look_at(
        &self,
        queue: &Queue,
        state: &ConsumerState,
        found: &mut BTreeSet<(String, u64)>,
    ) -> Result<(), Error> {
        let through = given_up_through(state);
        if through == 0 {
            return Ok(());
        }
        let (stream, filter) = (&queue.consumer.stream, &queue.consumer.filter);
        let page = self.post.reader.page(stream, filter, 1, READ_MAX).await?;
        for message in page.messages.into_iter().take_while(|message| message.sequence <= through) {
            let key = (stream.clone(), message.sequence);
            if !self.before.contains(&key) {
                found.insert(key);
                continue;
            }
            // Where the broker never gives up, only what came back can lie there.
            let worked_off = match state.consumer.max_deliver {
                Some(_) => self.burial.bury(queue, message).await,
                None => self.burial.clear(queue, message).await,
            };
            match worked_off {
                // The others are worked off all the same, and this one is tried again by the next look.
                Err(error) if error.disposition() != Disposition::Fatal => {
                    tracing::warn!(consumer = queue.consumer.name, sequence = key.1, %error, "not worked off yet");
                    found.insert(key);
                }
                ended => ended?,
            }
        }
        Ok(())
    }
}

impl Duty for DeadLetters {
    const NAME: &'static str = "dead-letters";

    fn begin(&mut self) {
        self.before.clear();
    }

    async fn look(&mut self) -> Result<Option<Duration>, Error> {
        self.post.now().await?;
        let mut found = BTreeSet::new();
        for queue in queues(&self.post).await? {
            let Some(state) = queue.state.as_ref() else { continue };
            if let Err(error) = self.look_at(&queue, state, &mut found).await {
                tracing::warn!(consumer = queue.consumer.name, %error, "given up messages of a queue not worked off");
            }
        }
        self.before = found;
        Ok(None)
    }
}

/// The sequence up to which whatever is still in the stream was given up by this consumer. A message that is slow, put
/// off, or about to be redelivered is ack-pending, and so above the floor.
pub(crate) fn given_up_through(state: &ConsumerState) -> u64 {
    if state.ack_pending == 0 { state.delivered.max(state.ack_floor) } else { state.ack_floor }
}

#[cfg(test)]
mod tests {
    use protocol::{Lane, topology::Source};

    use super::*;
    use crate::queues::tests::queue;

    #[test]
    fn what_may_be_in_hands_is_not_given_up() {
        for (ack_floor, delivered, ack_pending, through) in [
            (0, 0, 0, 0),
            (3, 5, 2, 3),
            (0, 5, 1, 0),
            (0, 5, 0, 5),
            (5, 5, 0, 5),
            // A consumer that begins above what the stream has lost has a floor and no delivery.
            (7, 0, 0, 7),
        ] {
            let state = queue("echo", Source::Lane(Lane::Normal), 1, 0, ack_pending).state.unwrap();
            let state = ConsumerState { ack_floor, delivered, ..state };
            assert_eq!(given_up_through(&state), through, "{state:?}");
        }
    }
}
