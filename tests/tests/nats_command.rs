//! The `nats` command line submits, waits, serves and cancels by the wire contract alone.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::{process::Stdio, time::Duration};

use anyhow::Result;
use protocol::{Operator, Outcome, RequestId, Status, codes};
use serde_json::{Value, json};
use sortie_tests::{Fleet, binaries, fleet::capability, program, stock, until};
use worker::{Context, Failure};

const PATIENCE: Duration = Duration::from_secs(60);

async fn outcome(fleet: &Fleet, id: &str) -> Outcome {
    fleet.client.wait(&RequestId::parse(id).unwrap(), PATIENCE).await.expect("an outcome")
}

async fn echo(_ctx: Context, input: Value) -> Result<Value, Failure> {
    Ok(input)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_nats_command_line_asks_waits_serves_and_looks_inside() -> Result<()> {
    if !stock::has_nats().await {
        return Ok(());
    }
    let fleet = Fleet::start().await?;
    let worker = fleet.run(fleet.worker("echo").capability("echo", echo), "echo").await?;
    // A complete request, without any header.
    stock::said(stock::nats(&fleet, &["pub", "fleet.request.echo", r#"{"hi":1}"#])).await?;
    assert_eq!(outcome(&fleet, "seq-1").await.result::<Value>().unwrap(), json!({ "hi": 1 }));
    let header = ["pub", "-H", "Sortie-Request-Id:by-hand", "-H", "Nats-Msg-Id:by-hand", "-J"];
    stock::said(stock::nats(&fleet, &[&header[..], &["fleet.urgent.echo", "[1]"]].concat())).await?;
    assert_eq!(outcome(&fleet, "by-hand").await.result::<Value>().unwrap(), json!([1]));
    let text =
        stock::said(stock::nats(&fleet, &["stream", "get", "FLEET_OUTCOMES", "--last-for", "fleet.outcome.by-hand"]))
            .await?;
    assert!(text.contains("Sortie-Status: completed") && text.contains("[1]"), "{text}");
    let text = stock::said(stock::nats(&fleet, &["kv", "ls", "fleet-agents"])).await?;
    assert!(text.contains("echo.ins_"), "{text}");
    let text = stock::said(stock::nats(&fleet, &["stream", "ls", "--names"])).await?;
    assert!(text.contains("FLEET_REQUESTS"), "{text}");
    worker.stop().await?;

    // Serving by hand: look, do, store the outcome expecting nothing there, acknowledge.
    stock::make_consumers(&fleet, "manual").await?;
    let request = fleet.client.request(&capability("manual"), &"work").submit().await?;
    let text = stock::said(stock::nats(
        &fleet,
        &["consumer", "next", "FLEET_REQUESTS", "manual", "--no-ack", "--timeout", "5s"],
    ))
    .await?;
    assert!(text.contains("\"work\"") && text.contains(request.id().as_str()), "{text}");
    let place = format!("fleet.outcome.{}", request.id());
    let expecting = ["pub", "-J", "-H", "Nats-Expected-Last-Subject-Sequence:0", "-H", "Sortie-Status:completed"];
    stock::said(stock::nats(&fleet, &[&expecting[..], &[&place, "\"done\""]].concat())).await?;
    let second = stock::run(stock::nats(&fleet, &[&expecting[..], &[&place, "\"other\""]].concat())).await?;
    assert!(!second.status.success(), "a second outcome was stored: {second:?}");
    assert_eq!(request.outcome(PATIENCE).await?.result::<String>().unwrap(), "done");

    // A large body travels through the object store.
    let worker = fleet.run(fleet.worker("echo").capability("echo", echo), "echo").await?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("large.json");
    std::fs::write(&file, json!("x".repeat(700_000)).to_string())?;
    stock::said(stock::nats(
        &fleet,
        &["object", "put", "fleet-payloads", file.to_str().unwrap(), "--name", "large-1", "-f"],
    ))
    .await?;
    let reference = ["pub", "-J", "-H", "Sortie-Payload-Ref:large-1", "-H", "Sortie-Request-Id:large"];
    stock::said(stock::nats(&fleet, &[&reference[..], &["fleet.request.echo", ""]].concat())).await?;
    assert_eq!(outcome(&fleet, "large").await.result::<String>().unwrap().len(), 700_000);
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_nats_command_line_cancels_repeats_and_listens() -> Result<()> {
    if !stock::has_nats().await {
        return Ok(());
    }
    let fleet = Fleet::start().await?;
    let waiting = fleet.client.request(&capability("echo"), &1).id(RequestId::parse("req-7")?);
    waiting.delay(Duration::from_secs(3_600)).submit().await?;
    let expecting = ["pub", "-J", "-H", "Nats-Expected-Last-Subject-Sequence:0", "-H", "Sortie-Status:cancelled"];
    let body = r#"{"code":"cancelled","message":"cancelled on request"}"#;
    stock::said(stock::nats(&fleet, &[&expecting[..], &["fleet.outcome.req-7", body]].concat())).await?;
    stock::said(stock::nats(&fleet, &["pub", "fleet.control.all.cancel", r#"{"ids":["req-7"]}"#])).await?;
    stock::said(stock::nats(&fleet, &["stream", "purge", "FLEET_REQUESTS", "--subject", "fleet.later.req-7", "-f"]))
        .await?;
    let cancelled = outcome(&fleet, "req-7").await;
    assert_eq!((cancelled.status, cancelled.failure().unwrap().code.as_str()), (Status::Cancelled, codes::CANCELLED));
    sortie_tests::count::nothing_waits(&fleet.client).await;

    // A message that may vanish by itself is no request.
    let brief = stock::run(stock::nats(&fleet, &["pub", "-J", "-H", "Nats-TTL:5s", "fleet.request.echo", "1"])).await?;
    assert!(!brief.status.success(), "{brief:?}");

    let told = ["sub", "fleet.told.>", "--count", "2", "--raw"];
    let listening = stock::nats(&fleet, &told).stdout(Stdio::piped()).spawn()?;
    let worker = fleet.run(fleet.worker("echo").capability("echo", echo), "echo").await?;
    let every = ["pub", "-J", "-H", "Nats-Schedule:@every 1s", "-H", "Nats-Schedule-Target:fleet.request.echo"];
    stock::said(stock::nats(&fleet, &[&every[..], &["fleet.cron.beat", r#""beat""#]].concat())).await?;
    let heard = tokio::time::timeout(PATIENCE, listening.wait_with_output()).await??;
    assert_eq!(String::from_utf8_lossy(&heard.stdout).matches("beat").count(), 2, "{heard:?}");
    stock::said(stock::nats(&fleet, &["stream", "purge", "FLEET_REQUESTS", "--subject", "fleet.cron.beat", "-f"]))
        .await?;
    let idle = || async { (sortie_tests::count::waiting(&fleet.client).await.ok()? == 0).then_some(()) };
    until("nothing waits", PATIENCE, idle).await;
    worker.stop().await
}

/// What the README has a person type into `nats`, and what must be seen then.
const README: [(&str, &str); 14] = [
    ("nats pub -J fleet.request.count-words '\"no tool of ours\"'", "Stored in Stream: FLEET_REQUESTS Sequence: 1"),
    ("nats stream get FLEET_OUTCOMES -S fleet.outcome.seq-<n>", "Sortie-Status: completed"),
    ("nats stream report", "FLEET_OUTCOMES"),
    ("nats consumer report FLEET_REQUESTS", "count-words_urgent"),
    ("nats micro ls", "words"),
    ("nats kv ls fleet-agents", "words.<instance>"),
    ("nats kv get fleet-agents words.<instance> --raw", "\"state\":\"ready\""),
    ("nats request fleet.control.<instance>.inspect '' --raw", "\"instance\":\"<instance>\""),
    ("nats stream subjects FLEET_REQUESTS 'fleet.later.*'", "fleet.later.order-17"),
    ("nats stream get FLEET_REQUESTS -S fleet.later.order-17", "Nats-Schedule: @at "),
    ("nats stream subjects FLEET_REQUESTS 'fleet.cron.*'", "fleet.cron.nightly"),
    ("nats stream subjects FLEET_DEAD", "fleet.dead.count-words.order-9"),
    ("nats stream get FLEET_DEAD -S fleet.dead.count-words.order-9", "Sortie-Dead-Letter: {"),
    ("nats stream subjects FLEET_AUDIT", "fleet.audit.somebody.dead-replay"),
];

/// Lines of the README's examples that begin with `nats`, without their comments.
fn lines_of_the_readme() -> Vec<String> {
    let text = std::fs::read_to_string(binaries::workspace().join("README.md")).unwrap();
    let blocks = text.split("```").skip(1).step_by(2);
    let lines = blocks.flat_map(str::lines).filter(|line| line.starts_with("nats "));
    lines.map(|line| line.split("  #").next().unwrap().trim().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_nats_command_line_shows_what_the_readme_says() -> Result<()> {
    let known: Vec<&str> = README.iter().map(|(line, _)| *line).collect();
    assert_eq!(lines_of_the_readme(), known, "the README, and what this test knows of it");
    if !stock::has_nats().await {
        return Ok(());
    }
    let fleet = Fleet::start().await?;
    let count = |_ctx: Context, text: String| async move {
        match text.as_str() {
            "" => Err(Failure::new("empty", "nothing to count").give_up()),
            text => Ok(text.split_whitespace().count()),
        }
    };
    let worker = fleet.run(fleet.worker("words").capability("count-words", count), "count-words").await?;
    let [agent] = &fleet.client.agents().await?[..] else { panic!("one agent") };
    let instance = agent.instance.to_string();

    // The first line asks for work, so the others begin after it.
    let shows = |line: &'static str, expected: &'static str| {
        let fill = |text: &str| text.replace("<n>", "1").replace("<instance>", &instance);
        let (line, expected) = (fill(line), fill(expected));
        let fleet = &fleet;
        async move {
            until(&format!("`{line}` shows {expected}"), PATIENCE, || async {
                let mut command = program::command(fleet, "sh".as_ref());
                command.args(["-c", &line]).env("NATS_URL", fleet.url()).env("XDG_CONFIG_HOME", "/nonexistent");
                let output = stock::run(command).await.ok()?;
                let said = [output.stdout, output.stderr].concat();
                String::from_utf8_lossy(&said).contains(&expected).then_some(())
            })
            .await;
        }
    };
    shows(README[0].0, README[0].1).await;
    let words = capability("count-words");
    let later = fleet.client.request(&words, &"later").id(RequestId::parse("order-17")?);
    later.delay(Duration::from_secs(3_600)).submit().await?;
    let empty = fleet.client.request(&words, &"").id(RequestId::parse("order-9")?);
    empty.submit().await?.outcome(PATIENCE).await?;
    let nightly = ["pub", "-J", "-H", "Nats-Schedule:@daily", "-H", "Nats-Schedule-Target:fleet.request.count-words"];
    stock::said(stock::nats(&fleet, &[&nightly[..], &["fleet.cron.nightly", "\"x\""]].concat())).await?;
    let operator = Operator::nearest("somebody");
    fleet.client.audit(&operator, "dead-replay", "order-9", Value::Null).await?;
    for (line, expected) in &README[1..] {
        shows(line, expected).await;
    }
    worker.stop().await
}
