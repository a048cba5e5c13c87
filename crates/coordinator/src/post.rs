//! What every duty works with.

use broker::{BrokerClock, Bucket, Connection, Entry, Error, Outgoing, PayloadStore, Publisher, Reader, Settled};
use protocol::{InstanceId, Namespace, Outcome, Subject, event, registry::AgentEntry, subject, topology::Names};
use serde::Serialize;

use crate::{
    Config, Metrics,
    recorder::{Recorder, Store},
};

/// What every duty works with.
#[derive(Clone, Debug)]
pub(crate) struct Post {
    pub(crate) connection: Connection,
    pub(crate) config: Config,
    pub(crate) names: Names,
    pub(crate) instance: InstanceId,
    pub(crate) reader: Reader,
    pub(crate) payloads: PayloadStore,
    pub(crate) recorder: Recorder,
    pub(crate) store: Store,
    pub(crate) locks: Bucket,
    pub(crate) registry: Bucket,
    pub(crate) state: Bucket,
    pub(crate) configuration: Bucket,
    pub(crate) desired: Bucket,
    pub(crate) workflows: Bucket,
    pub(crate) clock: BrokerClock,
    pub(crate) metrics: Metrics,
}

impl Post {
    pub(crate) fn new(connection: Connection, config: Config, metrics: Metrics) -> Self {
        let names = Names::of(&config.namespace);
        let publisher = Publisher::new(&connection);
        let store = Store::new(metrics.clone());
        let reader = Reader::apart(&connection);
        let bucket = |name: &String| Bucket::new(&connection, &publisher, name.clone()).read_by(&reader);
        Self {
            locks: bucket(&names.locks),
            registry: bucket(&names.agents),
            state: bucket(&names.state),
            configuration: bucket(&names.config),
            desired: bucket(&names.desired),
            workflows: bucket(&names.workflows),
            payloads: PayloadStore::new(&connection, names.payloads.clone()).read_by(&reader),
            reader,
            recorder: Recorder::new(publisher, store.clone()),
            store,
            clock: BrokerClock::unadjusted(),
            instance: InstanceId::generate(),
            names,
            connection,
            config,
            metrics,
        }
    }

    pub(crate) fn namespace(&self) -> &Namespace {
        &self.config.namespace
    }

    /// Now on the broker's clock, asked again: a look judges by it.
    pub(crate) async fn now(&self) -> Result<protocol::time::Timestamp, Error> {
        self.clock.adjust(&self.connection, &self.names.requests).await?;
        Ok(self.clock.now())
    }

    /// Publishes an outcome at the one place where it lives; whoever is second there has lost the race.
    pub(crate) async fn record_outcome(&self, outcome: &Outcome) -> Result<Settled, Error> {
        let subject = Subject::outcome_of(&outcome.id).render(self.namespace());
        let outgoing = Outgoing::new(subject, outcome.body.clone()).with_headers(outcome.headers());
        self.recorder.record(&outgoing.expecting(0)).await
    }

    /// The agents in the registry.
    pub(crate) async fn agents(&self) -> Result<Vec<AgentEntry>, Error> {
        let entries = self.registry.list(">").await?;
        let read = |entry: Entry| serde_json::from_slice(&entry.value?).ok();
        Ok(entries.into_iter().filter_map(read).collect())
    }

    /// An event on a topic. `id` tells it from others on that topic.
    pub(crate) fn event(&self, topic: &str, id: &str, data: &impl Serialize) -> Outgoing {
        // Plain data with text keys always has a JSON form.
        let body = serde_json::to_vec(data).unwrap_or_default();
        let source = format!("/{}/coordinator", self.namespace());
        let headers = event::headers(id, &source, topic, self.clock.now());
        Outgoing::new(subject::event(self.namespace(), topic), body).with_headers(headers)
    }
}
