//! Deadlines: before the start, during the run, and where nobody serves.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use anyhow::Result;
use coordinator::Coordinator;
use protocol::{Status, codes};
use sortie_tests::{Count, Fleet, Journal, PATIENCE, count, fleet::capability, until};
use worker::{Backoff, CapabilityConfig, Context, Failure, RetryPolicy};

/// Past by the broker's clock.
async fn passed(fleet: &Fleet, wait: Duration) {
    let end = fleet.client.now().await.expect("the broker's clock") + wait;
    until("the deadline has passed", PATIENCE, || async { (fleet.client.now().await.ok()? > end).then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_expired_before_it_began_never_runs() -> Result<()> {
    let fleet = Fleet::start().await?;
    let wait = Duration::from_millis(300);
    let receipt = fleet.client.request(&capability("tea"), "never").deadline_in(wait).submit().await?;
    passed(&fleet, wait).await;
    let journal = Journal::new();
    let noted = journal.clone();
    let handler = move |_: Context, text: String| {
        noted.note(text);
        async { Ok::<_, Failure>(()) }
    };
    let worker = fleet.run(fleet.worker("tea").capability("tea", handler), "tea").await?;
    let outcome = receipt.outcome(PATIENCE).await?;
    assert_eq!(outcome.status, Status::Expired);
    assert_eq!(outcome.failure().unwrap().code, codes::DEADLINE_EXCEEDED);
    fleet.client.request(&capability("tea"), "in time").deadline_in(PATIENCE).call(PATIENCE).await?;
    assert_eq!(journal.lines(), ["in time"]);
    worker.stop().await?;
    let count = Count::whole(&fleet.client, &BTreeSet::from([receipt.id().clone()]), PATIENCE).await;
    assert_eq!(count.dead, 0, "an expired request is no dead letter");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_ends_what_runs() -> Result<()> {
    let fleet = Fleet::start().await?;
    let handler = |ctx: Context, kind: String| async move {
        match kind.as_str() {
            "result too late" => {
                ctx.cancellation().cancelled().await;
                Ok(())
            }
            "hangs" => std::future::pending().await,
            _ => Err(Failure::snooze(Duration::from_secs(600))),
        }
    };
    let worker = fleet.run(fleet.worker("tea").capability("tea", handler), "tea").await?;
    // Several times: the deadline and the timer that keeps it are read on two clocks.
    for kind in ["hangs", "result too late", "put off beyond it"].into_iter().cycle().take(12) {
        let began = Instant::now();
        let request = fleet.client.request(&capability("tea"), kind).deadline_in(Duration::from_millis(400));
        let outcome = request.call(PATIENCE).await?;
        assert_eq!(outcome.status, Status::Expired, "{kind}: {:?}", outcome.failure());
        assert!(began.elapsed() < PATIENCE / 2, "{kind}: {:?}", began.elapsed());
    }
    worker.stop().await?;
    count::nothing_waits(&fleet.client).await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_that_would_begin_after_the_deadline_is_not_made() -> Result<()> {
    let fleet = Fleet::start().await?;
    let config = CapabilityConfig::default()
        .retry(RetryPolicy { attempts_max: 3, backoff: Backoff::fixed(Duration::from_secs(600)) });
    let handler = |_: Context, _: u32| async { Err::<(), _>(Failure::new("tea_is_cold", "no")) };
    let worker = fleet.run(fleet.worker("tea").capability_with("tea", config, handler), "tea").await?;
    let request = fleet.client.request(&capability("tea"), &1).deadline_in(Duration::from_secs(60));
    let outcome = request.call(PATIENCE).await?;
    assert_eq!((outcome.status, outcome.attempt), (Status::Failed, 1));
    assert_eq!(outcome.failure().unwrap().code, "tea_is_cold", "the failure is told, not hidden");
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_holds_where_nobody_serves() -> Result<()> {
    let fleet = Fleet::start().await?;
    let handler = |_: Context, _: u32| async { Ok::<_, Failure>(()) };
    // One capability was served once, another never.
    fleet.run(fleet.worker("tea").capability("tea", handler), "tea").await?.stop().await?;
    let config = coordinator::Config { deadlines_every: Duration::from_millis(300), ..coordinator::Config::default() };
    let coordinator = Coordinator::start(&fleet.connection, config, &prometheus::Registry::new()).await?;
    let mut accepted = BTreeSet::new();
    for name in ["tea", "never-served"] {
        let soon = fleet.client.request(&capability(name), &1).deadline_in(Duration::from_millis(300));
        let outcome = soon.call(PATIENCE).await?;
        assert_eq!(outcome.status, Status::Expired, "{name}");
        accepted.insert(outcome.id);
        let late = fleet.client.request(&capability(name), &1).deadline_in(Duration::from_secs(600)).submit().await?;
        assert!(fleet.client.outcome(late.id()).await?.is_none(), "{name}: what has time waits");
    }
    until("what expired is out of the queue", PATIENCE, || async {
        (count::waiting(&fleet.client).await.ok()? == 2).then_some(())
    })
    .await;
    coordinator.handle().stop();
    assert!(coordinator.stopped().await);
    Ok(())
}
