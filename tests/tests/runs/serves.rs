//! Requests for a capability that a workflow serves: whoever asks cannot tell it from an agent.

use std::time::Duration;

use anyhow::{Context, Result};
use broker::{PullEvent, PullInbox, PullRequest, topology};
use client::{Cancellation, Receipt, dead::Again};
use nix::sys::signal::Signal;
use protocol::{
    Outcome, RequestId, Service, Status, UniqueKey, codes,
    topology::{Source, worker_consumer},
};
use serde_json::{Value, json};
use sortie_tests::{PATIENCE, fleet::capability, raw, until};

use crate::site::{BOUND, Site, run};

/// One step, which `work` does.
fn auditor() -> Value {
    json!({
        "workflow": "auditor", "version": "1.0.0", "serves": "audit",
        "input": { "type": "object", "required": ["n"], "properties": { "n": { "type": "integer" } } },
        "steps": { "a": { "call": "work", "with": { "give": "${ input.n + 1 }", "ms": "${ has(input.ms) ? input.ms : 0 }",
                                                    "fail": "${ has(input.fail) ? input.fail : '' }" } } },
        "output": "${ steps.a.output }",
    })
}

/// Waits for a signal.
fn gate() -> Value {
    json!({ "workflow": "gate", "version": "1.0.0", "serves": "pass", "steps": { "go": { "signal": "go" } } })
}

async fn is_served(site: &Site, name: &str) -> bool {
    site.fleet.client.service(&capability(name)).await.is_ok_and(|service| service == Service::Served)
}

async fn served(site: &Site, name: &str) {
    until("it is served", BOUND, || async { is_served(site, name).await.then_some(()) }).await;
}

async fn ended(site: &Site, id: &RequestId) -> Result<Outcome> {
    Ok(site.fleet.client.wait(id, BOUND).await?)
}

async fn letter(site: &Site, place: &str) {
    until("a dead letter", BOUND, || async {
        site.reader.last(&site.names.dead, place).await.ok().flatten().map(|_| ())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_a_run_of_its_id_whichever_way_it_comes() -> Result<()> {
    let site = Site::start().await?;
    let _two = [site.coordinate().await?, site.coordinate().await?];
    site.apply(&auditor()).await?;
    served(&site, "audit").await;
    let audit = capability("audit");
    let (client, input) = (&site.fleet.client, json!({ "n": 1 }));
    let by_hand = raw::request(&site.fleet, "audit", &[], r#"{"n":1}"#).await?;
    let ask = || client.request(&audit, &input);
    let mut ids = vec![by_hand];
    for receipt in [
        ask().submit().await?,
        ask().urgent().submit().await?,
        ask().bulk().submit().await?,
        ask().unique(UniqueKey::parse("blue")?).submit().await?,
        ask().delay(Duration::from_millis(1_200)).submit().await?,
    ] {
        ids.push(receipt.id().clone());
    }
    for id in &ids {
        let outcome = ended(&site, id).await?;
        assert_eq!((outcome.result::<i64>().unwrap(), outcome.capability.as_ref()), (2, Some(&audit)), "{id}");
        assert!(site.begun.has(&format!("{id}~a~0")), "{id}: {:?}", site.begun.all());
    }
    // Once more under an id that is done, long after the broker has forgotten that: the outcome is the one there is.
    let again =
        raw::publish(&site.fleet, "fleet.request.audit", &[("Sortie-Request-Id", ids[1].as_str())], "{}").await?;
    until("it is taken", BOUND, || async {
        site.reader.by_sequence(&site.names.requests, again).await.ok()?.is_none().then_some(())
    })
    .await;
    site.is_empty().await;
    assert_eq!(site.begun.all().len(), ids.len(), "{:?}", site.begun.all());
    assert_eq!(site.events("sys.run.auditor.completed").await, ids.len() as u64);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_or_fails_ends_as_an_agent_would_end_it() -> Result<()> {
    let site = Site::start().await?;
    let _coordinator = site.coordinate().await?;
    site.apply(&auditor()).await?;
    let long = "x".repeat(65);
    for (id, headers, body, code) in [
        ("typo", &[][..], r#"{"m":1}"#, codes::INVALID_INPUT),
        ("text", &[], "no json", codes::INVALID_INPUT),
        (long.as_str(), &[], r#"{"n":1}"#, codes::INVALID_HEADER),
        ("fails", &[("Sortie-Timeout", "1m")], r#"{"n":1,"fail":"broken"}"#, codes::STEP_FAILED),
        ("slow", &[("Sortie-Timeout", "1s")], r#"{"n":1,"ms":60000}"#, codes::RUN_TIMEOUT),
    ] {
        let headers: Vec<_> = headers.iter().chain(&[("Sortie-Request-Id", id)]).copied().collect();
        raw::request(&site.fleet, "audit", &headers, body).await?;
        let outcome = ended(&site, &RequestId::parse(id)?).await?;
        let failure = outcome.failure().context("a failure")?;
        assert_eq!((outcome.status, failure.code.as_str()), (Status::Failed, code), "{id}: {failure}");
        assert_eq!(outcome.capability, Some(capability("audit")));
        letter(&site, &format!("fleet.dead.audit.{id}")).await;
    }
    let body = json!({ "n": 1 });
    let late = site.fleet.client.request(&capability("audit"), &body).deadline_in(Duration::ZERO);
    assert_eq!(late.submit().await?.outcome(BOUND).await?.status, Status::Expired);
    let body = json!({ "n": 1, "ms": 60_000 });
    let short = site.fleet.client.request(&capability("audit"), &body).deadline_in(Duration::from_secs(2));
    assert_eq!(short.submit().await?.outcome(BOUND).await?.status, Status::Expired);
    site.is_empty().await;

    // A letter is sent again as the request that it was.
    let again = Again { body: Some(r#"{"n":4}"#.into()), ..Again::default() };
    let replayed = site.fleet.client.replay(&RequestId::parse("fails")?, &again).await?;
    assert_eq!(ended(&site, &replayed.replay.request).await?.result::<i64>().unwrap(), 5);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_cancelled_wherever_it_is() -> Result<()> {
    let site = Site::start().await?;
    site.apply(&gate()).await?;
    let client = &site.fleet.client;
    let ask = |key: Option<&str>| {
        let request = client.request(&capability("pass"), &Value::Null);
        match key {
            Some(key) => request.unique(UniqueKey::parse(key).unwrap()),
            None => request,
        }
    };
    let queued = ask(None).submit().await?;
    assert_eq!(client.cancel(queued.id()).await?, Cancellation::Cancelled);
    let _coordinator = site.coordinate().await?;
    let running = [ask(None).submit().await?, ask(Some("blue")).submit().await?];
    for receipt in &running {
        let run = run(receipt.id().as_str());
        site.has_fact(&run, "started").await;
        assert_eq!(client.cancel(receipt.id()).await?, Cancellation::RunTold);
        assert_eq!(receipt.outcome(BOUND).await?.status, Status::Cancelled);
    }
    site.is_empty().await;
    assert_eq!(queued.outcome(BOUND).await?.status, Status::Cancelled);
    assert_eq!(site.events("sys.run.gate").await, 2);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unique_request_keeps_its_key_until_its_run_is_over() -> Result<()> {
    let site = Site::start().await?;
    let _two = [site.coordinate().await?, site.coordinate().await?];
    site.apply(&gate()).await?;
    let submit = || async {
        site.fleet
            .client
            .request(&capability("pass"), &Value::Null)
            .unique(UniqueKey::parse("blue").unwrap())
            .submit()
            .await
    };
    let first: Receipt = submit().await?;
    let run = run(first.id().as_str());
    site.has_fact(&run, "started").await;
    let consumer = worker_consumer(&site.fleet.namespace, &capability("pass"), Source::Unique, 1);
    until("it was looked at again and again", BOUND, || async {
        let state = topology::consumer_state(&site.fleet.connection, &consumer.stream, &consumer.name).await.ok()?;
        (state.deliveries > 3).then_some(())
    })
    .await;
    assert!(matches!(submit().await.unwrap_err().kind(), client::ErrorKind::KeyTaken { .. }));
    site.fleet.client.signal(&run, &"go".parse()?, &Value::Null, None).await?;
    assert_eq!(first.outcome(BOUND).await?.status, Status::Completed);
    let next = until("the key is free", PATIENCE, || async { submit().await.ok() }).await;
    site.fleet.client.cancel(next.id()).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_asks_for_it_gets_its_outcome_and_ends_it_when_it_is_cut_off() -> Result<()> {
    let site = Site::start().await?;
    let _two = [site.coordinate().await?, site.coordinate().await?];
    site.apply(&auditor()).await?;
    site.apply(&gate()).await?;
    let parent = site
        .apply(&json!({
            "workflow": "parent", "version": "1.0.0",
            "steps": {
                "all": { "foreach": "${ [1, 2, 3] }", "call": "audit", "with": { "n": "${ item }" } },
                "hangs": { "needs": ["all"], "race": { "pass": { "call": "pass" }, "work": { "call": "work", "with": { "give": 1, "ms": 2000 } } } },
            },
            "output": "${ [steps.all.output, steps.hangs.output] }",
        }))
        .await?;
    let started = site.fleet.client.start(&parent, &json!({})).submit().await?;
    let outcome = started.outcome(BOUND).await?;
    assert_eq!(outcome.result::<Value>().unwrap(), json!([[2, 3, 4], 1]));
    // What lost the race is a run that was told to end.
    site.is_empty().await;
    assert_eq!((site.events("sys.run.auditor.completed").await, site.events("sys.run.gate.cancelled").await), (3, 1));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_no_longer_says_so_serves_no_longer() -> Result<()> {
    let site = Site::start().await?;
    let _two = [site.coordinate().await?, site.coordinate().await?];
    site.apply(&auditor()).await?;
    served(&site, "audit").await;
    let gone = || until("nobody serves it", BOUND, || async { (!is_served(&site, "audit").await).then_some(()) });
    let mut silent = auditor();
    (silent["version"], silent["serves"]) = (json!("1.1.0"), Value::Null);
    site.apply(&silent).await?;
    gone().await;
    let waits = site.fleet.client.request(&capability("audit"), &json!({ "n": 1 })).submit().await?;
    silent["serves"] = json!("audit");
    let workflow = site.apply(&silent).await?;
    assert_eq!(waits.outcome(BOUND).await?.result::<i64>().unwrap(), 2);
    assert!(site.fleet.client.workflow_remove(&workflow).await?);
    gone().await;
    let waits = site.fleet.client.request(&capability("audit"), &json!({ "n": 1 })).submit().await?;
    site.apply(&auditor()).await?;
    assert_eq!(waits.outcome(BOUND).await?.status, Status::Completed, "it waited");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_its_limit_requests_wait_as_starts_do() -> Result<()> {
    let site = Site::start().await?;
    let _two = [site.coordinate().await?, site.coordinate().await?];
    let mut limited = gate();
    limited["concurrency"] = json!({ "limit": 1, "then": "queue" });
    site.apply(&limited).await?;
    let ask = || site.fleet.client.request(&capability("pass"), &Value::Null);
    let first = ask().submit().await?;
    site.has_fact(&run(first.id().as_str()), "started").await;
    let by_hand = raw::request(&site.fleet, "pass", &[], "").await?;
    let mut waiting = vec![by_hand, ask().submit().await?.id().clone(), ask().urgent().submit().await?.id().clone()];
    waiting.push(ask().unique(UniqueKey::parse("blue")?).submit().await?.id().clone());
    let waits = || async { site.fleet.client.waiting_start(&run(waiting[0].as_str()), 100).await.ok()?.map(|_| ()) };
    until("it waits among the starts", BOUND, waits).await;
    let (mut live, mut done) = (run(first.id().as_str()), Vec::new());
    for _ in 0..4 {
        site.fleet.client.signal(&live, &"go".parse()?, &Value::Null, None).await?;
        // One that has ended may still be listed.
        done.push(live);
        live = until("the next one begins", BOUND, || async {
            let runs = site.fleet.client.live_runs(&client::RunFilter::default(), 10).await.ok()?;
            runs.into_iter().map(|run| run.run).find(|run| !done.contains(run))
        })
        .await;
    }
    site.fleet.client.signal(&live, &"go".parse()?, &Value::Null, None).await?;
    for id in waiting {
        assert_eq!(ended(&site, &id).await?.capability, Some(capability("pass")), "{id}");
    }
    site.is_empty().await;
    Ok(())
}

/// Whoever was given it is gone, with it in its hands.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_in_dead_hands_is_taken_by_another() -> Result<()> {
    let site = Site::start().await?;
    site.apply(&auditor()).await?;
    let consumer = worker_consumer(&site.fleet.namespace, &capability("audit"), Source::ALL[1], 1);
    topology::ensure_consumer(&site.fleet.connection, &consumer).await?;
    let mut inbox = PullInbox::open(&site.fleet.connection).await?;
    inbox
        .pull(&consumer, PullRequest::Stream { batch: 1, expires: BOUND, heartbeat: Duration::from_secs(5) }, 1)
        .await?;
    let receipt = site.fleet.client.request(&capability("audit"), &json!({ "n": 1 })).submit().await?;
    assert!(matches!(inbox.next().await, Some(PullEvent::Delivered(_))));
    let _coordinator = site.coordinate().await?;
    assert_eq!(receipt.outcome(BOUND).await?.result::<i64>().unwrap(), 2);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_killed_with_requests_in_hand_costs_none_and_doubles_none() -> Result<()> {
    const REQUESTS: usize = 300;
    let site = Site::start().await?;
    site.apply(&auditor()).await?;
    let first = site.coordinator_process()?;
    let _second = site.coordinator_process()?;
    served(&site, "audit").await;
    let mut receipts = Vec::new();
    for number in 0..REQUESTS {
        let receipt = site.fleet.client.request(&capability("audit"), &json!({ "n": number })).submit().await?;
        receipts.push(receipt);
        if number == REQUESTS / 2 {
            first.signal(Signal::SIGKILL)?;
        }
    }
    for (number, receipt) in receipts.iter().enumerate() {
        assert_eq!(receipt.outcome(BOUND).await?.result::<usize>().unwrap(), number + 1);
    }
    site.is_empty().await;
    let all = site.begun.all();
    let twice: Vec<_> = all.iter().filter(|(_, times)| **times > 1).collect();
    assert!(all.len() == REQUESTS && twice.is_empty(), "{} begun, more than once: {twice:?}", all.len());
    assert_eq!(site.events("sys.run.auditor.completed").await, REQUESTS as u64);
    Ok(())
}
