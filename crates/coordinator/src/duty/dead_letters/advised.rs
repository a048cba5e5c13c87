//! The broker's own word on what it gave up. It is only quicker than looking: advisories get lost with a leader.
//!
//! All coordinators share one durable consumer, so there is no lease.

use std::time::Duration;

use broker::{Delivery, Error, Kind, topology};
use protocol::{
    Namespace,
    subject::Subject,
    topology::{Source, advisories_consumer, worker_consumer},
};
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use super::{burial::Burial, given_up_through};
use crate::{duty::follow, post::Post, queues::Queue};

/// How long a message must be found given up, from the advisory to the look that acts on it.
const SEEN_FOR: Duration = Duration::from_secs(1);

/// How long an advisory is put off whose message cannot be judged yet.
const PUT_OFF: Duration = Duration::from_secs(10);

/// An advisory that was put off this often is left to the periodic look.
const DELIVERIES_MAX: u64 = 30;

/// Works off what advisories name.
pub(crate) struct Advised {
    post: Post,
    burial: Burial,
}

#[derive(Debug, PartialEq, Deserialize)]
struct Advisory {
    stream: String,
    consumer: String,
    stream_seq: u64,
}

/// What becomes of an advisory.
#[derive(Debug, PartialEq, Eq)]
enum Handled {
    Done,
    Later(Duration),
}

impl Advised {
    pub(crate) fn new(post: &Post) -> Self {
        Self { post: post.clone(), burial: Burial::new(post) }
    }

    /// Handles advisories until `stop`. Where they cannot be followed, what they name is found by looking.
    pub(crate) async fn keep(self, stop: CancellationToken) {
        let (post, consumer) = (self.post.clone(), advisories_consumer(self.post.namespace()));
        follow::keep(self, post, consumer, stop).await;
    }

    async fn work_off(&self, advisory: &Advisory, delivered: u64) -> Result<Handled, Error> {
        if !self.post.reader.is_at_leader(&advisory.stream, advisory.stream_seq).await? {
            return Ok(Handled::Done);
        }
        let state = match topology::consumer_state(&self.post.connection, &advisory.stream, &advisory.consumer).await {
            Ok(state) => state,
            // The next consumer of that name delivers the message again.
            Err(error) if error.kind() == Kind::NotFound => return Ok(Handled::Done),
            Err(error) => return Err(error),
        };
        if advisory.stream_seq > given_up_through(&state) {
            return Ok(Handled::Later(PUT_OFF));
        }
        // The advisory is the first look, and this the second only if it is not the same moment.
        if delivered == 1 {
            return Ok(Handled::Later(SEEN_FOR));
        }
        let found = self.post.reader.by_sequence(&advisory.stream, advisory.stream_seq).await?;
        let Some(message) = found else { return Ok(Handled::Later(PUT_OFF)) };
        let Some(queue) = queue_of(self.post.namespace(), advisory, &message.subject, state) else {
            return Ok(Handled::Done);
        };
        self.post.now().await?;
        self.burial.bury(&queue, message).await?;
        Ok(Handled::Later(SEEN_FOR))
    }
}

impl follow::Handler for Advised {
    const NAME: &'static str = "advisories";

    async fn handle(&self, delivery: &Delivery) {
        let handled = match serde_json::from_slice::<Advisory>(&delivery.message.body) {
            Ok(advisory) => self.work_off(&advisory, delivery.delivered).await.unwrap_or_else(|error| {
                tracing::warn!(sequence = advisory.stream_seq, %error, "given up message not worked off yet");
                Handled::Later(PUT_OFF)
            }),
            Err(_) => Handled::Done,
        };
        match handled {
            Handled::Later(delay) if delivery.delivered < DELIVERIES_MAX => {
                delivery.nak(&self.post.connection, delay).await
            }
            _ => delivery.ack(&self.post.connection).await,
        }
    }
}

/// The queue that an advisory is about, if it is one of work.
fn queue_of(
    namespace: &Namespace,
    advisory: &Advisory,
    subject: &str,
    state: topology::ConsumerState,
) -> Option<Queue> {
    let (capability, source) = match Subject::parse(namespace, subject)? {
        Subject::Request { lane, capability } => (capability, Source::Lane(lane)),
        Subject::Unique { capability, .. } => (capability, Source::Unique),
        _ => return None,
    };
    let consumer = worker_consumer(namespace, &capability, source, 1);
    let is_its_own = consumer.stream == advisory.stream && consumer.name == advisory.consumer;
    is_its_own.then_some(Queue { capability, source, messages: 1, consumer, state: Some(state) })
}

#[cfg(test)]
mod tests {
    use protocol::Lane;

    use super::*;
    use crate::queues::tests::queue;

    #[test]
    fn an_advisory_names_its_queue() {
        let body = br#"{"type":"io.nats.jetstream.advisory.v1.max_deliver","id":"x","timestamp":"2026-11-20T07:47:20Z",
            "stream":"FLEET_REQUESTS","consumer":"echo_urgent","stream_seq":2,"deliveries":100}"#;
        let advisory: Advisory = serde_json::from_slice(body).unwrap();
        assert_eq!(advisory.stream_seq, 2);
        let of = |subject: &str| {
            let state = queue("echo", Source::Lane(Lane::Urgent), 1, 0, 0).state.unwrap();
            let queue = queue_of(&Namespace::default(), &advisory, subject, state)?;
            Some((queue.capability.to_string(), queue.source))
        };
        assert_eq!(of("fleet.urgent.echo"), Some(("echo".to_owned(), Source::Lane(Lane::Urgent))));
        for other in [
            "fleet.later.a",
            "fleet.unique.echo.key",
            "fleet.start.x",
            "else.request.echo",
            "fleet.request.echo",
            "fleet.urgent.other",
        ] {
            assert_eq!(of(other), None, "{other}");
        }
    }
}
