//! Shipping log lines: a process that logs much, with a broker that is there, stands still or never was.
//!
//! The child is this same test binary, told by a variable what to be.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a test fails")]
#![allow(clippy::disallowed_methods, reason = "the child is told by a variable")]

use std::{
    env,
    io::{BufRead, BufReader, Read, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use broker::{Connection, Options, Reader};
use clap::Parser;
use embedded::{Config, Server};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use protocol::{
    InstanceId, Kind, Namespace,
    log_line::{Level, LogLine},
    topology::Settings,
};
use sortie_process::{ExitCode, ProcessArgs, Program, logging::Sender, run};

const CHILD: &str = "SORTIE_TEST_CHILD";
const PATIENCE: Duration = Duration::from_secs(20);

/// Lines that one order makes the child log: more than may wait.
const MANY: usize = 12_000;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    process: ProcessArgs,
}

/// The child logs what it is told on its standard input. In the test run itself there is no variable.
#[test]
fn child() {
    if env::var(CHILD).is_err() {
        return;
    }
    let args = Cli::parse_from(["child"]).process;
    run(Program::service("child", "1.0.0"), &args, |process| async move {
        let settings = &process.settings.connection;
        tracing::info!("before there is a connection");
        let connection = Connection::open(settings.options("child")).await?;
        let sender = Sender {
            namespace: settings.namespace.clone(),
            kind: Kind::parse("child").unwrap(),
            instance: InstanceId::parse("ins_1").unwrap(),
        };
        let shipping = process.logs.ship(&connection, sender.clone());
        assert!(process.logs.ship(&connection, sender).is_none(), "one ships");
        println!("up {}", shipping.is_some());
        let logs = process.logs.clone();
        let orders = std::thread::spawn(move || {
            for order in std::io::stdin().lines() {
                match order.unwrap().as_str() {
                    "one" => tracing::info!(number = 1, "one"),
                    "error" => tracing::error!("it broke"),
                    "settle" => {
                        tracing::error!("about to leave");
                        logs.settle(PATIENCE);
                    }
                    "many" => (0..MANY).for_each(|number| tracing::info!(number, "many")),
                    _ => tracing::debug!("hidden"),
                }
                println!("logged");
            }
        });
        process.shutdown.begun().await;
        drop(orders);
        tracing::info!("the last line");
        if let Some(shipping) = shipping {
            shipping.finish().await;
        }
        Ok(ExitCode::Done)
    })
}

struct Talker {
    child: Child,
    orders: ChildStdin,
    said: BufReader<ChildStdout>,
}

impl Talker {
    fn start(server: &Server, environment: &[(&str, &str)]) -> Self {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "child", "--nocapture", "--quiet"])
            .env_clear()
            .env(CHILD, "yes")
            .env("SORTIE_SERVER", server.url())
            .env("SORTIE_LOG", "error")
            .envs(environment.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (orders, said) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, orders, said }
    }

    fn wait_for(&mut self, what: &str) -> String {
        let mut line = String::new();
        while !line.contains(what) {
            line.clear();
            assert_ne!(self.said.read_line(&mut line).unwrap(), 0, "the child never said `{what}`");
        }
        line
    }

    fn order(&mut self, what: &str) {
        writeln!(self.orders, "{what}").unwrap();
        self.wait_for("logged");
    }

    fn end(mut self) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
        let mut rest = String::new();
        self.said.read_to_string(&mut rest).unwrap();
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
    }
}

async fn fleet() -> (Server, Connection) {
    let server = Server::start(Config::default()).await.unwrap();
    let connection = Connection::open(Options { servers: vec![server.url()], ..Default::default() }).await.unwrap();
    broker::topology::apply(&connection, &Namespace::default(), &Settings::default()).await.unwrap();
    (server, connection)
}

async fn lines(connection: &Connection) -> Vec<LogLine> {
    let (reader, mut found, mut from) = (Reader::new(connection), Vec::new(), Some(1));
    while let Some(sequence) = from {
        let page = reader.page("FLEET_LOGS", "fleet.log.child.ins_1", sequence, 1_000).await.unwrap();
        found.extend(page.messages.iter().map(|message| serde_json::from_slice(&message.body).unwrap()));
        from = page.next;
    }
    found
}

async fn until_lines(connection: &Connection, what: &str, is_it: impl Fn(&[LogLine]) -> bool) -> Vec<LogLine> {
    let end = Instant::now() + PATIENCE;
    loop {
        let lines = lines(connection).await;
        if is_it(&lines) {
            return lines;
        }
        let last: Vec<_> = lines.iter().rev().take(5).collect();
        assert!(Instant::now() < end, "{what}: not in time; {} lines, the last: {last:?}", lines.len());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn says(lines: &[LogLine], message: &str) -> usize {
    lines.iter().filter(|line| line.message == message).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_leave_at_once_on_an_error_and_at_the_end() {
    let (server, connection) = fleet().await;
    let mut child = Talker::start(&server, &[]);
    child.wait_for("up true");
    child.order("one");
    child.order("hidden");
    child.order("error");
    let found = until_lines(&connection, "the error", |lines| says(lines, "it broke") == 1).await;
    assert_eq!(
        [says(&found, "before there is a connection"), says(&found, "one")],
        [1, 1],
        "what came before leaves with it"
    );
    let one = found.iter().find(|line| line.message == "one").unwrap();
    assert_eq!((one.level, one.target.as_str()), (Level::Info, "shipping"));
    assert_eq!((one.kind.as_str(), one.instance.as_str(), &one.fields["number"]), ("child", "ins_1", &1.into()));
    child.order("one");
    child.end();
    let found = lines(&connection).await;
    assert_eq!([says(&found, "one"), says(&found, "the last line"), says(&found, "hidden")], [2, 1, 0]);
    let told: Vec<_> = found.iter().filter(|line| line.fields.contains_key("dropped")).collect();
    assert!(told.is_empty(), "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_logs_never_waits_and_what_is_dropped_is_told() {
    let (mut server, connection) = fleet().await;
    let mut child = Talker::start(&server, &[]);
    child.wait_for("up true");
    child.order("error");
    until_lines(&connection, "the first error", |lines| says(lines, "it broke") == 1).await;
    server.pause().unwrap();
    let began = Instant::now();
    for _ in 0..3 {
        child.order("many");
    }
    assert!(began.elapsed() < PATIENCE / 2, "whoever logs waited for the broker: {:?}", began.elapsed());
    server.resume().unwrap();
    let dropped =
        |lines: &[LogLine]| -> u64 { lines.iter().filter_map(|line| line.fields.get("dropped")?.as_u64()).sum() };
    // What the broker took, but did not say in time, is both stored and told as dropped.
    let found = until_lines(&connection, "what is stored and what is told", |lines| {
        says(lines, "many") as u64 + dropped(lines) >= 3 * MANY as u64
    });
    let found = found.await;
    assert!(says(&found, "many") > 0, "what waited is shipped");
    assert!(dropped(&found) > MANY as u64, "{}", dropped(&found));
    child.end();
    assert_eq!(says(&lines(&connection).await, "the last line"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_must_leave_at_once_can_wait_until_its_last_word_is_stored() {
    let (server, connection) = fleet().await;
    let mut child = Talker::start(&server, &[]);
    child.wait_for("up true");
    let began = Instant::now();
    child.order("settle");
    assert!(began.elapsed() < PATIENCE / 2, "it waits for what is stored already");
    assert_eq!(says(&lines(&connection).await, "about to leave"), 1);
    child.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn levels_say_what_is_shipped() {
    let (server, connection) = fleet().await;
    let mut child = Talker::start(&server, &[("SORTIE_SHIP_LOGS", "debug")]);
    child.wait_for("up true");
    child.order("hidden");
    child.order("error");
    let found = until_lines(&connection, "the error", |lines| says(lines, "it broke") == 1).await;
    assert_eq!(says(&found, "hidden"), 1);
    // The broker's own parts say much at this level, about the shipping too: none of it comes back.
    assert!(
        found.iter().all(|line| !line.target.starts_with("sortie_broker") && !line.target.starts_with("async_nats"))
    );
    child.end();
    let count = lines(&connection).await.len();
    let mut child = Talker::start(&server, &[("SORTIE_SHIP_LOGS", "off")]);
    child.wait_for("up false");
    child.order("error");
    child.end();
    assert_eq!(lines(&connection).await.len(), count);
}
