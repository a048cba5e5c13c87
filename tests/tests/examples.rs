//! Every example of the worker, run as its own words say, against a real server.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::{
    path::PathBuf,
    process::{Command, Stdio},
    sync::OnceLock,
};

use anyhow::Result;
use nix::sys::signal::Signal;
use protocol::{Outcome, RequestId, Status, codes};
use serde_json::{Value, json};
use sortie_tests::{Fleet, PATIENCE, binaries::workspace, fleet::capability, process::WorkerProcess, program};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout},
};

/// The path of an example, built once by the same cargo and profile as this test.
fn example(name: &str) -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let folder = BUILT.get_or_init(|| {
        let own = std::env::current_exe().unwrap();
        let folder = own.ancestors().nth(2).expect("a test lies in a target folder").to_path_buf();
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "--package", "sortie-worker", "--examples"]).current_dir(workspace());
        if folder.ends_with("release") {
            build.arg("--release");
        }
        assert!(build.status().unwrap().success(), "the examples cannot be built");
        folder.join("examples")
    });
    folder.join(name)
}

async fn run(fleet: &Fleet, name: &str, serves: &str) -> Result<WorkerProcess> {
    program::serving(fleet, program::command(fleet, &example(name)), serves).await
}

async fn call(fleet: &Fleet, name: &str, input: Value) -> Result<Outcome> {
    Ok(fleet.client.request(&capability(name), &input).call(PATIENCE).await?)
}

fn code(outcome: &Outcome) -> String {
    outcome.failure().map_or_else(|| outcome.status.to_string(), |failure| failure.code)
}

#[tokio::test(flavor = "multi_thread")]
async fn echo() -> Result<()> {
    let fleet = Fleet::start().await?;
    let agent = run(&fleet, "01-echo", "echo").await?;
    assert_eq!(call(&fleet, "echo", json!({"hi": 1})).await?.result::<Value>().unwrap(), json!({"hi": 1}));
    let greeting = call(&fleet, "greet", json!({"name": "Ada"})).await?.result::<Value>().unwrap();
    assert_eq!(greeting, json!({"text": "Good morning, Ada."}));
    let wrong = call(&fleet, "greet", json!({"nome": "Ada"})).await?;
    assert_eq!((code(&wrong).as_str(), wrong.attempt), (codes::INVALID_INPUT, 1));
    program::drain(agent).await
}

#[tokio::test(flavor = "multi_thread")]
async fn retries() -> Result<()> {
    let fleet = Fleet::start().await?;
    let agent = run(&fleet, "02-retries", "buy").await?;
    let mut ended = Vec::new();
    for (item, mood, ends, attempt) in [
        ("tea", "open", "completed", 1),
        ("tea", "busy", "completed", 2),
        ("tea", "crowded", "completed", 2),
        ("tea", "closed", "completed", 1),
        ("tea", "gone", "shop_gone", 1),
        ("gold", "open", "item_unknown", 1),
    ] {
        let outcome = call(&fleet, "buy", json!({"item": item, "mood": mood})).await?;
        assert_eq!((code(&outcome).as_str(), outcome.attempt), (ends, attempt), "{item} {mood}");
        ended.push(outcome);
    }
    // A dead letter comes after its outcome, and all that had begun is done after a drain.
    program::drain(agent).await?;
    for outcome in ended {
        let letter = fleet.client.dead_letter(&outcome.id).await?;
        assert_eq!(letter.is_some(), outcome.status == Status::Failed, "{outcome:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn long_work_is_seen_cancelled_and_taken_up_again() -> Result<()> {
    let fleet = Fleet::start().await?;
    let rows = capability("import-rows");
    let agent = run(&fleet, "03-long-work-with-progress", "import-rows").await?;
    let mut seen = Vec::new();
    let import = json!({"rows": 40});
    let request = fleet.client.request(&rows, &import).id(RequestId::from_client("monday:1")?);
    let outcome = request.follow(PATIENCE, |progress| seen.extend(progress.percent)).await?;
    assert_eq!(outcome.result::<Value>().unwrap(), json!({"rows": 40, "from": 0}));
    assert_eq!(seen, [0.0, 25.0, 50.0, 75.0]);

    let receipt = fleet.client.request(&rows, &json!({"rows": 1_000_000})).submit().await?;
    receipt.progress().await?.next().await.expect("progress");
    receipt.cancel().await?;
    assert_eq!(receipt.outcome(PATIENCE).await?.status, Status::Cancelled);

    let receipt = fleet.client.request(&rows, &json!({"rows": 100})).submit().await?;
    let mut progress = receipt.progress().await?;
    while progress.next().await.expect("progress").percent < Some(20.0) {}
    agent.signal(Signal::SIGKILL)?;
    agent.ended(PATIENCE).await?;
    let agent = run(&fleet, "03-long-work-with-progress", "import-rows").await?;
    let imported: Value = receipt.outcome(3 * PATIENCE).await?.result().unwrap();
    assert!(imported["from"].as_u64() >= Some(20), "{imported}");
    program::drain(agent).await
}

/// Somebody who asks for a report: what the program prints, line by line.
struct Asker {
    process: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Asker {
    fn start(fleet: &Fleet) -> Result<Self> {
        let mut command = program::command(fleet, &example("04-unique"));
        let mut process = command.args(["ask", "acme"]).stdout(Stdio::piped()).spawn()?;
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        Ok(Self { process, lines })
    }

    async fn line(&mut self) -> Result<String> {
        let line = tokio::time::timeout(PATIENCE, self.lines.next_line()).await??;
        Ok(line.expect("a line more"))
    }

    async fn report(mut self) -> Result<String> {
        let report = self.line().await?;
        assert!(self.process.wait().await?.success());
        Ok(report)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unique() -> Result<()> {
    let fleet = Fleet::start().await?;
    // Nobody serves yet, so the key is taken for certain when the second one asks.
    let mut first = Asker::start(&fleet)?;
    assert_eq!(first.line().await?, "asked for as useq-1");
    let mut second = Asker::start(&fleet)?;
    assert_eq!(second.line().await?, "being made as useq-1");
    let mut serve = program::command(&fleet, &example("04-unique"));
    serve.arg("serve");
    let agent = program::serving(&fleet, serve, "report").await?;
    assert_eq!(first.report().await?, "acme owes us nothing.");
    assert_eq!(second.report().await?, "acme owes us nothing.");
    program::drain(agent).await
}

#[tokio::test(flavor = "multi_thread")]
async fn layers() -> Result<()> {
    let fleet = Fleet::start().await?;
    let agent = run(&fleet, "05-layers", "rotate").await?;
    let mut receipts = Vec::new();
    for name in ["rotate", "preview"].into_iter().cycle().take(10) {
        let wish = json!({"picture": "cat", "takes_ms": 200});
        receipts.push(fleet.client.request(&capability(name), &wish).submit().await?);
    }
    let mut at_once = Vec::new();
    for receipt in receipts {
        at_once.push(receipt.outcome(PATIENCE).await?.result::<Value>().unwrap()["at_once"].as_u64().unwrap());
    }
    assert_eq!(at_once.iter().max(), Some(&2), "{at_once:?}");

    let slow = json!({"picture": "cat", "takes_ms": 60_000});
    let late = fleet.client.request(&capability("preview"), &slow).attempts(1).call(PATIENCE).await?;
    assert_eq!(code(&late), codes::TIMEOUT);
    let large = call(&fleet, "rotate", json!({"picture": "x".repeat(5_000), "takes_ms": 1})).await?;
    assert_eq!((code(&large).as_str(), large.attempt), (codes::PAYLOAD_TOO_LARGE, 1));
    program::drain(agent).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_i_call_breaks() -> Result<()> {
    let fleet = Fleet::start().await?;
    let agent = run(&fleet, "06-what-i-call-breaks", "guess").await?;
    let by = |outcome: Outcome| outcome.result::<Value>().unwrap()["by"].clone();
    let mut receipts = Vec::new();
    for number in 0..8 {
        receipts.push(fleet.client.request(&capability("pay"), &number).submit().await?);
    }
    for receipt in receipts {
        let outcome = receipt.outcome(PATIENCE).await?;
        assert_eq!((outcome.attempt, by(outcome)), (1, "bank".into()));
    }
    for _ in 0..3 {
        let down = fleet.client.request(&capability("pay"), "down").attempts(1).call(PATIENCE).await?;
        assert_eq!(code(&down), "bank_down");
    }
    assert_eq!(by(call(&fleet, "quote", "up".into()).await?), "guess", "the breaker is shared");
    // It waits until the bank is asked again.
    let paid = call(&fleet, "pay", "up".into()).await?;
    assert_eq!((paid.attempt, by(paid)), (1, "bank".into()));
    program::drain(agent).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_i_know_already() -> Result<()> {
    let fleet = Fleet::start().await?;
    let agent = run(&fleet, "07-what-i-know-already", "look-up").await?;
    let ada = json!({"name": "ada", "age_min": 18});
    for _ in 0..3 {
        let found = call(&fleet, "look-up", ada.clone()).await?.result::<Value>().unwrap();
        assert_eq!(found, json!({"name": "ada", "asked_before": 0}), "it is asked once");
    }
    let nobody = call(&fleet, "look-up", json!({"name": "bob"})).await?;
    assert_eq!((nobody.attempt, nobody.result::<Value>().unwrap()["name"].clone()), (1, "nobody".into()));
    let young = call(&fleet, "look-up", json!({"name": "ada", "age_min": 40})).await?;
    assert_eq!((code(&young).as_str(), young.attempt), ("too_young", 1));
    let wrong = call(&fleet, "look-up", json!({"nome": "ada", "age_min": -1})).await?.failure().unwrap();
    assert_eq!(
        (wrong.code.as_str(), wrong.details.unwrap()["faults"].as_array().unwrap().len()),
        (codes::INVALID_INPUT, 2)
    );
    program::drain(agent).await
}
