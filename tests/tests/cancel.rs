//! Cancelling: queued, running, done or unknown; it wins or loses the race like any outcome, and there is only one.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::{collections::BTreeSet, time::Duration};

use anyhow::Result;
use broker::Outgoing;
use client::{Cancellation, ErrorKind};
use futures_util::{StreamExt, stream};
use protocol::{RequestId, Status, control::CancelNotice, registry::AgentEntry};
use sortie_tests::{Count, Fleet, Journal, Latch, PATIENCE, fleet::capability, raw, until};
use worker::{Config, Context, Failure};

async fn agent(fleet: &Fleet) -> Option<AgentEntry> {
    fleet.client.agents().await.ok()?.pop()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queued_request_never_starts() -> Result<()> {
    let fleet = Fleet::start().await?;
    let by_client = fleet.client.request(&capability("tea"), "never").submit().await?;
    let by_hand = raw::request(&fleet, "tea", &[], "\"never\"").await?;
    assert_eq!(by_client.cancel().await?, Cancellation::Cancelled);
    assert_eq!(fleet.client.cancel(&by_hand).await?, Cancellation::Cancelled);
    assert_eq!(fleet.client.cancel(&by_hand).await?, Cancellation::Cancelled, "once more is the same");
    // Whoever takes it finds the outcome where it is certainly not fresh; here it is a second old.
    let age = Duration::from_millis(1_100);
    fleet.client.request(&capability("clock"), &1).delay(age).submit().await?;
    until("a second has passed", PATIENCE, || async { fleet.client.later(1).await.ok()?.is_empty().then_some(()) })
        .await;
    let journal = Journal::new();
    let noted = journal.clone();
    let handler = move |_: Context, text: String| {
        noted.note(text);
        async { Ok::<_, Failure>(()) }
    };
    let worker = fleet.run(fleet.worker("tea").capability("tea", handler), "tea").await?;
    fleet.client.request(&capability("tea"), "after").call(PATIENCE).await?;
    worker.stop().await?;
    assert_eq!(journal.lines(), ["after"]);
    for id in [by_client.id(), &by_hand] {
        assert_eq!(fleet.client.wait(id, PATIENCE).await?.status, Status::Cancelled);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_request_is_told_and_its_slot_is_free() -> Result<()> {
    let fleet = Fleet::start().await?;
    let journal = Journal::new();
    let noted = journal.clone();
    let handler = move |ctx: Context, kind: String| {
        let journal = noted.clone();
        async move {
            journal.note(&*kind);
            match kind.as_str() {
                "heeds" => {
                    ctx.cancellation().cancelled().await;
                    journal.note("told");
                }
                "asks and ignores" => {
                    let _token = ctx.cancellation();
                    std::future::pending::<()>().await;
                }
                "never asks" => std::future::pending::<()>().await,
                _ => {}
            }
            Ok::<_, Failure>(())
        }
    };
    let config = Config { stop_grace: Duration::from_millis(500), ..fleet.worker_config() };
    let builder = fleet.worker("tea").config(config).slots(1).capability("tea", handler);
    let worker = fleet.run(builder, "tea").await?;
    for kind in ["heeds", "asks and ignores", "never asks"] {
        let receipt = fleet.client.request(&capability("tea"), kind).submit().await?;
        until("it runs", PATIENCE, || async { (journal.count(kind) == 1).then_some(()) }).await;
        assert_eq!(receipt.cancel().await?, Cancellation::Cancelled);
        assert_eq!(receipt.outcome(PATIENCE).await?.status, Status::Cancelled, "{kind}");
        let next = fleet.client.request(&capability("tea"), "next").call(PATIENCE).await?;
        assert_eq!(next.status, Status::Completed, "{kind}: the only slot is free again");
    }
    assert_eq!((journal.count("told"), journal.count("heeds")), (1, 1));
    worker.stop().await?;
    let count = Count::whole(&fleet.client, &BTreeSet::new(), PATIENCE).await;
    assert_eq!((count.waiting, count.dead, count.foreign), (0, 0, 6));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_done_stays_done_and_what_never_was_is_not_found() -> Result<()> {
    let fleet = Fleet::start().await?;
    let handler = |_: Context, number: u32| async move { Ok::<_, Failure>(number) };
    let worker = fleet.run(fleet.worker("tea").capability("tea", handler), "tea").await?;
    let id = raw::request(&fleet, "tea", &[], "7").await?;
    let outcome = fleet.client.wait(&id, PATIENCE).await?;
    assert_eq!(fleet.client.cancel(&id).await?, Cancellation::AlreadyDone(outcome));
    for never in ["seq-999999", "seq-0", "useq-1"] {
        let error = fleet.client.cancel(&RequestId::parse(never)?).await.unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::NotFound, "{never}");
    }
    let named = raw::publish(&fleet, "fleet.request.unserved", &[("Sortie-Request-Id", "order-1")], "7").await?;
    let error = fleet.client.cancel(&RequestId::of_sequence(named)).await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::NotFound, "that message has an id of its own");
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_that_races_with_the_end_leaves_one_outcome() -> Result<()> {
    let fleet = Fleet::start().await?;
    let handler = |_: Context, millis: u64| async move {
        tokio::time::sleep(Duration::from_millis(millis)).await;
        Ok::<_, Failure>(millis)
    };
    let worker = fleet.run(fleet.worker("tea").slots(4).capability("tea", handler), "tea").await?;
    let races = stream::iter(0..50_u64).map(|round| {
        let client = &fleet.client;
        async move {
            let receipt = client.request(&capability("tea"), &(round % 5)).submit().await?;
            let cancelled = receipt.cancel().await?;
            let outcome = client.outcome(receipt.id()).await?.expect("an outcome");
            match cancelled {
                Cancellation::Cancelled => assert_eq!(outcome.status, Status::Cancelled),
                Cancellation::RunTold => panic!("it is no run"),
                Cancellation::AlreadyDone(done) => assert_eq!((done.status, &done), (Status::Completed, &outcome)),
            }
            anyhow::Ok((receipt.id().clone(), outcome.status))
        }
    });
    let ended: Vec<_> = races.buffer_unordered(4).collect().await;
    let mut accepted = BTreeSet::new();
    for ended in ended {
        accepted.insert(ended?.0);
    }
    until("every slot is free", PATIENCE, || async {
        let count = Count::of(&fleet.client, &accepted).await.ok()?;
        (count.waiting == 0).then_some(())
    })
    .await;
    let count = Count::of(&fleet.client, &accepted).await?;
    count.assert_whole();
    assert_eq!((count.with(Status::Completed) + count.with(Status::Cancelled), count.dead), (50, 0));
    worker.stop().await
}

/// Anyone may send such a notice, and a replica may not have the outcome yet: the message must not be let go, nor be
/// given back again and again until the broker gives it up.
#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_notice_without_an_outcome_loses_nothing() -> Result<()> {
    let fleet = Fleet::start().await?;
    let (journal, latch) = (Journal::new(), Latch::new());
    let (noted, passes) = (journal.clone(), latch.clone());
    let handler = move |ctx: Context, text: String| {
        let calls = noted.note(text);
        let latch = passes.clone();
        async move {
            if calls == 1 {
                latch.passed().await;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
            Ok::<_, Failure>(ctx.attempt())
        }
    };
    let worker = fleet.run(fleet.worker("tea").capability("tea", handler), "tea").await?;
    let receipt = fleet.client.request(&capability("tea"), "1").submit().await?;
    until("it runs", PATIENCE, || async { (journal.len() == 1).then_some(()) }).await;
    let notice = serde_json::to_vec(&CancelNotice { ids: vec![receipt.id().clone()] })?;
    fleet.connection.publish_core(Outgoing::new("fleet.control.all.cancel", notice)).await?;
    fleet.connection.publish_core(Outgoing::new("fleet.control.all.cancel", "no notice at all")).await?;
    // Longer than the worker looks for a proof.
    let pending = receipt.outcome(Duration::from_secs(2)).await;
    assert!(pending.is_err(), "what runs is not stopped by a word that nothing proves");
    latch.open();
    let outcome = receipt.outcome(PATIENCE).await?;
    assert_eq!((outcome.status, outcome.attempt, journal.len()), (Status::Completed, 1, 1));
    assert!(agent(&fleet).await.is_some());
    worker.stop().await?;
    Count::whole(&fleet.client, &BTreeSet::from([receipt.id().clone()]), PATIENCE).await;
    Ok(())
}
