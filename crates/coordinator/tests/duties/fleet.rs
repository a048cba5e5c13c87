//! A broker of its own for each test, with a fleet's streams, and the ways to look at it.

use std::{future::Future, time::Duration};

use broker::{Connection, Delivery, Options, Outgoing, Publisher, PullEvent, PullInbox, PullRequest, Reader, topology};
use embedded::{Cluster, Server};
use prometheus::Registry;
use protocol::{
    Capability, DeadLetter, Headers, Namespace, Outcome, RequestId,
    time::Timestamp,
    topology::{Consumer, Names, Settings, Source, worker_consumer},
};
use sortie_coordinator::{Config, Coordinator};

/// How long a fact is waited for.
pub(crate) const BOUND: Duration = Duration::from_secs(60);

pub(crate) struct Fleet {
    pub(crate) connection: Connection,
    pub(crate) publisher: Publisher,
    pub(crate) reader: Reader,
    pub(crate) names: Names,
    pub(crate) namespace: Namespace,
    /// Killed on drop.
    server: Option<Server>,
}

/// A coordinator and what it measures.
pub(crate) struct Running {
    pub(crate) coordinator: Coordinator,
    registry: Registry,
}

/// Intervals that a test need not wait long for.
pub(crate) fn quick() -> Config {
    Config {
        topology_within: Duration::from_secs(5),
        // Longer than this machine stands still.
        lease_ttl: Duration::from_secs(20),
        lease_renewed_every: Duration::from_millis(400),
        dead_letters_every: Duration::from_millis(200),
        overdue_every: Duration::from_millis(500),
        crons_every: Duration::from_millis(200),
        overdue_by: Duration::from_secs(1),
        deadlines_every: Duration::from_millis(100),
        unserved_told_every: Duration::ZERO,
        agents_every: Duration::from_millis(100),
        wishes_every: Duration::from_millis(100),
        gauges_every: Duration::from_millis(100),
        redrive_every: Duration::from_millis(100),
        ..Config::default()
    }
}

/// Asks again where this machine stood still for longer than an answer is waited for.
pub(crate) async fn answered<T, F: Future<Output = Result<T, broker::Error>>>(mut ask: impl FnMut() -> F) -> T {
    until("an answer", || {
        let asked = ask();
        async move {
            match asked.await {
                Err(error) if error.kind() == broker::Kind::TimedOut => None,
                answer => Some(answer.unwrap()),
            }
        }
    })
    .await
}

/// Asks until there is an answer.
pub(crate) async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut ask: impl FnMut() -> F) -> T {
    let asking = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(25));
        loop {
            ticks.tick().await;
            if let Some(answer) = ask().await {
                return answer;
            }
        }
    };
    tokio::time::timeout(BOUND, asking).await.unwrap_or_else(|_| panic!("never: {what}"))
}

impl Fleet {
    pub(crate) async fn start() -> Self {
        let server = Server::start(embedded::Config::default()).await.unwrap();
        let connection = open(&server.url()).await;
        topology::apply(&connection, &Namespace::default(), &Settings::default()).await.unwrap();
        Self { server: Some(server), ..Self::over(connection) }
    }

    pub(crate) async fn on_cluster(cluster: &Cluster) -> Self {
        let connection = open(&cluster.url()).await;
        let settings = Settings { replicas: 3, ..Settings::default() };
        topology::apply(&connection, &Namespace::default(), &settings).await.unwrap();
        Self::over(connection)
    }

    pub(crate) fn over(connection: Connection) -> Self {
        Self {
            publisher: Publisher::new(&connection),
            reader: Reader::new(&connection),
            names: Names::of(&Namespace::default()),
            namespace: Namespace::default(),
            connection,
            server: None,
        }
    }

    /// Starts a coordinator with a connection of its own.
    pub(crate) async fn coordinate(&self, config: Config) -> Running {
        let registry = Registry::new();
        let coordinator = Coordinator::start(&self.connection, config, &registry).await.unwrap();
        Running { coordinator, registry }
    }

    pub(crate) async fn publish(&self, subject: &str, headers: &[(&str, &str)], body: &str) -> u64 {
        let headers: Headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let outgoing = Outgoing::new(subject, body.to_owned()).with_headers(headers);
        self.publisher.publish_within(&outgoing, BOUND).await.unwrap().sequence
    }

    pub(crate) fn url(&self) -> String {
        self.server.as_ref().expect("a server of its own").url()
    }

    /// Publishes a block of headers byte by byte as it is, and waits until it is stored.
    pub(crate) fn publish_bytes(&self, subject: &str, headers: &[u8], body: &[u8]) {
        self.send_bytes(&published(subject, headers, body), "\"seq\":", 1);
    }

    /// The same where nothing is stored.
    pub(crate) fn publish_bytes_to_listeners(&self, subject: &str, headers: &[u8], body: &[u8]) {
        self.send_bytes(&[published(subject, headers, body), b"PING\r\n".to_vec()].concat(), "PONG", 1);
    }

    /// Takes messages without reading what is in them, and leaves them.
    pub(crate) fn take_blindly(&self, consumer: &Consumer, count: usize) {
        let pull = format!("{{\"batch\":{count},\"expires\":5000000000}}");
        let subject = format!("$JS.API.CONSUMER.MSG.NEXT.{}.{}", consumer.stream, consumer.name);
        let message = format!("PUB {subject} answer {}\r\n{pull}\r\n", pull.len());
        self.send_bytes(message.as_bytes(), "$JS.ACK.", count);
    }

    /// Sends bytes over a connection of its own, and waits until a text came back this often.
    fn send_bytes(&self, message: &[u8], text: &str, times: usize) {
        use std::io::{Read, Write};
        let mut stream = std::net::TcpStream::connect(self.url().trim_start_matches("nats://")).unwrap();
        stream.set_read_timeout(Some(BOUND)).unwrap();
        stream.write_all(b"CONNECT {\"verbose\":false,\"headers\":true}\r\nSUB answer 1\r\n").unwrap();
        stream.write_all(message).unwrap();
        let mut answers = String::new();
        let mut some = [0; 4_096];
        while answers.matches(text).count() < times {
            let count = stream.read(&mut some).unwrap();
            answers += &String::from_utf8_lossy(&some[..count]);
            assert!(count > 0 && !answers.contains("error"), "{answers}");
        }
    }

    pub(crate) async fn count(&self, stream: &str, filter: &str) -> u64 {
        answered(|| topology::subject_counts(&self.connection, stream, filter)).await.values().sum()
    }

    pub(crate) async fn outcome(&self, id: &str) -> Option<Outcome> {
        let subject = format!("fleet.outcome.{id}");
        let found = answered(|| self.reader.last(&self.names.outcomes, &subject)).await?;
        Some(Outcome::read(RequestId::parse(id).unwrap(), &found.headers, &found.body))
    }

    pub(crate) async fn dead_letter(&self, capability: &str, id: &str) -> Option<DeadLetter> {
        let subject = format!("fleet.dead.{capability}.{id}");
        let found = answered(|| self.reader.last(&self.names.dead, &subject)).await?;
        DeadLetter::read(&found.headers)
    }

    /// The data of the last event on a topic, and how many there are.
    pub(crate) async fn event(&self, topic: &str) -> Option<(serde_json::Value, u64)> {
        let subject = format!("fleet.event.{topic}");
        // Counted first: the last event is then at least as new as the count says. One that comes just now is seen next time.
        let count = self.count(&self.names.events, &subject).await;
        if count == 0 {
            return None;
        }
        let found = answered(|| self.reader.last(&self.names.events, &subject)).await?;
        Some((serde_json::from_slice(&found.body).unwrap(), count))
    }

    /// Makes a consumer as a worker would, with a bound on deliveries that a test can reach.
    pub(crate) async fn consumer(&self, capability: &str, source: Source, max_deliver: u32) -> Consumer {
        let capability = Capability::parse(capability).unwrap();
        let consumer = Consumer {
            ack_wait: Duration::from_millis(300),
            max_deliver: Some(max_deliver),
            ..worker_consumer(&self.namespace, &capability, source, 1)
        };
        topology::ensure_consumer(&self.connection, &consumer).await.unwrap();
        consumer
    }

    /// One whose ack deadline outlasts every test.
    pub(crate) async fn patient_consumer(&self, capability: &str, source: Source) -> Consumer {
        let capability = Capability::parse(capability).unwrap();
        let consumer = Consumer { ack_wait: 10 * BOUND, ..worker_consumer(&self.namespace, &capability, source, 1) };
        topology::ensure_consumer(&self.connection, &consumer).await.unwrap();
        consumer
    }

    /// Takes one message, waiting for it.
    pub(crate) async fn take(&self, consumer: &Consumer) -> Box<Delivery> {
        let mut inbox = PullInbox::open(&self.connection).await.unwrap();
        let request = PullRequest::Wait { expires: BOUND, heartbeat: Duration::from_secs(5) };
        inbox.pull(consumer, request, 1).await.unwrap();
        let taking = async {
            loop {
                match inbox.next().await {
                    Some(PullEvent::Delivered(delivery)) => return delivery,
                    // Another server leads: it knows of no pull.
                    Some(PullEvent::Ended { .. }) => inbox.pull(consumer, request, 1).await.unwrap(),
                    _ => {}
                }
            }
        };
        tokio::time::timeout(BOUND, taking).await.expect("no message")
    }

    /// Hands messages back until the broker gives up on all: `messages` times `max_deliver` deliveries.
    pub(crate) async fn exhaust(&self, consumer: &Consumer, messages: u64) {
        let max_deliver = u64::from(consumer.max_deliver.unwrap());
        for _ in 0..messages * max_deliver {
            self.take(consumer).await.nak(&self.connection, Duration::from_millis(1)).await;
        }
        self.given_up(consumer).await;
    }

    /// Waits until the broker has given up whatever was delivered.
    pub(crate) async fn given_up(&self, consumer: &Consumer) {
        until("the broker gives up", || async {
            // It does so only when somebody pulls.
            let inbox = PullInbox::open(&self.connection).await.unwrap();
            inbox.pull(consumer, PullRequest::Now { batch: 1 }, 1).await.unwrap();
            let state = topology::consumer_state(&self.connection, &consumer.stream, &consumer.name).await.unwrap();
            (state.ack_pending == 0).then_some(())
        })
        .await;
    }

    pub(crate) fn in_seconds(&self, seconds: i64) -> Timestamp {
        protocol::time::now() + chrono::TimeDelta::seconds(seconds)
    }
}

impl Running {
    /// What a metric says, with this duty if it has one.
    pub(crate) fn metric(&self, name: &str, duty: &str) -> f64 {
        let name = format!("sortie_coordinator_{name}");
        let family = self.registry.gather().into_iter().find(|family| family.name() == name);
        let metrics = family.map(|family| family.get_metric().to_vec()).unwrap_or_default();
        let is_it = |labels: &[prometheus::proto::LabelPair]| labels.iter().all(|label| label.value() == duty);
        let found = metrics.iter().find(|metric| is_it(metric.get_label()));
        found.map_or(0.0, |metric| metric.get_counter().get_value() + metric.get_gauge().get_value())
    }

    /// A gauge by its label values in the order of their names; none where nothing is said.
    pub(crate) fn figure(&self, name: &str, labels: &[&str]) -> Option<f64> {
        let name = format!("sortie_coordinator_{name}");
        let family = self.registry.gather().into_iter().find(|family| family.name() == name)?;
        let is_it = |metric: &&prometheus::proto::Metric| {
            metric.get_label().iter().map(prometheus::proto::LabelPair::value).eq(labels.iter().copied())
        };
        family.get_metric().iter().find(is_it).map(|metric| metric.get_gauge().get_value())
    }

    /// Waits until a duty was looked at this often more.
    pub(crate) async fn looks(&self, duty: &str, more: f64) {
        let before = self.metric("looks_total", duty);
        until("looks", || async { (self.metric("looks_total", duty) >= before + more).then_some(()) }).await;
    }
}

pub(crate) async fn open(url: &str) -> Connection {
    let servers = url.split(',').map(str::to_owned).collect();
    Connection::open(Options { servers, connect_within: BOUND, ..Options::default() }).await.unwrap()
}

/// A message as it goes over the wire.
fn published(subject: &str, headers: &[u8], body: &[u8]) -> Vec<u8> {
    let mut message =
        format!("HPUB {subject} answer {} {}\r\n", headers.len(), headers.len() + body.len()).into_bytes();
    message.extend(headers.iter().chain(body).chain(b"\r\n"));
    message
}
