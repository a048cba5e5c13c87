//! What others store where runs look, by mistake or to do harm: no run waits for ever because of it.

use std::time::Duration;

use anyhow::Result;
use broker::{PullInbox, PullRequest, topology};
use coordinator::Config;
use protocol::{
    Lane, Status,
    topology::{Consumer, Source, worker_consumer},
};
use serde_json::{Value, json};
use sortie_tests::{raw, until};
use worker::{Context, Failure};

use crate::site::{BOUND, Site, run, three_steps};

#[tokio::test(flavor = "multi_thread")]
async fn an_outcome_that_was_there_before_its_run_makes_room() -> Result<()> {
    let site = Site::start().await?;
    let three = site.apply(&three_steps()).await?;
    let id = run("early");
    for step in ["a", "c"] {
        let subject = format!("fleet.run.{id}.step.{step}.0.outcome");
        raw::publish(&site.fleet, &subject, &[("Sortie-Status", "completed")], "99").await?;
    }
    let _coordinator = site.coordinate().await?;
    let started = site.fleet.client.start(&three, &json!({ "n": 1, "ms": 0 })).id(&id).submit().await?;
    assert_eq!(started.outcome(BOUND).await?.result::<u32>().ok(), Some(3), "what was asked for counts");
    site.is_empty().await;
    Ok(())
}

/// As whoever cancels a request by hand does, and cannot know that a workflow serves it.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_was_given_an_outcome_by_hand_ends() -> Result<()> {
    let site = Site::start().await?;
    let _coordinator = site.coordinate().await?;
    let asks = site
        .apply(&json!({
            "workflow": "asks", "version": "1.0.0",
            "steps": { "first": { "call": "unserved" }, "last": { "needs": ["first"], "call": "work", "with": { "give": 1 } } },
        }))
        .await?;
    let started = site.fleet.client.start(&asks, &json!({})).submit().await?;
    let queued = async || {
        let count = topology::subject_counts(&site.fleet.connection, &site.names.requests, "fleet.request.unserved");
        (count.await.ok()?.into_values().sum::<u64>() == 1).then_some(())
    };
    until("its step is queued", BOUND, queued).await;
    raw::publish(&site.fleet, &format!("fleet.outcome.{}", started.run()), &[("Sortie-Status", "cancelled")], "")
        .await?;
    // What is older is looked up before it is done.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let handler = |_: Context, _: Value| async { Ok::<_, Failure>(()) };
    let late = site.fleet.run(site.fleet.worker("late").capability("unserved", handler), "unserved").await?;
    site.is_empty().await;
    assert_eq!(site.outcome(started.run()).await?.status, Status::Cancelled);
    late.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_that_leaves_no_room_keeps_no_run_from_beginning() -> Result<()> {
    let site = Site::start().await?;
    let three = site.apply(&three_steps()).await?;
    let _coordinator = site.coordinate().await?;
    for size in [15_600, 15_900, 16_100, 16_200, 16_300] {
        let id = run(&format!("traced-{size}"));
        let headers = [("Sortie-Request-Id", id.as_str()), ("baggage", &"x".repeat(size))];
        raw::publish(&site.fleet, &format!("fleet.start.{three}"), &headers, r#"{"n":1,"ms":0}"#).await?;
        assert_eq!(site.outcome(&id).await?.status, Status::Completed, "{size}");
    }
    site.is_empty().await;
    Ok(())
}

/// The broker forgets a schedule when anything else is stored in its place.
#[tokio::test(flavor = "multi_thread")]
async fn a_timer_whose_place_was_taken_is_set_again() -> Result<()> {
    let site = Site::start().await?;
    let often = Duration::from_secs(1);
    let _coordinator =
        site.coordinate_with(Config { timers_every: often, overdue_by: often, ..Config::default() }).await?;
    let naps = json!({ "workflow": "naps", "version": "1.0.0", "steps": { "nap": { "wait": "5s" } } });
    let naps = site.apply(&naps).await?;
    let started = site.fleet.client.start(&naps, &json!({})).submit().await?;
    site.fleet.has_timer(started.run(), "nap~0").await;
    raw::publish(&site.fleet, &format!("fleet.timer.{}.nap~0", started.run()), &[], "not a schedule").await?;
    assert_eq!(started.outcome(BOUND).await?.status, Status::Completed);
    site.is_empty().await;
    Ok(())
}

/// As after a loss of power, when what was acknowledged as its run began is back, and nobody is given it.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_came_back_leaves_the_decision_to_its_run() -> Result<()> {
    let site = Site::start().await?;
    let often = Duration::from_millis(200);
    let _coordinator = site.coordinate_with(Config { dead_letters_every: often, ..Config::default() }).await?;
    let gate = site
        .apply(&json!({
            "workflow": "gate", "version": "1.0.0",
            "steps": { "go": { "signal": "go" } }, "output": "${ steps.go.output }",
        }))
        .await?;
    let alive = run("alive");
    let started = site.fleet.client.start(&gate, &json!({})).id(&alive).submit().await?;
    site.has_fact(&alive, "started").await;
    let source = Source::Lane(Lane::Normal);
    let consumer = Consumer {
        ack_wait: Duration::from_millis(300),
        max_deliver: Some(1),
        ..worker_consumer(&site.fleet.namespace, &"served".parse()?, source, 1)
    };
    topology::ensure_consumer(&site.fleet.connection, &consumer).await?;
    for id in ["alive", "other"] {
        raw::publish(&site.fleet, "fleet.request.served", &[("Sortie-Request-Id", id)], "{}").await?;
    }
    until("both are given up, and gone", BOUND, || async {
        let inbox = PullInbox::open(&site.fleet.connection).await.ok()?;
        inbox.pull(&consumer, PullRequest::Now { batch: 2 }, 1).await.ok()?;
        let left = topology::subject_counts(&site.fleet.connection, &site.names.requests, "fleet.request.served");
        left.await.ok()?.is_empty().then_some(())
    })
    .await;
    assert_eq!(site.fleet.client.wait(&"other".parse()?, BOUND).await?.status, Status::Failed);
    site.fleet.client.signal(&alive, &"go".parse()?, &7, None).await?;
    assert_eq!(started.outcome(BOUND).await?.result::<u32>().ok(), Some(7), "the run decides");
    site.is_empty().await;
    Ok(())
}
