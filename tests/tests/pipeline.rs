//! A request from publish to outcome, through a real server and a worker in this process.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::{collections::BTreeSet, time::Duration};

use anyhow::Result;
use protocol::{Status, codes};
use serde_json::{Value, json};
use sortie_tests::{Count, Fleet, fleet::capability, until};
use worker::{Backoff, CapabilityConfig, Context, Failure, RetryPolicy};

const PATIENCE: Duration = Duration::from_secs(20);

async fn echo(_ctx: Context, input: Value) -> Result<Value, Failure> {
    Ok(input)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_gets_exactly_one_outcome() -> Result<()> {
    let fleet = Fleet::start().await?;
    let worker = fleet.run(fleet.worker("echo").capability("echo", echo), "echo").await?;
    let outcome = fleet.client.request(&capability("echo"), &json!({"hi": 1})).call(PATIENCE).await?;
    assert_eq!((outcome.status, outcome.result::<Value>().unwrap()), (Status::Completed, json!({"hi": 1})));
    let mut accepted = BTreeSet::new();
    for number in 0..200 {
        let receipt = fleet.client.request(&capability("echo"), &number).submit().await?;
        accepted.insert(receipt.id().clone());
    }
    for id in &accepted {
        fleet.client.wait(id, PATIENCE).await?;
    }
    worker.stop().await?;
    let count = Count::whole(&fleet.client, &accepted, PATIENCE).await;
    assert_eq!(count.with(Status::Completed), 200);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_is_retried_and_then_given_up_with_its_story() -> Result<()> {
    let fleet = Fleet::start().await?;
    let config = CapabilityConfig::default()
        .retry(RetryPolicy { attempts_max: 3, backoff: Backoff::fixed(Duration::from_millis(300)) });
    let handler = |ctx: Context, _: Value| async move {
        Err::<Value, _>(Failure::new("tea_is_cold", format!("at attempt {}", ctx.attempt())))
    };
    let worker = fleet.run(fleet.worker("tea").capability_with("tea", config, handler), "tea").await?;
    let outcome = fleet.client.request(&capability("tea"), &1).call(PATIENCE).await?;
    assert_eq!(outcome.status, Status::Failed);
    let failure = outcome.failure().unwrap();
    assert_eq!((failure.code.as_str(), failure.attempts.len()), ("tea_is_cold", 3));
    // The outcome decides and is told first; the dead letter follows it.
    let letter = until("a dead letter", PATIENCE, || async { fleet.client.dead_letter(&outcome.id).await.ok()? }).await;
    assert_eq!(letter.letter.attempt, 3);
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn input_that_is_not_the_handlers_type_fails_at_once() -> Result<()> {
    let fleet = Fleet::start().await?;
    let handler = |_: Context, number: u32| async move { Ok::<_, Failure>(number + 1) };
    let worker = fleet.run(fleet.worker("add").capability("add", handler), "add").await?;
    let outcome = fleet.client.request(&capability("add"), &"one").call(PATIENCE).await?;
    assert_eq!(outcome.failure().unwrap().code, codes::INVALID_INPUT);
    assert_eq!(outcome.attempt, 1);
    worker.stop().await
}
