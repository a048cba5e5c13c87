//! Lanes: urgent before normal before bulk, nobody starved, and nothing waits at a worker that has no free slot.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::{collections::BTreeSet, time::Duration};

use anyhow::Result;
use protocol::Lane;
use sortie_tests::{Count, Fleet, Journal, Latch, PATIENCE, fleet::capability, until};
use worker::{Context, Failure};

fn mean(lines: &[String], lane: &str) -> f64 {
    let places: Vec<usize> = (0..lines.len()).filter(|index| lines[*index] == lane).collect();
    places.iter().sum::<usize>() as f64 / places.len() as f64
}

#[tokio::test(flavor = "multi_thread")]
async fn urgent_comes_before_normal_before_bulk_and_none_is_starved() -> Result<()> {
    let fleet = Fleet::start().await?;
    let mut accepted = BTreeSet::new();
    for lane in [Lane::Bulk, Lane::Normal, Lane::Urgent] {
        for _ in 0..84 {
            let receipt = fleet.client.request(&capability("tea"), lane.token()).lane(lane).submit().await?;
            accepted.insert(receipt.id().clone());
        }
    }
    let journal = Journal::new();
    let noted = journal.clone();
    let handler = move |_: Context, lane: String| {
        noted.note(lane);
        async { Ok::<_, Failure>(()) }
    };
    let worker = fleet.run(fleet.worker("tea").slots(1).capability("tea", handler), "tea").await?;
    for id in &accepted {
        fleet.client.wait(id, PATIENCE).await?;
    }
    worker.stop().await?;
    Count::whole(&fleet.client, &accepted, PATIENCE).await;
    let lines = journal.lines();
    assert_eq!(lines.len(), 252, "each ran once");
    let of = |lane: &str| lines[..84].iter().filter(|line| *line == lane).count();
    // 64, 16 and 4 of the first 84, less what comes first while nobody knows yet where work is.
    let (urgent, normal, bulk) = (of("urgent"), of("request"), of("bulk"));
    assert!((58..=70).contains(&urgent) && (10..=22).contains(&normal) && (2..=10).contains(&bulk), "{lines:?}");
    assert!(mean(&lines, "urgent") < mean(&lines, "request") && mean(&lines, "request") < mean(&lines, "bulk"));
    Ok(())
}

/// One request alone in its lane, while another lane has a backlog of tasks that are longer than a crossed message is
/// kept: how many of the backlog begin before it does.
async fn begun_before(lone: Lane, backlog: Lane) -> Result<usize> {
    let fleet = Fleet::start().await?;
    let journal = Journal::new();
    let noted = journal.clone();
    let handler = move |_: Context, line: String| {
        noted.note(line);
        async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            Ok::<_, Failure>(())
        }
    };
    let worker = fleet.run(fleet.worker("tea").slots(1).capability("tea", handler), "tea").await?;
    for _ in 0..40 {
        fleet.client.request(&capability("tea"), "backlog").lane(backlog).submit().await?;
    }
    until("the backlog is begun", PATIENCE, || async { (journal.len() >= 2).then_some(()) }).await;
    let receipt = fleet.client.request(&capability("tea"), "lone").lane(lone).submit().await?;
    let before = journal.len();
    let outcome = receipt.outcome(PATIENCE).await?;
    assert_eq!(outcome.attempt, 1);
    let begun = journal.lines().iter().position(|line| line == "lone").unwrap();
    worker.stop().await?;
    Ok(begun.saturating_sub(before))
}

#[tokio::test(flavor = "multi_thread")]
async fn one_urgent_request_overtakes_a_backlog() -> Result<()> {
    let before = begun_before(Lane::Urgent, Lane::Normal).await?;
    // In its turn it would be behind all that is left of forty. How many begin while it crosses depends on the machine.
    assert!(before <= 20, "{before} of the normal lane came first");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_bulk_request_is_not_starved_by_a_backlog() -> Result<()> {
    let before = begun_before(Lane::Bulk, Lane::Normal).await?;
    assert!(before <= 8, "{before} of the normal lane came first; its share is one in five");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_goes_to_the_worker_that_has_a_free_slot() -> Result<()> {
    let fleet = Fleet::start().await?;
    let latch = Latch::new();
    let passes = latch.clone();
    let slow = move |_: Context, _: u32| {
        let latch = passes.clone();
        async move {
            latch.passed().await;
            Ok::<_, Failure>("slow")
        }
    };
    let full = fleet.run(fleet.worker("slow").slots(1).capability("tea", slow), "tea").await?;
    // Every lane has a pull open, so that all but one of these cross at a worker with one slot.
    let mut receipts = Vec::new();
    for lane in [Lane::Urgent, Lane::Normal, Lane::Bulk] {
        receipts.push(fleet.client.request(&capability("tea"), &1).lane(lane).submit().await?);
    }
    let quick = |_: Context, _: u32| async { Ok::<_, Failure>("quick") };
    let free = fleet.run(fleet.worker("quick").slots(2).capability("tea", quick), "tea").await?;
    for number in 0..20 {
        receipts.push(fleet.client.request(&capability("tea"), &number).submit().await?);
    }
    let mut waiting = Vec::new();
    for receipt in receipts {
        match receipt.outcome(Duration::from_secs(2)).await {
            Ok(outcome) => {
                assert_eq!((outcome.result::<String>().as_deref(), outcome.attempt), (Ok("quick"), 1));
            }
            Err(_) => waiting.push(receipt),
        }
    }
    assert_eq!(waiting.len(), 1, "only what runs at the full worker waits");
    latch.open();
    assert_eq!(waiting.remove(0).outcome(PATIENCE).await?.result::<String>().as_deref(), Ok("slow"));
    full.stop().await?;
    free.stop().await
}
