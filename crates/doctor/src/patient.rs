//! What several checks look at, asked for once.

use std::{collections::BTreeMap, time::Duration};

use broker::{
    Bucket, Connection, Kind, Publisher, Reader,
    topology::{
        self,
        inspect::{self, ConsumerFacts, StoreFacts, StreamFacts},
    },
};
use client::{Client, ErrorKind};
use futures_util::future::join_all;
use protocol::{
    Namespace,
    registry::AgentEntry,
    subject::filter,
    time::Timestamp,
    topology::{Names, Settings, streams},
};
use tokio::sync::OnceCell;

use crate::{
    Monitor,
    queue::{Queue, queues},
};

/// How long a stream may go without an answer before it counts as one that does not: an election takes up to nine seconds.
const STREAM_WITHIN: Duration = Duration::from_secs(9);

/// How far two looks are apart, where one alone may have caught a moment.
const LOOKS_APART: Duration = Duration::from_millis(1_500);

/// One sentence for all checks, which the check of the streams explains.
const MISSING: &str = "a stream that has to be looked at is not there, or lets nobody look: see streams and drift";

/// Why something could not be examined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unknown {
    /// In one sentence.
    pub reason: String,
    /// Whether the broker does not allow it to us.
    pub is_forbidden: bool,
}

/// What was learnt, or why it could not be.
pub(crate) type Fact<T> = Result<T, Unknown>;

/// A fleet under examination.
#[derive(Debug)]
pub struct Patient {
    client: Client,
    names: Names,
    monitor: Option<Monitor>,
    is_thorough: bool,
    streams: OnceCell<BTreeMap<String, Result<StreamFacts, broker::Error>>>,
    queues: OnceCell<Fact<Vec<Queue>>>,
    queues_again: OnceCell<Fact<Vec<Queue>>>,
    agents: OnceCell<Fact<Vec<AgentEntry>>>,
    store: OnceCell<Fact<StoreFacts>>,
    without_jetstream: OnceCell<bool>,
}

impl Patient {
    /// The fleet that this client speaks to.
    pub fn new(client: Client) -> Self {
        Self {
            names: Names::of(client.namespace()),
            client,
            monitor: None,
            is_thorough: false,
            streams: OnceCell::new(),
            queues: OnceCell::new(),
            queues_again: OnceCell::new(),
            agents: OnceCell::new(),
            store: OnceCell::new(),
            without_jetstream: OnceCell::new(),
        }
    }

    /// With the monitoring port of its server, which tells what the broker says to no ordinary account.
    #[must_use]
    pub fn with_monitor(mut self, monitor: Option<Monitor>) -> Self {
        self.monitor = monitor;
        self
    }

    /// Whatever is read is read to its end, however long that takes. Defaults to a bounded part of it.
    #[must_use]
    pub fn thoroughly(mut self) -> Self {
        self.is_thorough = true;
        self
    }

    /// How much is read of what `usual` messages are read of else.
    pub(crate) fn read_max(&self, usual: usize) -> usize {
        if self.is_thorough { usize::MAX } else { usual }
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    pub(crate) fn connection(&self) -> &Connection {
        self.client.connection()
    }

    pub(crate) fn namespace(&self) -> &Namespace {
        self.client.namespace()
    }

    pub(crate) fn names(&self) -> &Names {
        &self.names
    }

    pub(crate) fn reader(&self) -> Reader {
        Reader::new(self.connection())
    }

    pub(crate) fn bucket(&self, name: &str) -> Bucket {
        Bucket::new(self.connection(), &Publisher::new(self.connection()), name)
    }

    /// Now, on the broker's clock.
    pub(crate) async fn now(&self) -> Fact<Timestamp> {
        Ok(self.client.now().await?)
    }

    /// Every stream and bucket of the topology, by name, as it answers.
    pub(crate) async fn all_streams(&self) -> &BTreeMap<String, Result<StreamFacts, broker::Error>> {
        let ask = || async {
            let wanted = streams(self.namespace(), &Settings::default());
            let asked = wanted.into_iter().map(|stream| async move {
                let facts = inspect::stream(self.connection(), &stream.name, STREAM_WITHIN).await;
                (stream.name, facts)
            });
            join_all(asked).await.into_iter().collect()
        };
        self.streams.get_or_init(ask).await
    }

    /// Whether any stream may be looked at: what is not seen is not well for that.
    pub(crate) async fn is_sighted(&self) -> Fact<()> {
        let all = self.all_streams().await;
        let refused =
            all.values().filter_map(|facts| facts.as_ref().err()).find(|error| error.kind() == Kind::Forbidden);
        match refused {
            Some(error) if all.values().all(Result::is_err) => Err(error.clone().into()),
            _ => Ok(()),
        }
    }

    /// Whether this account has no JetStream: whatever else is looked at follows from that.
    pub(crate) async fn is_without_jetstream(&self) -> bool {
        /// The broker's word for it, where it says one.
        const NOT_ENABLED: [u64; 2] = [10_039, 10_076];
        let ask = || async {
            let kind = inspect::account(self.connection()).await.map_err(|error| error.kind()).err();
            matches!(kind, Some(Kind::NoResponders))
                || matches!(kind, Some(Kind::Api(code)) if NOT_ENABLED.contains(&code))
        };
        *self.without_jetstream.get_or_init(ask).await
    }

    /// The streams that are there and answer.
    pub(crate) async fn streams(&self) -> Vec<&StreamFacts> {
        self.all_streams().await.values().filter_map(|facts| facts.as_ref().ok()).collect()
    }

    /// One of them.
    pub(crate) async fn stream(&self, name: &str) -> Fact<&StreamFacts> {
        match self.all_streams().await.get(name) {
            Some(Ok(facts)) => Ok(facts),
            Some(Err(error)) => Err(Unknown::from(error.clone().during(name))),
            None => Err(Unknown { reason: format!("{name} is no stream of the topology"), is_forbidden: false }),
        }
    }

    /// The settings that the streams were made with, as far as they are there.
    pub(crate) async fn settings(&self) -> Settings {
        let defaults = Settings::default();
        let all = self.all_streams().await;
        let of = |name: &String| all.get(name).and_then(|facts| facts.as_ref().ok()).map(|facts| &facts.stream);
        let kept = |name: &String, default: Duration| of(name).and_then(|stream| stream.max_age).unwrap_or(default);
        let names = &self.names;
        Settings {
            replicas: of(&names.requests).map_or(defaults.replicas, |stream| stream.replicas),
            group_commit: of(&names.requests).map_or(defaults.group_commit, |stream| stream.group_commit),
            outcomes_kept: kept(&names.outcomes, defaults.outcomes_kept),
            dead_kept: kept(&names.dead, defaults.dead_kept),
            events_kept: kept(&names.events, defaults.events_kept),
            logs_kept: kept(&names.logs, defaults.logs_kept),
            logs_bytes_max: of(&names.logs).and_then(|stream| stream.max_bytes).unwrap_or(defaults.logs_bytes_max),
            audit_kept: kept(&names.audit, defaults.audit_kept),
        }
    }

    /// Every queue that has messages or a consumer.
    pub(crate) async fn queues(&self) -> Fact<&[Queue]> {
        shared(self.queues.get_or_init(|| self.look_at_queues()).await)
    }

    /// The same a moment later.
    pub(crate) async fn queues_again(&self) -> Fact<&[Queue]> {
        let again = || async {
            self.queues().await?;
            tokio::time::sleep(LOOKS_APART).await;
            self.look_at_queues().await
        };
        shared(self.queues_again.get_or_init(again).await)
    }

    async fn look_at_queues(&self) -> Fact<Vec<Queue>> {
        let (requests, unique) = (&self.names.requests, &self.names.unique);
        let mut counts = BTreeMap::new();
        for filter in filter::requests(self.namespace()) {
            counts.extend(topology::subject_counts(self.connection(), requests, &filter).await?);
        }
        let filter = filter::unique(self.namespace(), None);
        counts.extend(topology::subject_counts(self.connection(), unique, &filter).await?);
        let mut consumers: Vec<ConsumerFacts> = inspect::consumers(self.connection(), requests).await?;
        consumers.extend(inspect::consumers(self.connection(), unique).await?);
        Ok(queues(self.namespace(), &counts, &consumers))
    }

    /// The agents that are registered.
    pub(crate) async fn agents(&self) -> Fact<&[AgentEntry]> {
        let ask = || async { self.client.agents().await.map_err(Unknown::from) };
        shared(self.agents.get_or_init(ask).await)
    }

    /// What the server says of its store, to whoever may ask.
    pub(crate) async fn store(&self) -> Fact<&StoreFacts> {
        let ask = || async {
            if let Some(monitor) = &self.monitor {
                return monitor.store().await.map_err(|reason| Unknown { reason, is_forbidden: false });
            }
            inspect::store(self.connection()).await.map_err(|_| Unknown {
                reason: "the server tells it only to the system account and at its monitoring port".to_owned(),
                is_forbidden: false,
            })
        };
        self.store.get_or_init(ask).await.as_ref().map_err(Unknown::clone)
    }
}

fn shared<T>(fact: &Fact<Vec<T>>) -> Fact<&[T]> {
    match fact {
        Ok(found) => Ok(found),
        Err(unknown) => Err(unknown.clone()),
    }
}

impl From<broker::Error> for Unknown {
    fn from(error: broker::Error) -> Self {
        let is_missing = matches!(error.kind(), Kind::NotFound | Kind::NoResponders);
        let reason = if is_missing { MISSING.to_owned() } else { error.to_string() };
        Self { is_forbidden: error.kind() == Kind::Forbidden, reason }
    }
}

impl From<client::Error> for Unknown {
    fn from(error: client::Error) -> Self {
        let is_missing = matches!(error.kind(), ErrorKind::StreamsMissing | ErrorKind::NotFound);
        let reason = if is_missing { MISSING.to_owned() } else { error.to_string() };
        Self { is_forbidden: *error.kind() == ErrorKind::Forbidden, reason }
    }
}
