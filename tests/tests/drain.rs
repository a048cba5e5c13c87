//! Leaving in order: nothing is lost, nobody is blamed, no attempt is burnt.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Result;
use nix::sys::signal::Signal;
use protocol::{RequestId, Status, registry::State};
use serde_json::json;
use sortie_tests::{Count, Fleet, Journal, Latch, PATIENCE, fleet::capability, process::Start, until};
use worker::{Backoff, CapabilityConfig, Config, Context, Failure, RetryPolicy};

/// Exactly one outcome each, all at the first attempt.
async fn assert_no_attempt_burnt(fleet: &Fleet, accepted: &BTreeSet<RequestId>) -> Result<()> {
    for id in accepted {
        let outcome = fleet.client.wait(id, PATIENCE).await?;
        assert_eq!((outcome.status, outcome.attempt), (Status::Completed, 1), "{id}: {:?}", outcome.failure());
    }
    until("nothing waits", PATIENCE, || async {
        (Count::of(&fleet.client, accepted).await.ok()?.waiting == 0).then_some(())
    })
    .await;
    let count = Count::of(&fleet.client, accepted).await?;
    count.assert_whole();
    assert_eq!(count.dead, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn drains_under_load_lose_nothing() -> Result<()> {
    let fleet = Fleet::start().await?;
    let journal = Journal::new();
    let noted = journal.clone();
    let handler = move |_: Context, number: u32| {
        noted.note(number.to_string());
        async move {
            tokio::time::sleep(Duration::from_millis(u64::from(number % 7) * 5)).await;
            Ok::<_, Failure>(number)
        }
    };
    let start = || fleet.run(fleet.worker("tea").capability("tea", handler.clone()), "tea");
    let mut worker = start().await?;
    let mut accepted = BTreeSet::new();
    for number in 0..800_u32 {
        accepted.insert(fleet.client.request(&capability("tea"), &number).submit().await?.id().clone());
        // Five workers one after another, each drained while its slots are full.
        if number % 160 == 159 {
            worker.stop().await?;
            worker = start().await?;
        }
    }
    assert_no_attempt_burnt(&fleet, &accepted).await?;
    worker.stop().await?;
    assert_eq!(journal.len(), 800, "what was handed back had not begun");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_gets_sigterm_under_load_ends_with_0_and_loses_nothing() -> Result<()> {
    let fleet = Arc::new(Fleet::start().await?);
    let start = Start::new(env!("CARGO_BIN_EXE_test-worker"));
    let mut process = start.ready(&fleet).await?;
    let mut accepted = BTreeSet::new();
    for number in 0..400_u32 {
        let input = json!({"do": "sleep", "ms": number % 30});
        accepted.insert(fleet.client.request(&capability("work"), &input).submit().await?.id().clone());
        if number % 100 == 99 {
            process.signal(Signal::SIGTERM)?;
            assert_eq!(process.ended(PATIENCE).await?.code(), Some(0));
            process = start.ready(&fleet).await?;
        }
    }
    assert_no_attempt_burnt(&fleet, &accepted).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_runs_ends_within_the_grace_and_nothing_new_begins() -> Result<()> {
    let fleet = Fleet::start().await?;
    let (journal, latch) = (Journal::new(), Latch::new());
    let (noted, passes) = (journal.clone(), latch.clone());
    let handler = move |_: Context, text: String| {
        noted.note(text);
        let latch = passes.clone();
        async move {
            latch.passed().await;
            Ok::<_, Failure>(())
        }
    };
    let config = Config { registry_interval: Duration::from_millis(200), ..fleet.worker_config() };
    let builder = fleet.worker("tea").config(config).slots(2).capability("tea", handler);
    let worker = fleet.run(builder, "tea").await?;
    let running = fleet.client.request(&capability("tea"), "running").submit().await?;
    until("it runs", PATIENCE, || async { (journal.len() == 1).then_some(()) }).await;
    worker.drain();
    until("it says that it drains", PATIENCE, || async {
        let agent = fleet.client.agents().await.ok()?.pop()?;
        (agent.state == State::Draining && agent.slots_busy == 1).then_some(())
    })
    .await;
    let queued = fleet.client.request(&capability("tea"), "queued").submit().await?;
    assert!(queued.outcome(Duration::from_millis(700)).await.is_err());
    latch.open();
    worker.stop().await?;
    assert_eq!(running.outcome(PATIENCE).await?.status, Status::Completed);
    assert_eq!(journal.lines(), ["running"]);
    assert_eq!(fleet.client.agents().await?.pop().map(|agent| agent.state), Some(State::Stopped));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_runs_when_the_grace_is_over_is_handed_back() -> Result<()> {
    let fleet = Fleet::start().await?;
    let (journal, latch) = (Journal::new(), Latch::new());
    let (noted, passes) = (journal.clone(), latch.clone());
    let handler = move |ctx: Context, kind: String| {
        let begun = noted.note(kind.clone());
        let latch = passes.clone();
        async move {
            match kind.as_str() {
                _ if begun > 4 => {}
                "asks" => ctx.cancellation().cancelled().await,
                "ends all the same" => {
                    ctx.cancellation().cancelled().await;
                    return Ok(0);
                }
                "holds its thread" => latch.hold_thread(),
                _ => std::future::pending().await,
            }
            if begun > 4 { Ok(ctx.attempt()) } else { Err(Failure::new("interrupted", "no")) }
        }
    };
    let config = Config {
        drain_grace: Duration::from_millis(300),
        stop_grace: Duration::from_millis(300),
        ..fleet.worker_config()
    };
    let capability_config = CapabilityConfig::default()
        .retry(RetryPolicy { attempts_max: 1, backoff: Backoff::fixed(Duration::from_secs(1)) });
    let builder = fleet.worker("tea").config(config);
    let builder = builder.capability_with("tea", capability_config.clone(), handler.clone());
    let worker = fleet.run_apart(builder, "tea").await?;
    let mut receipts = Vec::new();
    for kind in ["asks", "never asks", "ends all the same", "holds its thread"] {
        receipts.push(fleet.client.request(&capability("tea"), kind).submit().await?);
    }
    until("all run", PATIENCE, || async { (journal.len() == 4).then_some(()) }).await;
    let began = Instant::now();
    worker.stop().await?;
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    latch.open();
    let builder = fleet.worker("tea").capability_with("tea", capability_config, handler);
    let next = fleet.run(builder, "tea").await?;
    for (receipt, expected) in receipts.iter().zip([1, 1, 0, 1]) {
        let outcome = receipt.outcome(PATIENCE).await?;
        assert_eq!((outcome.result::<u32>(), outcome.attempt), (Ok(expected), 1));
    }
    next.stop().await
}

/// Longer than the watchdog lets a worker stand still.
#[tokio::test(flavor = "multi_thread")]
async fn a_drain_may_take_as_long_as_its_grace() -> Result<()> {
    let fleet = Fleet::start().await?;
    let began = Journal::new();
    let noted = began.clone();
    let handler = move |_: Context, seconds: u64| {
        noted.note("begun");
        async move {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            Ok::<_, Failure>(())
        }
    };
    let config = Config { drain_grace: Duration::from_secs(60), ..fleet.worker_config() };
    let worker = fleet.run(fleet.worker("tea").config(config).capability("tea", handler), "tea").await?;
    let receipt = fleet.client.request(&capability("tea"), &34).submit().await?;
    until("it runs", PATIENCE, || async { (began.len() == 1).then_some(()) }).await;
    worker.stop().await?;
    assert_eq!(receipt.outcome(PATIENCE).await?.status, Status::Completed);
    Ok(())
}
