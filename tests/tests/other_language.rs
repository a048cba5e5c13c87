//! Stock clients: Python programs and the `nats` command line submit, wait and serve by the wire contract alone.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::{
    collections::BTreeSet,
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    sync::OnceLock,
    time::Duration,
};

use anyhow::Result;
use broker::topology;
use futures_util::{StreamExt, stream};
use protocol::{Outcome, RequestId, Status, codes, topology::Source};
use serde_json::{Value, json};
use sortie_tests::{Count, Fleet, binaries::workspace, fleet::capability, until};
use worker::{Backoff, CapabilityConfig, Context, Failure, RetryPolicy};

const PATIENCE: Duration = Duration::from_secs(60);

fn script(name: &str) -> PathBuf {
    workspace().join("tests/python").join(name)
}

/// Whether Python has nats-py. `.ci/run` installs it; elsewhere a test without it says that it did nothing.
fn has_python() -> bool {
    static FOUND: OnceLock<bool> = OnceLock::new();
    *FOUND.get_or_init(|| {
        let found = Command::new("python3").args(["-c", "import nats"]).output();
        let is_there = found.is_ok_and(|output| output.status.success());
        if !is_there {
            eprintln!("SKIPPED: python3 with nats-py is not here (python3 -m pip install nats-py)");
        }
        is_there
    })
}

/// Whether the `nats` command line is there.
fn has_nats() -> bool {
    static FOUND: OnceLock<bool> = OnceLock::new();
    *FOUND.get_or_init(|| {
        let is_there = Command::new("nats").arg("--version").output().is_ok();
        if !is_there {
            eprintln!("SKIPPED: the nats command line is not here (.ci/run installs it)");
        }
        is_there
    })
}

async fn run(mut command: Command) -> Output {
    command.stdin(Stdio::null());
    let running = tokio::task::spawn_blocking(move || command.output());
    tokio::time::timeout(PATIENCE, running).await.expect("it ends").unwrap().expect("it can be run")
}

fn python(fleet: &Fleet, name: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new("python3");
    command.arg(script(name)).args(arguments).env("NATS_URL", fleet.url()).env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

fn nats(fleet: &Fleet, arguments: &[&str]) -> Command {
    let mut command = Command::new("nats");
    // A context of whoever runs the tests stays out of it.
    command.env("XDG_CONFIG_HOME", "/nonexistent").args(["--server", &fleet.url()]).args(arguments);
    command
}

/// What a command wrote, if it ended well.
async fn said(command: Command) -> String {
    let output = run(command).await;
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// A program that runs until it is killed.
struct Running(Child);

impl Running {
    fn start(mut command: Command) -> Self {
        Self(command.stdin(Stdio::null()).spawn().expect("it can be run"))
    }

    fn kill(&mut self) {
        self.0.kill().expect("killed");
        self.0.wait().expect("waited for");
    }

    fn terminate(&self) {
        let id = self.0.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    }

    async fn ended(&mut self) -> bool {
        let child = std::sync::Mutex::new(&mut self.0);
        let ended = || async { child.lock().unwrap().try_wait().expect("waited for") };
        until("the program ends", PATIENCE, ended).await.success()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The consumers of a capability, as `sortie topology apply --capability` makes them for foreign agents.
async fn make_consumers(fleet: &Fleet, name: &str) -> Result<()> {
    for source in Source::ALL {
        let consumer = protocol::topology::worker_consumer(&fleet.namespace, &capability(name), source, 1);
        topology::ensure_consumer(&fleet.connection, &consumer).await?;
    }
    Ok(())
}

async fn waits_for_work(fleet: &Fleet, name: &str, pulls: u64) {
    let pulling = || async {
        let state = topology::consumer_state(&fleet.connection, "FLEET_REQUESTS", name).await.ok()?;
        (state.waiting >= pulls).then_some(())
    };
    until("the agent pulls", PATIENCE, pulling).await;
}

async fn outcome(fleet: &Fleet, id: &str) -> Outcome {
    fleet.client.wait(&RequestId::parse(id).unwrap(), PATIENCE).await.expect("an outcome")
}

async fn whole(fleet: &Fleet, accepted: &BTreeSet<RequestId>) -> Count {
    let settled = || async {
        let count = Count::of(&fleet.client, accepted).await.ok()?;
        (count.missing.is_empty() && count.waiting == 0).then_some(count)
    };
    let count = until("whole", PATIENCE, settled).await;
    count.assert_whole();
    count
}

async fn echo(_ctx: Context, input: Value) -> Result<Value, Failure> {
    Ok(input)
}

#[test]
fn the_contract_shows_the_programs_that_are_tried_here() {
    let page = std::fs::read_to_string(workspace().join("crates/protocol/WIRE.md")).unwrap();
    for name in ["submit.py", "small.py"] {
        let program = std::fs::read_to_string(script(name)).unwrap();
        assert!(page.contains(&format!("```python\n{program}```\n")), "WIRE.md does not show {name} as it is");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_python_program_submits_and_awaits() -> Result<()> {
    if !has_python() {
        return Ok(());
    }
    let fleet = Fleet::start().await?;
    let worker = fleet.run(fleet.worker("echo").capability("echo", echo), "echo").await?;
    let text = said(python(&fleet, "submit.py", &["echo", r#"{"hi": 1}"#])).await;
    let (id, rest) = text.split_once(' ').unwrap();
    assert_eq!(rest.trim(), r#"completed {"hi": 1}"#);
    assert_eq!(outcome(&fleet, id).await.result::<Value>().unwrap(), json!({ "hi": 1 }));
    let text = said(python(&fleet, "ways.py", &[])).await;
    let told: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(told["no header"], json!(["completed", { "n": 1 }]));
    assert_eq!(told["same id twice"], json!([["completed", { "n": 2 }], true]));
    assert_eq!(told["message id as id"], json!(["completed", { "n": 3 }]));
    assert_eq!(told["invalid header"], json!(["failed", codes::INVALID_HEADER]));
    assert_eq!(told["delayed"], json!(["completed", { "n": 5 }, true]));
    assert_eq!(told["unique"], json!([["completed", { "n": 6 }], "useq-1"]));
    assert_eq!(told["large"], json!(["completed", 600_000]));
    match told["msgpack"].as_str() {
        Some("no module") => eprintln!("SKIPPED: MessagePack from Python: the msgpack module is not here"),
        _ => assert_eq!(told["msgpack"], json!(["completed", "application/msgpack", { "n": 8 }])),
    }
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_smallest_python_agent_serves() -> Result<()> {
    if !has_python() {
        return Ok(());
    }
    let fleet = Fleet::start().await?;
    make_consumers(&fleet, "tiny").await?;
    let _agent = Running::start(python(&fleet, "small.py", &["tiny"]));
    let good = fleet.client.request(&capability("tiny"), &json!({ "a": [1, 2] })).call(PATIENCE).await?;
    assert_eq!((good.status, good.result::<Value>().unwrap()), (Status::Completed, json!({ "a": [1, 2] })));
    let bad = fleet.client.request(&capability("tiny"), &1).call(PATIENCE).await?;
    assert_eq!(bad.failure().unwrap().message, "an object is expected");
    let letter = || async { fleet.client.dead_letter(&bad.id).await.ok().flatten() };
    assert_eq!(until("a dead letter", PATIENCE, letter).await.letter.failure.code, codes::HANDLER_FAILED);
    let count = whole(&fleet, &[good.id, bad.id].into()).await;
    assert_eq!((count.with(Status::Completed), count.with(Status::Failed), count.dead), (1, 1, 1));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_python_agent_does_all_that_the_contract_says() -> Result<()> {
    if !has_python() {
        return Ok(());
    }
    let fleet = Fleet::start().await?;
    make_consumers(&fleet, "mixed").await?;
    let mut agent = Running::start(python(&fleet, "mixed.py", &[]));
    waits_for_work(&fleet, "mixed", 4).await;
    let ask = |what: &str| json!({ "do": what, "n": 1 });
    let mixed = capability("mixed");
    let good = fleet.client.request(&mixed, &ask("ok")).urgent().call(PATIENCE).await?;
    assert_eq!(good.result::<Value>().unwrap()["by"], "python");

    let failed = fleet.client.request(&mixed, &ask("fail")).header("X-Tenant", "blue").call(PATIENCE).await?;
    assert_eq!((failed.status, failed.failure().unwrap().code.as_str()), (Status::Failed, "as_wished"));
    let letter = || async { fleet.client.dead_letter(&failed.id).await.ok().flatten() };
    let letter = until("a dead letter", PATIENCE, letter).await;
    assert_eq!((letter.letter.attempt, letter.headers.get("X-Tenant")), (1, Some("blue")));
    assert_eq!(letter.body, ask("fail").to_string());

    let retried = fleet.client.request(&mixed, &ask("retry")).bulk().call(PATIENCE).await?;
    assert_eq!((retried.status, retried.attempt), (Status::Completed, 2));

    let spent = fleet.client.request(&mixed, &ask("retry")).attempts(1).call(PATIENCE).await?;
    let failure = spent.failure().unwrap();
    assert_eq!((failure.code.as_str(), failure.attempts.len()), ("not_yet", 1));

    let bare = said_id(&fleet, &mixed, &ask("retry")).await?;
    assert_eq!(outcome(&fleet, bare.as_str()).await.attempt, 2, "a retry of a request without an id keeps it");

    let past = protocol::time::now() - chrono::TimeDelta::seconds(1);
    let expired = fleet.client.request(&mixed, &ask("ok")).deadline(past).call(PATIENCE).await?;
    assert_eq!(expired.status, Status::Expired);

    let slow = json!({ "do": "ok", "n": 1, "seconds": 30 });
    let slow = fleet.client.request(&mixed, &slow).timeout(Duration::from_millis(200)).attempts(1);
    assert_eq!(slow.call(PATIENCE).await?.failure().unwrap().code, codes::TIMEOUT);

    let text = async_nats_text(&fleet, "fleet.request.mixed", "{ no json").await?;
    assert_eq!(outcome(&fleet, &text).await.failure().unwrap().code, codes::INVALID_INPUT);

    let seen = fleet.client.serving(&mixed).await?;
    assert_eq!((seen.len(), seen[0].kind.as_str()), (1, "python-agent"));
    agent.terminate();
    assert!(agent.ended().await, "it ends in good order");
    assert_eq!(sortie_tests::count::waiting(&fleet.client).await?, 0);
    Ok(())
}

/// Publishes a body without any header, and gives the id that follows from its sequence.
async fn async_nats_text(fleet: &Fleet, subject: &str, body: &str) -> Result<String> {
    let client = async_nats::connect(fleet.url()).await?;
    let stored = async_nats::jetstream::new(client).publish(subject.to_owned(), body.to_owned().into()).await?.await?;
    Ok(format!("seq-{}", stored.sequence))
}

async fn said_id(fleet: &Fleet, capability: &protocol::Capability, body: &Value) -> Result<RequestId> {
    let id = async_nats_text(fleet, &format!("fleet.request.{capability}"), &body.to_string()).await?;
    Ok(RequestId::parse(&id)?)
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_of_two_languages_serve_one_capability_and_one_is_killed() -> Result<()> {
    const REQUESTS: usize = 600;
    if !has_python() {
        return Ok(());
    }
    let fleet = Fleet::start().await?;
    make_consumers(&fleet, "mixed").await?;
    let retry = RetryPolicy { attempts_max: 3, backoff: Backoff::fixed(Duration::from_millis(300)) };
    let handler = |ctx: Context, body: Value| async move {
        tokio::time::sleep(Duration::from_millis(20)).await;
        match body["do"].as_str() {
            Some("fail") => Err(Failure::new("as_wished", "failed").give_up()),
            Some("retry") if ctx.attempt() == 1 => Err(Failure::new("not_yet", "once more")),
            _ => Ok(json!({ "by": "rust", "n": body["n"], "attempt": ctx.attempt() })),
        }
    };
    let builder = fleet.worker("rust").slots(4);
    let builder = builder.capability_with("mixed", CapabilityConfig::default().retry(retry), handler);
    let worker = fleet.run(builder, "mixed").await?;
    let mut first = Running::start(python(&fleet, "mixed.py", &[]));
    let _second = Running::start(python(&fleet, "mixed.py", &[]));
    waits_for_work(&fleet, "mixed", 9).await;
    let body = |number: usize| {
        let what = ["ok", "ok", "fail", "retry"][number % 4];
        json!({ "do": what, "n": number, "seconds": 0.02 })
    };
    let submit = |number: usize| {
        let fleet = &fleet;
        let body = body(number);
        async move { fleet.client.request(&capability("mixed"), &body).submit().await.unwrap().id().clone() }
    };
    let accepted: BTreeSet<RequestId> = stream::iter(0..REQUESTS).map(submit).buffer_unordered(32).collect().await;
    // In the middle of its work: what it had in hand is taken by others after the deadline of its delivery.
    let some_done = || async {
        let done = topology::stream_state(&fleet.connection, "FLEET_OUTCOMES").await.ok()?.messages;
        (done >= REQUESTS as u64 / 4).then_some(())
    };
    until("a quarter is done", PATIENCE, some_done).await;
    first.kill();
    let count = whole(&fleet, &accepted).await;
    let quarter = REQUESTS / 4;
    assert_eq!(
        (count.with(Status::Completed), count.with(Status::Failed), count.dead),
        (3 * quarter, quarter, quarter)
    );
    let mut by = BTreeSet::new();
    for id in &accepted {
        if let Ok(result) = outcome(&fleet, id.as_str()).await.result::<Value>() {
            by.insert(result["by"].to_string());
        }
    }
    assert_eq!(by.len(), 2, "both served: {by:?}");
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_nats_command_line_asks_waits_serves_and_looks_inside() -> Result<()> {
    if !has_nats() {
        return Ok(());
    }
    let fleet = Fleet::start().await?;
    let worker = fleet.run(fleet.worker("echo").capability("echo", echo), "echo").await?;
    // A complete request, without any header.
    said(nats(&fleet, &["pub", "fleet.request.echo", r#"{"hi":1}"#])).await;
    assert_eq!(outcome(&fleet, "seq-1").await.result::<Value>().unwrap(), json!({ "hi": 1 }));
    let header = ["pub", "-H", "Sortie-Request-Id:by-hand", "-H", "Nats-Msg-Id:by-hand", "-J"];
    said(nats(&fleet, &[&header[..], &["fleet.urgent.echo", "[1]"]].concat())).await;
    assert_eq!(outcome(&fleet, "by-hand").await.result::<Value>().unwrap(), json!([1]));
    let text = said(nats(&fleet, &["stream", "get", "FLEET_OUTCOMES", "--last-for", "fleet.outcome.by-hand"])).await;
    assert!(text.contains("Sortie-Status: completed") && text.contains("[1]"), "{text}");
    let text = said(nats(&fleet, &["kv", "ls", "fleet-agents"])).await;
    assert!(text.contains("echo.ins_"), "{text}");
    let text = said(nats(&fleet, &["stream", "ls", "--names"])).await;
    assert!(text.contains("FLEET_REQUESTS"), "{text}");
    worker.stop().await?;

    // Serving by hand: look, do, store the outcome expecting nothing there, acknowledge.
    make_consumers(&fleet, "manual").await?;
    let request = fleet.client.request(&capability("manual"), &"work").submit().await?;
    let text =
        said(nats(&fleet, &["consumer", "next", "FLEET_REQUESTS", "manual", "--no-ack", "--timeout", "5s"])).await;
    assert!(text.contains("\"work\"") && text.contains(request.id().as_str()), "{text}");
    let place = format!("fleet.outcome.{}", request.id());
    let expecting = ["pub", "-J", "-H", "Nats-Expected-Last-Subject-Sequence:0", "-H", "Sortie-Status:completed"];
    said(nats(&fleet, &[&expecting[..], &[&place, "\"done\""]].concat())).await;
    let second = run(nats(&fleet, &[&expecting[..], &[&place, "\"other\""]].concat())).await;
    assert!(!second.status.success(), "a second outcome was stored: {second:?}");
    assert_eq!(request.outcome(PATIENCE).await?.result::<String>().unwrap(), "done");

    // A large body travels through the object store.
    let worker = fleet.run(fleet.worker("echo").capability("echo", echo), "echo").await?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("large.json");
    std::fs::write(&file, json!("x".repeat(700_000)).to_string())?;
    said(nats(&fleet, &["object", "put", "fleet-payloads", file.to_str().unwrap(), "--name", "large-1", "-f"])).await;
    let reference = ["pub", "-J", "-H", "Sortie-Payload-Ref:large-1", "-H", "Sortie-Request-Id:large"];
    said(nats(&fleet, &[&reference[..], &["fleet.request.echo", ""]].concat())).await;
    assert_eq!(outcome(&fleet, "large").await.result::<String>().unwrap().len(), 700_000);
    worker.stop().await
}
