//! A broker with a fleet's streams, and somebody who answers.

use std::{process::Stdio, time::Duration};

use broker::{
    Connection, Options, Outgoing, Publisher,
    task::{self, Owned},
};
use embedded::{Config, Server};
use protocol::{
    Capability, ContentType, Failure, Namespace, Outcome, Request, RequestId, Status, Subject, control::Progress,
    topology::Settings,
};
use serde_json::{Value, json};
use tokio::{
    io::AsyncWriteExt,
    process::{Child, Command},
};

pub(crate) const SOON: Duration = Duration::from_secs(20);

pub(crate) struct Fleet {
    server: Server,
    pub(crate) connection: Connection,
}

impl Fleet {
    pub(crate) async fn start() -> Self {
        let server = Server::start(Config::default()).await.unwrap();
        let connection = Connection::open(Options { servers: vec![server.url()], ..Default::default() }).await.unwrap();
        broker::topology::apply(&connection, &Namespace::default(), &Settings::default()).await.unwrap();
        Self { server, connection }
    }

    pub(crate) fn url(&self) -> String {
        self.server.url()
    }

    /// Answers `count_max` requests for `echo`, from now on. An object `{"fail": code}` fails, `{"slow": true}` waits for
    /// the one after it, and everything else comes back with its progress told.
    pub(crate) async fn answer(&self, count_max: usize) -> Owned<()> {
        let mut asked = self.connection.subscribe("fleet.*.echo").await.unwrap();
        let publisher = Publisher::new(&self.connection);
        let connection = self.connection.clone();
        self.count("FLEET_REQUESTS").await;
        task::spawn("agent", async move {
            let mut slow = None;
            for _ in 0..count_max {
                let message = asked.next().await.unwrap();
                let request = Request::read(&message.headers, RequestId::of_sequence(1)).unwrap();
                if slow.is_none() && message.body.starts_with(br#"{"slow""#) {
                    slow = Some((request, message.body.clone()));
                    continue;
                }
                answer_one(&connection, &publisher, &request, &message.body).await;
                if let Some((request, body)) = slow.take() {
                    answer_one(&connection, &publisher, &request, &body).await;
                }
            }
        })
    }

    pub(crate) async fn count(&self, stream: &str) -> u64 {
        broker::topology::stream_state(&self.connection, stream).await.unwrap().messages
    }

    /// A running `sortie`, with standard input and output to be used.
    pub(crate) fn spawn(&self, arguments: &[&str]) -> Child {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sortie"));
        command.args(["--server", &self.url()]).args(arguments).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Runs `sortie` with this input to its end.
    pub(crate) async fn run_with(&self, arguments: &[&str], input: &[u8]) -> crate::command::Ended {
        let mut child = self.spawn(arguments);
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_vec();
        let write = task::spawn("input", async move {
            // Who ends before the end of the input closes it.
            let _ = stdin.write_all(&input).await;
        });
        let output = tokio::time::timeout(SOON, child.wait_with_output()).await.unwrap().unwrap();
        write.join().await.unwrap();
        crate::command::Ended {
            code: output.status.code().unwrap(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

async fn answer_one(connection: &Connection, publisher: &Publisher, request: &Request, body: &[u8]) {
    let progress = Progress { percent: Some(50.0), message: Some("half".to_owned()), ..Progress::default() };
    let subject = Subject::Progress(request.id.clone()).render(&Namespace::default());
    connection.publish_core(Outgoing::new(subject, json!(progress).to_string())).await.unwrap();
    let input: Value = request.content_type.decode(body).unwrap();
    let mut outcome = match input.get("fail").and_then(Value::as_str) {
        Some(code) => Outcome::not_completed(request.id.clone(), Status::Failed, &Failure::new(code, "as asked for")),
        None => Outcome::completed(request.id.clone(), ContentType::Json, input.to_string().into_bytes()),
    };
    outcome.capability = Some(Capability::parse("echo").unwrap());
    let subject = Subject::outcome_of(&request.id).render(&Namespace::default());
    let outgoing = Outgoing::new(subject, outcome.body.clone()).with_headers(outcome.headers()).expecting(0);
    publisher.settle(&outgoing).await.unwrap();
}

/// Waits until a fact holds.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let end = tokio::time::Instant::now() + SOON;
    while !holds().await {
        assert!(tokio::time::Instant::now() < end, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
