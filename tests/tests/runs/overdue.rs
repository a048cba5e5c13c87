//! Timers that do not fire when they should: their firing failed, or the broker has lost them.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use broker::{Kind, Outgoing, topology};
use coordinator::Config;
use protocol::{StepName, subject::filter};
use serde_json::json;
use sortie_tests::{Fleet, binaries, stock::said, until};
use tokio::process::Command;

use crate::site::{BOUND, Site};

/// Room for the fleet's streams and little more.
const STORE_BYTES_MAX: u64 = 8 << 20;

/// When the timers come due.
const NAP: &str = "8s";

async fn started(site: &Site) -> Result<client::StartedRun> {
    let naps = site
        .apply(&json!({
            "workflow": "naps", "version": "1.0.0",
            "steps": {
                "nap": { "wait": NAP },
                "last": { "needs": ["nap"], "call": "work", "with": { "give": "awake" } },
            },
            "output": "${ steps.last.output }",
        }))
        .await?;
    let started = site.fleet.client.start(&naps, &json!({})).submit().await?;
    site.fleet.has_timer(started.run(), "nap~0").await;
    Ok(started)
}

async fn why(site: &Site, run: &protocol::RunId) -> Result<String> {
    let mut command = Command::new(binaries::path("sortie"));
    command.args(["--server", &site.fleet.url(), "why", run.as_str()]).kill_on_drop(true);
    said(command).await
}

/// That the run ended as if nothing had been, and that its timer fired once.
async fn ended(site: &Site, started: &client::StartedRun) -> Result<()> {
    assert_eq!(started.outcome(BOUND).await?.result::<String>().ok().as_deref(), Some("awake"));
    let record = until("a summary", BOUND, || async {
        let record = site.fleet.client.run_record(started.run()).await.ok()??;
        matches!(record, client::RunRecord::Ended(_)).then_some(record)
    })
    .await;
    let names: Vec<&str> = record.facts().iter().map(|fact| fact.name.as_str()).collect();
    assert_eq!(names, ["started", "timer.nap~0.fired", "step.last.0.outcome"]);
    site.is_empty().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timer_that_the_broker_has_lost_is_set_again_when_it_is_overdue() -> Result<()> {
    let site = Site::start().await?;
    let often = Duration::from_secs(1);
    let config = Config { timers_every: often, overdue_by: often, ..Config::default() };
    let _two = [site.coordinate_with(config.clone()).await?, site.coordinate_with(config).await?];
    let started = started(&site).await?;
    let timers = filter::run_timers(&site.fleet.namespace);
    let purged = topology::purge(&site.fleet.connection, &site.names.runs, &timers, None).await?;
    assert_eq!(purged, 1, "its only schedule");
    let began = Instant::now();
    let said = why(&site, started.run()).await?;
    assert!(said.contains("nap"), "{said}");
    // Not by its log: that goes with the run, sooner than it may be looked at.
    ended(&site, &started).await?;
    println!("it was over {:?} after its timer was lost, due after {NAP}", began.elapsed());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timer_that_came_due_while_the_store_was_full_fires_when_there_is_room() -> Result<()> {
    let small = embedded::Config { store_bytes_max: Some(STORE_BYTES_MAX), ..embedded::Config::default() };
    let site = Site::on(Fleet::start_with(small).await?).await?;
    let config = Config { overdue_every: Duration::from_secs(2), ..Config::default() };
    let _coordinator = site.coordinate_with(config).await?;
    let started = started(&site).await?;
    let noise = |bytes: usize| Outgoing::new("fleet.audit.test.noise", vec![b'x'; bytes]);
    for bytes in [256 * 1024, 16 * 1024, 512, 1] {
        let refused = async {
            loop {
                if let Err(error) = site.publisher.publish(&noise(bytes)).await {
                    break error;
                }
            }
        };
        let refused = tokio::time::timeout(BOUND, refused).await.context("the store takes everything")?;
        assert_eq!(refused.kind(), Kind::StoreFull, "{refused}");
    }
    let full = Instant::now();
    // Past its time and the grace, and still there: the broker could not store what it fired.
    until("it is overdue", BOUND, || async { (full.elapsed() > Duration::from_secs(14)).then_some(()) }).await;
    assert_eq!(site.facts(started.run()).await, ["started"]);
    topology::purge(&site.fleet.connection, &site.names.audit, ">", None).await?;
    ended(&site, &started).await
}

#[tokio::test]
async fn a_timer_that_is_set_twice_fires_for_one_step_only() -> Result<()> {
    let site = Site::start().await?;
    let _coordinator = site.coordinate().await?;
    let started = started(&site).await?;
    // As somebody would who takes it for lost, and is wrong: by hand, and at once.
    let run = started.run();
    let fired = format!("fleet.run.{run}.timer.nap~0.fired");
    let due = site.fleet.client.now().await?;
    let again = broker::scheduled_at(Outgoing::new(format!("fleet.timer.{run}.nap~0"), ""), due, &fired);
    site.publisher.publish(&again).await?;
    site.publisher.publish(&Outgoing::new(fired, "")).await?;
    assert_eq!(started.outcome(BOUND).await?.result::<String>().ok().as_deref(), Some("awake"));
    site.is_empty().await;
    let step = protocol::RequestId::of_step(run, &StepName::parse("last")?, 0);
    assert_eq!(site.begun.all().get(step.as_str()), Some(&1));
    Ok(())
}
