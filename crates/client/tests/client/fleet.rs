//! A broker with a fleet's streams, and what a worker would do.

use std::time::Duration;

use broker::{Connection, Options, Outgoing, Publisher, Reader, Settled, StoredMessage};
use embedded::Server;
use protocol::{
    Capability, ContentType, DeadLetter, Failure, Headers, Lane, Namespace, Outcome, RequestId, Status, Subject, codes,
    time, topology::Settings,
};
use serde_json::Value;
use sortie_client::Client;

/// How long anything that has to happen may take.
pub(crate) const SOON: Duration = Duration::from_secs(10);

pub(crate) struct Fleet {
    pub(crate) server: Server,
    pub(crate) client: Client,
}

impl Fleet {
    pub(crate) async fn start() -> Self {
        let fleet = Self::without_streams().await;
        broker::topology::apply(fleet.client.connection(), fleet.client.namespace(), &Settings::default())
            .await
            .unwrap();
        fleet
    }

    pub(crate) async fn without_streams() -> Self {
        Self::without_streams_on(embedded::Config::default()).await
    }

    pub(crate) async fn without_streams_on(config: embedded::Config) -> Self {
        Self::start_on(config, Options::default()).await
    }

    /// A broker of this kind, and us as these options say.
    pub(crate) async fn start_on(config: embedded::Config, options: Options) -> Self {
        let server = Server::start(config).await.unwrap();
        let options = Options { servers: vec![server.url()], ..options };
        let client = Client::connect(options, Namespace::default()).await.unwrap();
        Self { server, client }
    }

    /// A second process.
    pub(crate) async fn another_client(&self) -> Client {
        self.client_with(Options::default()).await
    }

    pub(crate) async fn client_with(&self, options: Options) -> Client {
        let options = Options { servers: vec![self.server.url()], ..options };
        Client::connect(options, Namespace::default()).await.unwrap()
    }

    pub(crate) fn connection(&self) -> &Connection {
        self.client.connection()
    }

    pub(crate) async fn last(&self, stream: &str, subject: &str) -> Option<StoredMessage> {
        Reader::new(self.connection()).last(stream, subject).await.unwrap()
    }

    pub(crate) async fn count(&self, stream: &str) -> u64 {
        broker::topology::stream_state(self.connection(), stream).await.unwrap().messages
    }

    pub(crate) async fn store(&self, outcome: &Outcome) -> Settled {
        store(&self.client, outcome).await
    }

    pub(crate) async fn complete(&self, id: &RequestId, result: &Value) -> Settled {
        complete(&self.client, id, result).await
    }

    pub(crate) async fn fail(&self, id: &RequestId, code: &str) -> Settled {
        self.store(&Outcome::not_completed(id.clone(), Status::Failed, &Failure::new(code, "it did not work"))).await
    }

    /// Stores a dead letter as a worker does.
    pub(crate) async fn give_up(&self, id: &RequestId, original: &Headers, body: &[u8]) {
        let letter = DeadLetter {
            id: id.clone(),
            capability: echo(),
            lane: Lane::Urgent,
            failure: Failure::new(codes::HANDLER_FAILED, "it did not work"),
            attempt: 3,
            instance: None,
            version: None,
            killed: Vec::new(),
            published_at: None,
            dead_at: time::now(),
        };
        let subject = Subject::Dead { capability: echo(), id: id.clone() }.render(self.client.namespace());
        let outgoing = Outgoing::new(subject, body.to_vec()).with_headers(letter.headers(original)).expecting(0);
        Publisher::new(self.connection()).settle(&outgoing).await.unwrap();
    }
}

/// Stores an outcome as a worker does.
async fn store(client: &Client, outcome: &Outcome) -> Settled {
    let subject = Subject::outcome_of(&outcome.id).render(client.namespace());
    let outgoing = Outgoing::new(subject, outcome.body.clone()).with_headers(outcome.headers()).expecting(0);
    Publisher::new(client.connection()).settle(&outgoing).await.unwrap()
}

pub(crate) async fn complete(client: &Client, id: &RequestId, result: &Value) -> Settled {
    let body = serde_json::to_vec(result).unwrap();
    store(client, &Outcome::completed(id.clone(), ContentType::Json, body)).await
}

pub(crate) fn echo() -> Capability {
    Capability::parse("echo").unwrap()
}

pub(crate) fn id(text: &str) -> RequestId {
    RequestId::parse(text).unwrap()
}

/// Waits until a fact holds.
pub(crate) async fn until(what: &str, holds: impl AsyncFnMut() -> bool) {
    until_within(SOON, what, holds).await;
}

pub(crate) async fn until_within(within: Duration, what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let end = tokio::time::Instant::now() + within;
    while !holds().await {
        assert!(tokio::time::Instant::now() < end, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
