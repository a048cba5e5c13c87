//! Runs that wait, and what they are told.

use std::time::{Duration, Instant};

use anyhow::Result;
use client::Heard;
use protocol::{RequestId, Status};
use serde_json::{Value, json};
use sortie_tests::{raw, until};

use crate::site::{BOUND, Site, run};

fn gate(timeout: &str) -> Value {
    json!({
        "workflow": "gate", "version": "1.0.0",
        "steps": { "ok": { "signal": "approve", "timeout": timeout, "otherwise": "nobody" } },
        "output": "${ steps.ok.output }",
    })
}

#[tokio::test]
async fn a_signal_that_came_first_counts() -> Result<()> {
    let site = Site::start().await?;
    let _coordinator = site.coordinate().await?;
    let gate = site.apply(&gate("1h")).await?;
    let id = run("order-1");
    let heard = site.fleet.client.signal(&id, &"approve".parse()?, &"ann", None).await?;
    assert_eq!(heard, Heard::NotStarted);
    let started = site.fleet.client.start(&gate, &json!({})).id(&id).submit().await?;
    assert_eq!(started.outcome(BOUND).await?.result::<String>().unwrap(), "ann");
    // The timer went with the run.
    site.is_empty().await;
    let refused = site.fleet.client.signal(&id, &"approve".parse()?, &"bob", None).await.unwrap_err();
    assert_eq!(refused.kind(), &client::ErrorKind::Conflict);
    Ok(())
}

#[tokio::test]
async fn a_signal_by_hand_lets_a_run_go_on() -> Result<()> {
    let site = Site::start().await?;
    let _coordinator = site.coordinate().await?;
    let gate = site.apply(&gate("1h")).await?;
    let started = site.fleet.client.start(&gate, &json!({})).submit().await?;
    site.fleet.has_timer(started.run(), "ok~0").await;
    raw::publish(&site.fleet, &format!("fleet.run.{}.signal.approve", started.run()), &[], "\"by hand\"").await?;
    assert_eq!(started.outcome(BOUND).await?.result::<String>().unwrap(), "by hand");
    site.is_empty().await;
    Ok(())
}

#[tokio::test]
async fn a_timer_fires_once_with_nobody_there_and_the_run_goes_on_when_somebody_is() -> Result<()> {
    let site = Site::start().await?;
    let coordinator = site.coordinate().await?;
    let gate = site.apply(&gate("8s")).await?;
    let started = site.fleet.client.start(&gate, &json!({})).submit().await?;
    site.fleet.has_timer(started.run(), "ok~0").await;
    let began = Instant::now();
    coordinator.handle().stop();
    assert!(coordinator.stopped().await);
    site.has_fact(started.run(), "timer.ok~0.fired").await;
    assert!(began.elapsed() < Duration::from_secs(30));
    let _coordinator = site.coordinate().await?;
    assert_eq!(started.outcome(BOUND).await?.result::<String>().unwrap(), "nobody");
    site.is_empty().await;
    Ok(())
}

#[tokio::test]
async fn cancelling_a_run_cancels_what_runs_and_begins_nothing_more() -> Result<()> {
    let site = Site::start().await?;
    let _coordinator = site.coordinate().await?;
    let three = site.apply(&crate::site::three_steps()).await?;
    let slow = site.fleet.client.start(&three, &json!({ "n": 1, "ms": 600_000 })).submit().await?;
    let step = format!("{}~a~0", slow.run());
    until("it runs", BOUND, || async { site.begun.has(&step).then_some(()) }).await;
    let began = Instant::now();
    assert_eq!(site.fleet.client.cancel_run(slow.run(), Some("no longer wanted")).await?, Heard::Alive);
    assert_eq!(slow.outcome(BOUND).await?.status, Status::Cancelled);
    println!("cancelled within {:?}", began.elapsed());
    site.is_empty().await;
    assert_eq!(site.begun.all().len(), 1);

    // Who knows only an id need not know that it is a run's.
    let other = site.fleet.client.start(&three, &json!({ "n": 1, "ms": 600_000 })).submit().await?;
    site.has_fact(other.run(), "started").await;
    let told = site.fleet.client.cancel(&RequestId::from(other.run())).await?;
    assert_eq!(told, client::Cancellation::RunTold);
    assert_eq!(other.outcome(BOUND).await?.status, Status::Cancelled);
    site.is_empty().await;
    Ok(())
}

#[tokio::test]
async fn a_paused_run_begins_nothing_new_until_it_is_resumed() -> Result<()> {
    let site = Site::start().await?;
    let _coordinator = site.coordinate().await?;
    let two = site
        .apply(&json!({
            "workflow": "two", "version": "1.0.0",
            "steps": {
                "go": { "signal": "go" },
                "last": { "needs": ["go"], "call": "work", "with": { "give": 1 } },
            },
            "output": "${ steps.last.output }",
        }))
        .await?;
    let started = site.fleet.client.start(&two, &json!({})).submit().await?;
    site.has_fact(started.run(), "started").await;
    site.fleet.client.pause_run(started.run()).await?;
    site.fleet.client.signal(started.run(), &"go".parse()?, &1, None).await?;
    site.fleet.client.resume_run(started.run()).await?;
    assert_eq!(started.outcome(BOUND).await?.result::<i64>().unwrap(), 1);
    let record = site.fleet.client.run_record(started.run()).await?.expect("a record");
    let names: Vec<&str> = record.facts().iter().map(|fact| fact.name.as_str()).collect();
    assert_eq!(names, ["started", "pause", "signal.go", "resume", "step.last.0.outcome"]);
    Ok(())
}

#[tokio::test]
async fn an_event_of_a_run_is_published_once() -> Result<()> {
    let site = Site::start().await?;
    let _coordinator = site.coordinate().await?;
    let tells = site
        .apply(&json!({
            "workflow": "tells", "version": "1.0.0",
            "steps": {
                "tell": { "emit": "orders.paid", "with": { "order": "${ input.order }" } },
                "last": { "needs": ["tell"], "call": "work", "with": { "give": 1 } },
            },
        }))
        .await?;
    let started = site.fleet.client.start(&tells, &json!({ "order": 7 })).submit().await?;
    assert_eq!(started.outcome(BOUND).await?.status, Status::Completed);
    let found = site.reader.last(&site.names.events, "fleet.event.orders.paid").await?.expect("an event");
    assert_eq!(serde_json::from_slice::<Value>(&found.body)?, json!({ "order": 7 }));
    assert_eq!(found.headers.get("ce-id"), Some(format!("{}~tell", started.run()).as_str()));
    assert_eq!(site.events("orders").await, 1);
    Ok(())
}
