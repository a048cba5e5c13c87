//! The yardstick: what a fleet asks of the broker, asked by the client library alone. A connection for each role, as the
//! processes of a fleet have; streams of its own, on disk, with as many replicas as the fleet has, deleted in the end.

mod requests;
mod runs;
mod timers;

use std::{fmt::Display, time::Duration};

use async_nats::{
    Client, HeaderMap,
    jetstream::{
        self, Context,
        consumer::PullConsumer,
        stream::{Config, Republish, RetentionPolicy, Stream},
    },
};
use broker::{Connection, Options, task};

use crate::Error;

/// How long the broker may say nothing.
const PATIENCE: Duration = Duration::from_secs(30);

/// Deliveries without acknowledgement: more than are ever in flight.
const ACK_PENDING_MAX: i64 = 10_000;

/// Messages of one pull.
const BATCH: usize = 256;

/// What only the first message of a subject passes.
const EXPECTED_LAST: &str = "Nats-Expected-Last-Subject-Sequence";
const MESSAGE_ID: &str = "Nats-Msg-Id";
const ID: &str = "Id";

/// The streams of one yardstick, and who serves them. Dropped, the serving ends.
#[derive(Debug)]
pub(crate) struct Yardstick {
    client: Client,
    context: Context,
    replicas: usize,
    streams: Vec<String>,
    serving: Vec<task::Owned<()>>,
}

impl Yardstick {
    async fn open(options: &Options, replicas: usize) -> Result<Self, Error> {
        let client = Connection::bare(options).await?;
        let context = context(&client);
        Ok(Self { client, context, replicas, streams: Vec::new(), serving: Vec::new() })
    }

    /// A stream, empty.
    async fn stream(&mut self, name: &str, subjects: &[&str], is_queue: bool) -> Result<Stream, Error> {
        let told = subjects.iter().find(|subject| subject.starts_with("bare.outcome.")).map(|subject| Republish {
            source: (*subject).to_owned(),
            destination: "bare.told.{{wildcard(1)}}".to_owned(),
            headers_only: false,
        });
        let config = Config {
            name: name.to_owned(),
            subjects: subjects.iter().map(|subject| (*subject).to_owned()).collect(),
            retention: if is_queue { RetentionPolicy::WorkQueue } else { RetentionPolicy::Limits },
            num_replicas: self.replicas,
            republish: told,
            allow_direct: true,
            allow_message_schedules: subjects.len() > 1,
            ..Config::default()
        };
        // What an earlier one left.
        let _ = self.context.delete_stream(name).await;
        self.streams.push(name.to_owned());
        self.context.create_stream(config).await.map_err(Error::of_yardstick)
    }

    /// Deletes its streams.
    pub(crate) async fn close(self) {
        drop(self.serving);
        for name in &self.streams {
            let _ = self.context.delete_stream(name).await;
        }
    }
}

async fn consumer(stream: &Stream, name: &str, filter: &str) -> Result<PullConsumer, Error> {
    let config = jetstream::consumer::pull::Config {
        durable_name: Some(name.to_owned()),
        filter_subject: filter.to_owned(),
        max_ack_pending: ACK_PENDING_MAX,
        ..Default::default()
    };
    stream.create_consumer(config).await.map_err(Error::of_yardstick)
}

fn context(client: &Client) -> Context {
    let mut context = jetstream::new(client.clone());
    context.set_timeout(PATIENCE);
    context
}

/// Publishes, and waits until it is stored.
async fn publish(context: &Context, subject: String, headers: HeaderMap, body: bytes::Bytes) -> Result<(), Error> {
    let ack = context.publish_with_headers(subject, headers, body).await.map_err(Error::of_yardstick)?;
    ack.await.map(|_| ()).map_err(Error::of_yardstick)
}

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.insert(*name, *value);
    }
    headers
}

/// What goes wrong in a serving loop ends it; whoever waits for its work says so after a while.
fn note<T, E: Display>(result: Result<T, E>) -> Option<T> {
    result.inspect_err(|error| eprintln!("yardstick: {error}")).ok()
}

/// Waits for what is told, not for ever.
async fn told(subscriber: &mut async_nats::Subscriber) -> Result<(), Error> {
    use futures_util::StreamExt;
    let told = tokio::time::timeout(PATIENCE, subscriber.next()).await;
    told.ok().flatten().map(|_| ()).ok_or_else(|| Error::Yardstick("nothing was told in time".to_owned()))
}
