//! A message that kills every worker: it is set aside with its story, and its neighbours are not blamed.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::Result;
use protocol::{RequestId, Status, codes};
use serde_json::{Value, json};
use sortie_tests::{Count, Fleet, Journal, fleet::capability, process::Start, until};
use tokio::sync::Notify;
use worker::{Context, Failure};

/// Three deaths, each noticed after the ack deadline of ten seconds, and what runs alone in between.
const LONG: Duration = Duration::from_secs(90);

async fn submit(fleet: &Fleet, input: Value) -> Result<RequestId> {
    Ok(fleet.client.request(&capability("work"), &input).submit().await?.id().clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_kills_every_worker_is_set_aside_and_its_neighbours_complete() -> Result<()> {
    let fleet = Arc::new(Fleet::start().await?);
    let died = Arc::new(Notify::new());
    let start = Start::new(env!("CARGO_BIN_EXE_test-worker"));
    let supervised = [start.clone().supervise(&fleet, &died)?, start.supervise(&fleet, &died)?];
    until("both serve", LONG, || async {
        (fleet.client.serving(&capability("work")).await.ok()?.len() == 2).then_some(())
    })
    .await;
    // The neighbours are still at work when it kills, each time.
    let poison = submit(&fleet, json!({"do": "die", "ms": 300})).await?;
    let mut accepted = BTreeSet::from([poison.clone()]);
    for number in 0..12 {
        accepted.insert(submit(&fleet, json!({"do": "sleep", "ms": 600, "number": number})).await?);
    }
    let outcome = fleet.client.wait(&poison, LONG).await?;
    let failure = outcome.failure().expect("a failure");
    assert_eq!((outcome.status, failure.code.as_str()), (Status::Failed, codes::POISON));
    let letter =
        until("its dead letter", LONG, || async { fleet.client.dead_letter(&poison).await.ok().flatten() }).await;
    let killed: BTreeSet<_> = letter.letter.killed.iter().collect();
    assert_eq!(killed.len(), 2, "the instances that had marked it: {:?}", letter.letter);
    assert!(failure.message.starts_with("3 workers died"), "{failure}");
    for id in accepted.iter().filter(|id| **id != poison) {
        assert_eq!(fleet.client.wait(id, LONG).await?.status, Status::Completed);
    }
    until("nothing waits", LONG, || async {
        (Count::of(&fleet.client, &accepted).await.ok()?.waiting == 0).then_some(())
    })
    .await;
    let count = Count::of(&fleet.client, &accepted).await?;
    count.assert_whole();
    assert_eq!((count.dead, count.with(Status::Completed)), (1, 12));
    drop(supervised);
    Ok(())
}

/// Giving a message back alive leaves no mark, however often: by drains here, by the waits of unique work elsewhere.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_given_back_alive_is_never_poison() -> Result<()> {
    let fleet = Fleet::start().await?;
    let receipt = fleet.client.request(&capability("tea"), &1).submit().await?;
    let journal = Journal::new();
    let is_last = Arc::new(Mutex::new(false));
    for round in 1..=6 {
        let (noted, last) = (journal.clone(), Arc::clone(&is_last));
        let handler = move |ctx: Context, _: u32| {
            noted.note("begun");
            let last = *last.lock().unwrap();
            async move {
                if !last {
                    std::future::pending::<()>().await;
                }
                Ok::<_, Failure>(ctx.attempt())
            }
        };
        *is_last.lock().unwrap() = round == 6;
        let config = worker::Config { drain_grace: Duration::from_millis(50), ..fleet.worker_config() };
        let worker = fleet.run(fleet.worker("tea").config(config).capability("tea", handler), "tea").await?;
        until("it runs", Duration::from_secs(10), || async { (journal.len() == round).then_some(()) }).await;
        worker.stop().await?;
    }
    let outcome = receipt.outcome(Duration::from_secs(5)).await?;
    assert_eq!((outcome.status, outcome.result::<u32>().unwrap()), (Status::Completed, 1), "no attempt is burnt");
    Ok(())
}
