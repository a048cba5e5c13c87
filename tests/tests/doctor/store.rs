//! A store without room, and what that leaves behind.

use anyhow::Result;
use broker::{Kind, Outgoing, Publisher, topology};
use embedded::Config;
use protocol::{Backoff, RetryPolicy};
use serde_json::json;
use sortie_tests::{Fleet, fleet::capability, raw, until};
use worker::{CapabilityConfig, Context, Failure};

use crate::bystander::{PATIENCE, found, gone, remedy, repair, seen, sortie, start, why};

/// Room for the fleet's streams and little more.
const STORE_BYTES_MAX: u64 = 8 << 20;

fn small_store() -> Config {
    Config { store_bytes_max: Some(STORE_BYTES_MAX), ..Config::default() }
}

/// Something that nobody was promised takes the room.
async fn fill(fleet: &Fleet) {
    fill_with(fleet, "fleet.event.noise").await;
}

async fn fill_with(fleet: &Fleet, subject: &str) {
    let publisher = Publisher::new(&fleet.connection);
    // Ever smaller, so that in the end not even a small message fits.
    for bytes in [256 * 1024, 16 * 1024, 512, 1] {
        let noise = Outgoing::new(subject, "x".repeat(bytes));
        let refused = async {
            loop {
                if let Err(error) = publisher.publish(&noise).await {
                    return error;
                }
            }
        };
        let error = tokio::time::timeout(PATIENCE, refused).await.expect("the store is full at last");
        assert_eq!(error.kind(), Kind::StoreFull, "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_full() -> Result<()> {
    let fleet = Fleet::start_with(small_store()).await?;
    let receipt = fleet.client.request(&capability("echo"), &1).submit().await?;
    fill(&fleet).await;
    for cancel in [&["cancel", receipt.id().as_str()][..], &["cancel", "--capability", "echo"]] {
        let output = sortie(&fleet, cancel).await;
        let errors = String::from_utf8(output.stderr)?;
        assert_eq!(output.status.code(), Some(75), "{errors}");
        for words in ["a cancel is stored", "store takes none", "`sortie doctor`"] {
            assert!(errors.contains(words), "{words}: {errors}");
        }
    }
    let refused = fleet.client.cancel(receipt.id()).await.unwrap_err();
    assert_eq!(*refused.kind(), client::ErrorKind::StoreFull, "{refused}");
    let finding = found(&fleet, "store").await;
    assert_eq!(finding["severity"], "error", "{finding}");
    assert!(
        seen(&finding).contains("the store is full") && seen(&finding).contains("the largest: FLEET_EVENTS"),
        "{finding}"
    );
    // No retention is shorter than what was just stored: first it is only said that one will help.
    let finding = until("its oldest events are worth naming a retention", PATIENCE, || async {
        Some(found(&fleet, "store").await).filter(|finding| finding["command"].is_string())
    })
    .await;
    assert_eq!(remedy(&finding), ["topology", "apply", "--events-kept", "10s"]);
    assert!(
        finding["remedy"].as_str().unwrap().contains("`sortie topology apply --events-kept 7d` sets it back"),
        "{finding}"
    );
    repair(&fleet, &finding).await?;
    gone(&fleet, "store").await;
    let output = sortie(&fleet, &["topology", "apply", "--events-kept", "7d"]).await;
    assert!(output.status.success(), "{output:?}");
    fleet.client.request(&capability("echo"), &1).submit().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_full_of_log_lines() -> Result<()> {
    let fleet = Fleet::start_with(Config { store_bytes_max: Some(8 << 20), ..Config::default() }).await?;
    let output = sortie(&fleet, &["topology", "apply", "--logs-bytes-max", "7MB"]).await;
    assert!(output.status.success(), "{output:?}");
    let publisher = Publisher::new(&fleet.connection);
    let line = Outgoing::new("fleet.log.words.a", "x".repeat(256 * 1024));
    for _ in 0..25 {
        publisher.publish(&line).await?;
    }
    fill(&fleet).await;
    let finding = found(&fleet, "store").await;
    assert_eq!(remedy(&finding), ["topology", "apply", "--logs-bytes-max", "2MB"], "{finding}");
    repair(&fleet, &finding).await?;
    gone(&fleet, "store").await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_others_fill() -> Result<()> {
    let fleet = Fleet::start_with(small_store()).await?;
    raw::api(&fleet, "STREAM.CREATE.NOISE", &json!({ "name": "NOISE", "subjects": ["noise.>"] })).await?;
    fill_with(&fleet, "noise.a").await;
    let finding = found(&fleet, "store").await;
    assert!(
        seen(&finding).contains("streams that are not this fleet's hold") && seen(&finding).contains("NOISE "),
        "{finding}"
    );
    assert!(finding["remedy"].as_str().unwrap().contains("less of NOISE, which is not this fleet's"), "{finding}");
    topology::purge(&fleet.connection, "NOISE", ">", None).await?;
    gone(&fleet, "store").await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_that_is_overdue() -> Result<()> {
    let fleet = Fleet::start_with(small_store()).await?;
    let retry = RetryPolicy { attempts_max: 2, backoff: Backoff::fixed(std::time::Duration::from_secs(8)) };
    let fails_first = |ctx: Context, input: u32| async move {
        if ctx.attempt() == 1 { Err(Failure::new("not_yet", "once more")) } else { Ok(input) }
    };
    let builder = fleet.worker("echo").capability_with("echo", CapabilityConfig::default().retry(retry), fails_first);
    let worker = fleet.run(builder, "echo").await?;
    let receipt = fleet.client.request(&capability("echo"), &1).submit().await?;
    let schedules =
        || async { topology::subject_counts(&fleet.connection, "FLEET_REQUESTS", "fleet.later.*").await.ok() };
    until("its retry waits", PATIENCE, || async { (schedules().await?.len() == 1).then_some(()) }).await;
    fill(&fleet).await;
    // The broker tries once, when it is due, fails, and forgets it until it restarts.
    let finding = found(&fleet, "overdue").await;
    assert_eq!((&finding["severity"], &finding["about"]), (&json!("error"), &json!("echo")));
    assert!(seen(&finding).contains(receipt.id().as_str()), "{finding}");
    assert_eq!(why(&fleet, receipt.id().as_str()).await, "scheduled");
    let told = sortie(&fleet, &["why", receipt.id().as_str()]).await;
    assert!(String::from_utf8_lossy(&told.stdout).contains("waits for attempt 2 and is overdue by "), "{told:?}");
    topology::purge(&fleet.connection, "FLEET_EVENTS", ">", None).await?;
    let mut coordinator = start(&fleet, &remedy(&finding));
    assert_eq!(receipt.outcome(PATIENCE).await?.result::<u32>().unwrap(), 1);
    gone(&fleet, "overdue").await;
    coordinator.kill().await?;
    worker.stop().await
}
