//! A broker that is away for a while: the worker goes on by itself, and nothing is lost.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::{collections::BTreeSet, time::Duration};

use anyhow::Result;
use broker::task;
use protocol::{RequestId, Status};
use sortie_tests::{Count, Fleet, Journal, Latch, fleet::capability, until};
use worker::{Context, Failure};

/// The broker is away for up to a quarter of a minute in these.
const LONG: Duration = Duration::from_secs(60);

/// Waits this long, by a clock that no test needs to trust exactly.
async fn passed(wait: Duration) {
    let end = tokio::time::Instant::now() + wait;
    until("the time is over", LONG, || async { (tokio::time::Instant::now() >= end).then_some(()) }).await;
}

async fn assert_whole(fleet: &Fleet, accepted: &BTreeSet<RequestId>) -> Result<()> {
    for id in accepted {
        assert_eq!(fleet.client.wait(id, LONG).await?.status, Status::Completed, "{id}");
    }
    until("nothing waits", LONG, || async {
        (Count::of(&fleet.client, accepted).await.ok()?.waiting == 0).then_some(())
    })
    .await;
    let count = Count::of(&fleet.client, accepted).await?;
    count.assert_whole();
    assert_eq!(count.dead, 0);
    Ok(())
}

async fn work(_ctx: Context, number: u64) -> Result<u64, Failure> {
    tokio::time::sleep(Duration::from_millis(number % 20)).await;
    Ok(number)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_restarted_under_load_loses_nothing() -> Result<()> {
    let mut fleet = Fleet::start().await?;
    let worker = fleet.run(fleet.worker("tea").capability("tea", work), "tea").await?;
    let client = fleet.client.clone();
    let submitting = task::spawn("submitting", async move {
        let mut accepted = BTreeSet::new();
        for number in 0..1_500_u64 {
            let receipt = client.request(&capability("tea"), &number).submit().await?;
            accepted.insert(receipt.id().clone());
        }
        Ok::<_, client::Error>(accepted)
    });
    for is_crash in [false, true] {
        passed(Duration::from_millis(300)).await;
        if is_crash {
            fleet.server().kill()?;
        }
        fleet.server().restart().await?;
    }
    let accepted = submitting.join().await.expect("no panic")?;
    assert_whole(&fleet, &accepted).await?;
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_hears_nothing_for_a_while_goes_on() -> Result<()> {
    let mut fleet = Fleet::start().await?;
    let (journal, latch) = (Journal::new(), Latch::new());
    let (noted, passes) = (journal.clone(), latch.clone());
    let handler = move |_: Context, waits: bool| {
        noted.note("begun");
        let latch = passes.clone();
        async move {
            if waits {
                latch.passed().await;
            }
            Ok::<_, Failure>(())
        }
    };
    let worker = fleet.run(fleet.worker("tea").slots(3).capability("tea", handler), "tea").await?;
    let mut accepted = BTreeSet::new();
    for waits in [true, true, false] {
        accepted.insert(fleet.client.request(&capability("tea"), &waits).submit().await?.id().clone());
    }
    until("all run", LONG, || async { (journal.len() == 3).then_some(()) }).await;
    // A server that is hung, longer than the ack deadline: two end meanwhile, and cannot say so.
    fleet.server().pause()?;
    passed(Duration::from_secs(5)).await;
    latch.open();
    passed(Duration::from_secs(10)).await;
    fleet.server().resume()?;
    assert_whole(&fleet, &accepted).await?;
    for _ in 0..20 {
        accepted.insert(fleet.client.request(&capability("tea"), &false).submit().await?.id().clone());
    }
    assert_whole(&fleet, &accepted).await?;
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_away_is_waited_for() -> Result<()> {
    let mut fleet = Fleet::start().await?;
    let (journal, latch) = (Journal::new(), Latch::new());
    let (noted, passes) = (journal.clone(), latch.clone());
    let handler = move |_: Context, _: u32| {
        noted.note("begun");
        let latch = passes.clone();
        async move {
            latch.passed().await;
            Ok::<_, Failure>(())
        }
    };
    // Enough in hand that what is asked for it meanwhile would fill any queue.
    let worker = fleet.run(fleet.worker("tea").slots(300).capability("tea", handler), "tea").await?;
    let mut accepted = BTreeSet::new();
    for number in 0..300 {
        accepted.insert(fleet.client.request(&capability("tea"), &number).submit().await?.id().clone());
    }
    until("all run", LONG, || async { (journal.len() == 300).then_some(()) }).await;
    fleet.server().kill()?;
    // Longer than the watchdog lets a worker stand still.
    passed(Duration::from_secs(35)).await;
    fleet.server().restart().await?;
    latch.open();
    assert_whole(&fleet, &accepted).await?;
    worker.stop().await
}

/// A look of a coordinator's duty stands still while its lease is renewed, and both read over one connection.
#[tokio::test(flavor = "multi_thread")]
async fn a_read_that_nobody_goes_on_with_keeps_no_other_from_reading() -> Result<()> {
    let fleet = Fleet::start().await?;
    let stream = protocol::topology::Names::of(&fleet.namespace).outcomes;
    let subject = protocol::subject::filter::outcomes(&fleet.namespace);
    let reader = broker::Reader::apart(&fleet.connection);
    let mut first = std::pin::pin!(reader.last(&stream, &subject));
    // It begins to open the connection, and is not asked again.
    assert!(futures_util::poll!(&mut first).is_pending());
    let second = tokio::time::timeout(sortie_tests::PATIENCE, reader.last(&stream, &subject));
    assert!(second.await.expect("the other one ends")?.is_none());
    assert!(first.await?.is_none());
    Ok(())
}
