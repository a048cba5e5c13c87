//! Python programs submit, wait and serve by the wire contract alone.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::{collections::BTreeSet, time::Duration};

use anyhow::Result;
use broker::topology;
use futures_util::{StreamExt, stream};
use nix::sys::signal::Signal;
use protocol::{Outcome, RequestId, Status, codes};
use serde_json::{Value, json};
use sortie_tests::{Count, Fleet, binaries::workspace, fleet::capability, program, raw, stock, until};
use worker::{Backoff, CapabilityConfig, Context, Failure, RetryPolicy};

const PATIENCE: Duration = Duration::from_secs(60);

async fn outcome(fleet: &Fleet, id: &str) -> Outcome {
    fleet.client.wait(&RequestId::parse(id).unwrap(), PATIENCE).await.expect("an outcome")
}

async fn echo(_ctx: Context, input: Value) -> Result<Value, Failure> {
    Ok(input)
}

#[test]
fn the_contract_shows_the_programs_that_are_tried_here() {
    let page = std::fs::read_to_string(workspace().join("crates/protocol/WIRE.md")).unwrap();
    for name in ["submit.py", "small.py"] {
        let program = std::fs::read_to_string(stock::script(name)).unwrap();
        assert!(page.contains(&format!("```python\n{program}```\n")), "WIRE.md does not show {name} as it is");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_python_program_submits_and_awaits() -> Result<()> {
    if !stock::has_python().await {
        return Ok(());
    }
    let fleet = Fleet::start().await?;
    let worker = fleet.run(fleet.worker("echo").capability("echo", echo), "echo").await?;
    let text = stock::said(stock::python(&fleet, "submit.py", &["echo", r#"{"hi": 1}"#])).await?;
    let (id, rest) = text.split_once(' ').unwrap();
    assert_eq!(rest.trim(), r#"completed {"hi": 1}"#);
    assert_eq!(outcome(&fleet, id).await.result::<Value>().unwrap(), json!({ "hi": 1 }));
    let text = stock::said(stock::python(&fleet, "ways.py", &[])).await?;
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
    if !stock::has_python().await {
        return Ok(());
    }
    let fleet = Fleet::start().await?;
    stock::make_consumers(&fleet, "tiny").await?;
    let _agent = stock::python(&fleet, "small.py", &["tiny"]).spawn()?;
    let good = fleet.client.request(&capability("tiny"), &json!({ "a": [1, 2] })).call(PATIENCE).await?;
    assert_eq!((good.status, good.result::<Value>().unwrap()), (Status::Completed, json!({ "a": [1, 2] })));
    let bad = fleet.client.request(&capability("tiny"), &1).call(PATIENCE).await?;
    assert_eq!(bad.failure().unwrap().message, "an object is expected");
    let letter = || async { fleet.client.dead_letter(&bad.id).await.ok().flatten() };
    assert_eq!(until("a dead letter", PATIENCE, letter).await.letter.failure.code, codes::HANDLER_FAILED);
    let count = Count::whole(&fleet.client, &[good.id, bad.id].into(), PATIENCE).await;
    assert_eq!((count.with(Status::Completed), count.with(Status::Failed), count.dead), (1, 1, 1));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_python_agent_does_all_that_the_contract_says() -> Result<()> {
    if !stock::has_python().await {
        return Ok(());
    }
    let fleet = Fleet::start().await?;
    stock::make_consumers(&fleet, "mixed").await?;
    let agent = program::serving(&fleet, stock::python(&fleet, "mixed.py", &[]), "mixed").await?;
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

    let bare = raw::request(&fleet, "mixed", &[], ask("retry").to_string()).await?;
    assert_eq!(outcome(&fleet, bare.as_str()).await.attempt, 2, "a retry of a request without an id keeps it");

    let past = protocol::time::now() - chrono::TimeDelta::seconds(1);
    let expired = fleet.client.request(&mixed, &ask("ok")).deadline(past).call(PATIENCE).await?;
    assert_eq!(expired.status, Status::Expired);

    let slow = json!({ "do": "ok", "n": 1, "seconds": 30 });
    let slow = fleet.client.request(&mixed, &slow).timeout(Duration::from_millis(200)).attempts(1);
    assert_eq!(slow.call(PATIENCE).await?.failure().unwrap().code, codes::TIMEOUT);

    let text = raw::request(&fleet, "mixed", &[], "{ no json").await?;
    assert_eq!(outcome(&fleet, text.as_str()).await.failure().unwrap().code, codes::INVALID_INPUT);

    let seen = fleet.client.serving(&mixed).await?;
    assert_eq!((seen.len(), seen[0].kind.as_str()), (1, "python-agent"));
    program::drain(agent).await?;
    sortie_tests::count::nothing_waits(&fleet.client).await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_of_two_languages_serve_one_capability_and_one_is_killed() -> Result<()> {
    const REQUESTS: usize = 600;
    if !stock::has_python().await {
        return Ok(());
    }
    let fleet = Fleet::start().await?;
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
    let python = async || program::serving(&fleet, stock::python(&fleet, "mixed.py", &[]), "mixed").await;
    let (first, _second) = (python().await?, python().await?);
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
    first.signal(Signal::SIGKILL)?;
    let count = Count::whole(&fleet.client, &accepted, PATIENCE).await;
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
