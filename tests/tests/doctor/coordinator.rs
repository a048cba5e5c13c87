//! Coordinators that run, and are not given what they do their duties with.

use anyhow::{Context as _, Result};
use broker::topology::{self, consumer_state};
use chrono::TimeDelta;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use protocol::topology::fires_consumer;
use serde_json::{Value, json};
use sortie_tests::{Fleet, fleet::capability, raw, until};
use worker::{Context, Failure};

use crate::bystander::{PATIENCE, found, gone, remedy, repair, seen, sortie, start};

const FIRES: &str = "FLEET_REQUESTS/coordinator_fires";

async fn echo(_ctx: Context, input: Value) -> Result<Value, Failure> {
    Ok(input)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_of_coordinators_that_is_paused_different_or_missing() -> Result<()> {
    let fleet = Fleet::start().await?;
    let mut coordinator = start(&fleet, &["process", "coordinator"]);
    let fires = fires_consumer(&fleet.namespace);
    let state = || consumer_state(&fleet.connection, &fires.stream, &fires.name);
    until("it is made", PATIENCE, || async { state().await.ok() }).await;
    gone(&fleet, "coordinator").await;
    gone(&fleet, "coordinator-consumers").await;

    let until_then = protocol::time::now() + TimeDelta::hours(1);
    topology::pause_consumer(&fleet.connection, &fires.stream, &fires.name, until_then).await?;
    let finding = found(&fleet, "coordinator-consumers").await;
    assert_eq!((&finding["severity"], &finding["about"]), (&json!("error"), &json!(FIRES)), "{finding}");
    assert!(seen(&finding).contains("is paused until"), "{finding}");
    assert!(seen(&finding).contains("firings of recurring requests that must not overlap wait"), "{finding}");
    let check = sortie(&fleet, &["topology", "check"]).await;
    let table = String::from_utf8_lossy(&check.stdout).into_owned();
    assert!(check.status.code() == Some(1) && table.contains("pause"), "{check:?}");
    repair(&fleet, &finding).await?;
    gone(&fleet, "coordinator-consumers").await;
    until("it delivers again", PATIENCE, || async { (!state().await.ok()?.is_paused).then_some(()) }).await;

    let mut config =
        raw::api(&fleet, "CONSUMER.INFO.FLEET_REQUESTS.coordinator_fires", &Value::Null).await?["config"].take();
    config["max_deliver"] = json!(2);
    let question = json!({ "stream_name": fires.stream, "config": config, "action": "update" });
    raw::api(&fleet, &format!("CONSUMER.CREATE.FLEET_REQUESTS.coordinator_fires.{}", fires.filter), &question).await?;
    let finding = found(&fleet, "coordinator-consumers").await;
    assert!(finding["severity"] == "error" && seen(&finding).contains("max_deliver is 2, not none"), "{finding}");
    repair(&fleet, &finding).await?;
    gone(&fleet, "coordinator-consumers").await;
    assert_eq!(state().await?.consumer, fires);

    // One that is well makes it again by itself: one that stands still has its leases, and does not.
    let process = Pid::from_raw(i32::try_from(coordinator.id().context("it runs")?)?);
    kill(process, Signal::SIGSTOP)?;
    raw::api(&fleet, "CONSUMER.DELETE.FLEET_REQUESTS.coordinator_fires", &Value::Null).await?;
    let finding = found(&fleet, "coordinator-consumers").await;
    assert!(finding["severity"] == "error" && seen(&finding).contains("is not there"), "{finding}");
    assert_eq!(remedy(&finding), ["topology", "apply"]);
    repair(&fleet, &finding).await?;
    assert_eq!(state().await?.consumer, fires);
    kill(process, Signal::SIGCONT)?;
    gone(&fleet, "coordinator-consumers").await;
    coordinator.kill().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_whose_file_a_loss_of_power_has_torn_delivers_and_is_told() -> Result<()> {
    let mut fleet = Fleet::start().await?;
    let coordinator = start(&fleet, &["process", "coordinator"]);
    let worker = fleet.run(fleet.worker("echo").capability("echo", echo), "echo").await?;
    fleet.client.request(&capability("echo"), &1).call(PATIENCE).await?;
    gone(&fleet, "coordinator").await;
    gone(&fleet, "coordinator-consumers").await;
    worker.stop().await?;
    drop(coordinator);

    fleet.server().stop().await?;
    let folder = fleet.server().store().join("jetstream/$G/streams/FLEET_REQUESTS/obs");
    for name in ["echo", "coordinator_fires"] {
        std::fs::write(folder.join(name).join("o.dat"), "torn")?;
    }
    fleet.server().restart().await?;

    let _coordinator = start(&fleet, &["process", "coordinator"]);
    let worker = fleet.run(fleet.worker("echo").capability("echo", echo), "echo").await?;
    fleet.client.request(&capability("echo"), &1).call(PATIENCE).await?;
    for (check, about) in [("consumers", "FLEET_REQUESTS/echo"), ("coordinator-consumers", FIRES)] {
        let finding = found(&fleet, check).await;
        assert_eq!((&finding["severity"], &finding["about"]), (&json!("warning"), &json!(about)), "{finding}");
        assert!(seen(&finding).contains("kept in the server's memory"), "{finding}");
        let (stream, name) = about.split_once('/').unwrap();
        assert_eq!(finding["command"], format!("nats consumer rm {stream} {name} -f"), "{finding}");
        // As it says: the folder, then the consumer.
        std::fs::remove_dir_all(folder.join(name))?;
        raw::api(&fleet, &format!("CONSUMER.DELETE.{stream}.{name}"), &Value::Null).await?;
        gone(&fleet, check).await;
    }
    fleet.client.request(&capability("echo"), &1).call(PATIENCE).await?;
    worker.stop().await
}
