//! Messages that leave no room beside them.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::{collections::BTreeSet, time::Duration};

use anyhow::Result;
use bytes::Bytes;
use protocol::{Headers, Status};
use serde_json::Value;
use sortie_tests::{Count, Fleet, until};
use worker::{Backoff, CapabilityConfig, Context, Failure, RetryPolicy};

const PATIENCE: Duration = Duration::from_secs(30);

/// What the server takes with a header block of a few bytes, and no more.
const BODY_BYTES: usize = 1_048_000;

async fn fail(ctx: Context, text: String) -> Result<Value, Failure> {
    Err(Failure::new("never", format!("{} bytes at attempt {}", text.len(), ctx.attempt())))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_near_the_servers_limit_is_retried_and_buried() -> Result<()> {
    let fleet = Fleet::start().await?;
    let policy = RetryPolicy { attempts_max: 2, backoff: Backoff::fixed(Duration::from_millis(300)) };
    let builder = fleet.worker("heavy").capability_with("heavy", CapabilityConfig::default().retry(policy), fail);
    let worker = fleet.run(builder, "heavy").await?;
    let body = format!("\"{}\"", "x".repeat(BODY_BYTES - 2));
    let outgoing = broker::Outgoing::new("fleet.request.heavy", Bytes::from(body)).with_headers(Headers::new());
    let stored = broker::Publisher::new(&fleet.connection).publish(&outgoing).await?;
    let id = protocol::RequestId::of_sequence(stored.sequence);
    let outcome = fleet.client.wait(&id, PATIENCE).await?;
    assert_eq!((outcome.status, outcome.attempt), (Status::Failed, 2));
    let failure = outcome.failure().unwrap();
    assert!(failure.message.starts_with(&(BODY_BYTES - 2).to_string()), "{failure}");
    let letter = until("a dead letter", PATIENCE, || async { fleet.client.dead_letter(&id).await.ok()? }).await;
    assert_eq!((letter.letter.attempt, letter.body.len()), (2, BODY_BYTES), "with the body as it was");
    until("an empty queue", PATIENCE, || async {
        let count = Count::of(&fleet.client, &BTreeSet::from([id.clone()])).await.ok()?;
        (count.waiting == 0).then_some(())
    })
    .await;
    worker.stop().await
}
