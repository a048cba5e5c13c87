//! Unique work: one per key is queued or running, through every retry, until its outcome.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::time::Duration;

use anyhow::Result;
use client::{Cancellation, ErrorKind, Receipt};
use protocol::{Status, UniqueKey};
use sortie_tests::{Fleet, Journal, Latch, PATIENCE, count, fleet::capability, until};
use worker::{Backoff, CapabilityConfig, Context, Failure, RetryPolicy};

async fn submit(fleet: &Fleet, key: &str, input: &str) -> Result<Receipt, client::Error> {
    fleet.client.request(&capability("tea"), input).unique(UniqueKey::parse(key)?).submit().await
}

async fn assert_taken(fleet: &Fleet, key: &str, holder: &Receipt) {
    let error = submit(fleet, key, "again").await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::KeyTaken { holder: Some(holder.id().clone()) }, "{error}");
}

async fn until_free(fleet: &Fleet, key: &str) -> Receipt {
    until("the key is free", PATIENCE, || async { submit(fleet, key, "next").await.ok() }).await
}

fn config(attempts_max: u32, wait: Duration) -> CapabilityConfig {
    CapabilityConfig::default().retry(RetryPolicy { attempts_max, backoff: Backoff::fixed(wait) })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_taken_while_queued_and_while_running_and_free_after() -> Result<()> {
    let fleet = Fleet::start().await?;
    let first = submit(&fleet, "blue", "1").await?;
    assert!(first.id().as_str().starts_with("useq-"), "{}", first.id());
    assert_taken(&fleet, "blue", &first).await;
    let other = submit(&fleet, "red", "1").await?;
    let (latch, journal) = (Latch::new(), Journal::new());
    let (passes, noted) = (latch.clone(), journal.clone());
    let handler = move |_: Context, text: String| {
        noted.note(text.clone());
        let latch = passes.clone();
        async move {
            if text == "1" {
                latch.passed().await;
            }
            Ok::<_, Failure>(())
        }
    };
    let worker = fleet.run(fleet.worker("tea").capability("tea", handler), "tea").await?;
    until("both run", PATIENCE, || async { (journal.count("1") == 2).then_some(()) }).await;
    assert_taken(&fleet, "blue", &first).await;
    latch.open();
    for receipt in [&first, &other] {
        assert_eq!(receipt.outcome(PATIENCE).await?.status, Status::Completed);
    }
    let next = until_free(&fleet, "blue").await;
    assert_ne!(next.id(), first.id());
    assert_eq!(next.outcome(PATIENCE).await?.status, Status::Completed);
    assert_eq!(journal.count("again"), 0, "what was refused never runs");
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retried_one_keeps_its_key_and_counts_its_attempts() -> Result<()> {
    let fleet = Fleet::start().await?;
    let journal = Journal::new();
    let noted = journal.clone();
    let handler = move |ctx: Context, text: String| {
        let calls = noted.note(format!("{text} {}", ctx.attempt()));
        async move {
            match text.as_str() {
                "snooze" if calls < 3 => Err(Failure::snooze(Duration::from_secs(2))),
                "fail" => Err(Failure::new("tea_is_cold", "no")),
                _ => Ok(ctx.attempt()),
            }
        }
    };
    let builder = fleet.worker("tea").slots(1);
    let builder = builder.capability_with("tea", config(3, Duration::from_secs(3)), handler);
    let worker = fleet.run(builder, "tea").await?;
    let snoozed = submit(&fleet, "blue", "snooze").await?;
    until("it is put off", PATIENCE, || async { (!journal.is_empty()).then_some(()) }).await;
    assert_taken(&fleet, "blue", &snoozed).await;
    let outcome = snoozed.outcome(PATIENCE).await?;
    assert_eq!((outcome.result::<u32>().unwrap(), journal.count("snooze 1")), (1, 3), "a snooze burns no attempt");

    let failing = submit(&fleet, "red", "fail").await?;
    until("its second attempt ran", PATIENCE, || async { (journal.count("fail 2") == 1).then_some(()) }).await;
    assert_taken(&fleet, "red", &failing).await;
    let outcome = failing.outcome(PATIENCE).await?;
    let failure = outcome.failure().unwrap();
    let attempts: Vec<u32> = failure.attempts.iter().map(|record| record.attempt).collect();
    assert_eq!((outcome.status, outcome.attempt, attempts), (Status::Failed, 3, vec![1, 2, 3]));
    until("its dead letter", PATIENCE, || async { fleet.client.dead_letter(failing.id()).await.ok().flatten() }).await;
    let next = until_free(&fleet, "red").await;
    assert_eq!(next.outcome(PATIENCE).await?.result::<u32>().unwrap(), 1, "the next of the key begins anew");
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_waits_for_its_retry_holds_no_slot() -> Result<()> {
    let fleet = Fleet::start().await?;
    let handler = |ctx: Context, text: String| async move {
        if text == "fail" && ctx.attempt() == 1 { Err(Failure::new("tea_is_cold", "no")) } else { Ok(()) }
    };
    let builder = fleet.worker("tea").slots(1);
    let builder = builder.capability_with("tea", config(2, Duration::from_secs(10)), handler);
    let worker = fleet.run(builder, "tea").await?;
    let waiting = submit(&fleet, "blue", "fail").await?;
    for number in 0..20 {
        submit(&fleet, &format!("key-{number}"), "fine").await?.outcome(Duration::from_secs(5)).await?;
    }
    assert_eq!(waiting.outcome(PATIENCE).await?.attempt, 2);
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_one_frees_its_key() -> Result<()> {
    let fleet = Fleet::start().await?;
    let queued = submit(&fleet, "blue", "never").await?;
    assert_eq!(queued.cancel().await?, Cancellation::Cancelled);
    assert_eq!(count::waiting(&fleet.client).await?, 0, "it is purged");
    let second = submit(&fleet, "blue", "second").await?;
    let journal = Journal::new();
    let noted = journal.clone();
    let handler = move |ctx: Context, text: String| {
        noted.note(text.clone());
        async move {
            if text == "second" {
                ctx.cancellation().cancelled().await;
            }
            Ok::<_, Failure>(())
        }
    };
    let worker = fleet.run(fleet.worker("tea").capability("tea", handler), "tea").await?;
    until("it runs", PATIENCE, || async { (journal.len() == 1).then_some(()) }).await;
    assert_eq!(second.cancel().await?, Cancellation::Cancelled);
    let next = until_free(&fleet, "blue").await;
    assert_eq!(next.outcome(PATIENCE).await?.status, Status::Completed);
    assert_eq!(second.outcome(PATIENCE).await?.status, Status::Cancelled);
    assert_eq!(journal.lines(), ["second", "next"]);
    worker.stop().await
}
