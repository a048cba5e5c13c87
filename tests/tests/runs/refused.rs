//! Starts that never become runs, and facts that belong to none.

use std::time::Duration;

use anyhow::{Context, Result};
use broker::topology;
use coordinator::Config;
use protocol::{RequestId, Status, WorkflowName, codes};
use serde_json::json;
use sortie_tests::{raw, until};

use crate::site::{BOUND, Site, run, three_steps};

#[tokio::test]
async fn a_start_that_cannot_begin_has_an_outcome_and_a_dead_letter() -> Result<()> {
    let site = Site::start().await?;
    let _coordinator = site.coordinate().await?;
    let mut definition = three_steps();
    definition["input"] = json!({ "type": "object", "required": ["n"] });
    let three = site.apply(&definition).await?;
    site.apply(&json!({ "workflow": "broken", "version": "1.0.0", "steps": { "a": { "call": 7 } } })).await?;
    for (id, workflow, input, code) in [
        ("a", "nowhere", "{}", codes::WORKFLOW_UNKNOWN),
        ("b", "broken", "{}", codes::DEFINITION_INVALID),
        ("c", "three", "{}", codes::INVALID_INPUT),
        ("d", "three", "no json", codes::INVALID_INPUT),
    ] {
        raw::publish(&site.fleet, &format!("fleet.start.{workflow}"), &[("Sortie-Request-Id", id)], input).await?;
        let outcome = site.outcome(&run(id)).await?;
        let failure = outcome.failure().context("a failure")?;
        assert_eq!((outcome.status, failure.code.as_str()), (Status::Failed, code), "{id}: {failure}");
        let letter = format!("fleet.dead.{workflow}.{id}");
        until("a dead letter", BOUND, || async {
            site.reader.last(&site.names.dead, &letter).await.ok().flatten().map(|_| ())
        })
        .await;
    }
    let bad = raw::publish(&site.fleet, "fleet.start.three", &[("Sortie-Lane", "fast")], r#"{"n":1}"#).await?;
    let outcome = site.outcome(&run(&format!("seq-{bad}"))).await?;
    assert_eq!(outcome.failure().context("a failure")?.code, codes::INVALID_HEADER);
    let late = site.fleet.client.start(&three, &json!({ "n": 1 })).deadline(Duration::ZERO).submit().await?;
    assert_eq!(late.outcome(BOUND).await?.status, Status::Expired);
    site.is_empty().await;
    assert!(site.begun.all().is_empty());
    Ok(())
}

#[tokio::test]
async fn the_letter_of_a_start_is_sent_again_as_a_start() -> Result<()> {
    let site = Site::start().await?;
    let _coordinator = site.coordinate().await?;
    let headers = [("Sortie-Request-Id", "early"), ("Sortie-Lane", "bulk")];
    raw::publish(&site.fleet, "fleet.start.three", &headers, r#"{"n":1,"ms":0}"#).await?;
    assert_eq!(site.outcome(&run("early")).await?.status, Status::Failed);
    let early = RequestId::parse("early")?;
    until("a dead letter", BOUND, || async {
        site.reader.last(&site.names.dead, "fleet.dead.three.early").await.ok().flatten().map(|_| ())
    })
    .await;
    site.apply(&three_steps()).await?;
    let replayed = site.fleet.client.replay(&early, &client::dead::Again::default()).await?;
    let again = run(replayed.replay.request.as_str());
    assert_eq!(site.outcome(&again).await?.result::<i64>().unwrap(), 3);
    let begun = site.begun.all();
    assert!(begun.contains_key(&format!("{again}~a~0")), "{begun:?}");
    site.is_empty().await;
    Ok(())
}

#[tokio::test]
async fn facts_of_a_run_that_is_over_go_and_are_not_waited_for() -> Result<()> {
    let site = Site::start().await?;
    let _coordinator = site.coordinate().await?;
    let three = site.apply(&three_steps()).await?;
    let started = site.fleet.client.start(&three, &json!({ "n": 1, "ms": 0 })).submit().await?;
    started.outcome(BOUND).await?;
    site.is_empty().await;
    let late = started.run();
    for fact in ["step.a.0.outcome", "step.never.3.outcome", "signal.x", "cancel", "timer.run.fired", "nonsense"] {
        raw::publish(&site.fleet, &format!("fleet.run.{late}.{fact}"), &[], "1").await?;
    }
    site.is_empty().await;
    assert_eq!(site.outcome(late).await?.result::<i64>().unwrap(), 3);
    assert_eq!(site.events("sys.run").await, 1);
    Ok(())
}

#[tokio::test]
async fn facts_that_no_run_ever_asks_for_are_removed_in_the_end() -> Result<()> {
    let site = Site::start().await?;
    let config =
        Config { strays_every: Duration::from_millis(200), strays_kept: Duration::from_secs(2), ..Config::default() };
    let _coordinator = site.coordinate_with(config).await?;
    let waits = json!({ "workflow": "waits", "version": "1.0.0", "steps": { "go": { "signal": "go" } } });
    let waits: WorkflowName = site.apply(&waits).await?;
    let alive = site.fleet.client.start(&waits, &json!({})).submit().await?;
    site.has_fact(alive.run(), "started").await;
    site.fleet.client.signal(alive.run(), &"other".parse()?, &1, None).await?;
    raw::publish(&site.fleet, "fleet.run.ghost.signal.go", &[], "1").await?;
    raw::publish(&site.fleet, "fleet.run.ghost.cancel", &[], "").await?;
    until("the ghost is gone", BOUND, || async { site.facts(&run("ghost")).await.is_empty().then_some(()) }).await;
    assert_eq!(site.facts(alive.run()).await, ["started", "signal.other"]);
    let state = topology::stream_state(&site.fleet.connection, &site.names.runs).await?;
    assert_eq!(state.messages, 2);
    Ok(())
}

#[tokio::test]
async fn a_start_that_was_cancelled_before_it_was_taken_begins_nothing() -> Result<()> {
    let site = Site::start().await?;
    let three = site.apply(&three_steps()).await?;
    let started = site.fleet.client.start(&three, &json!({ "n": 1, "ms": 0 })).submit().await?;
    site.fleet.client.cancel(&RequestId::from(started.run())).await?;
    let _coordinator = site.coordinate().await?;
    site.is_empty().await;
    assert_eq!(started.outcome(BOUND).await?.status, Status::Cancelled);
    assert!(site.begun.all().is_empty());
    Ok(())
}
