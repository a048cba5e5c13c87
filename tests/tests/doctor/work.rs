//! Work that does not move.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result};
use broker::{PullEvent, PullInbox, PullRequest, topology};
use protocol::{
    Backoff, Lane, RequestId, RetryPolicy, Status, codes,
    topology::{Consumer, Source, worker_consumer},
};
use serde_json::json;
use sortie_tests::{Fleet, fleet::capability, raw, stock, until};
use worker::{CapabilityConfig, layer::CircuitBreaker};

use crate::bystander::{PATIENCE, doctor, found, gone, remedy, repair, seen, sortie, start, why};

/// A program that serves `words` with nothing of ours but a file.
const WORDS: &str = "
kind: words
version: 1.0.0
capabilities:
  words: { command: [wc, -w], output: text, timeout: 10s }
";

#[tokio::test(flavor = "multi_thread")]
async fn work_that_nobody_serves() -> Result<()> {
    let fleet = Fleet::start().await?;
    let receipt = fleet.client.request(&capability("words"), "to be or not").submit().await?;
    let finding = found(&fleet, "unserved").await;
    assert_eq!((&finding["severity"], &finding["about"]), (&json!("error"), &json!("words")));
    assert!(seen(&finding).contains("1 request waiting"), "{finding}");
    assert!(finding["remedy"].as_str().unwrap().contains("sortie process agent-exec"), "{finding}");
    assert_eq!(why(&fleet, receipt.id().as_str()).await, "unserved");
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("words.yaml");
    std::fs::write(&file, WORDS)?;
    let mut agent = start(&fleet, &["process", "agent-exec", file.to_str().unwrap()]);
    assert_eq!(receipt.outcome(PATIENCE).await?.status, Status::Completed);
    gone(&fleet, "unserved").await;
    agent.kill().await?;
    Ok(())
}

/// Takes the first message and gives it back, until the broker gives it up.
async fn exhaust(fleet: &Fleet, consumer: &Consumer) -> Result<()> {
    for _ in 0..consumer.max_deliver.context("a bound")? {
        let mut inbox = PullInbox::open(&fleet.connection).await?;
        let pull = PullRequest::Wait { expires: PATIENCE, heartbeat: Duration::from_secs(5) };
        inbox.pull(consumer, pull, 1).await?;
        let taking = async {
            loop {
                match inbox.next().await {
                    Some(PullEvent::Delivered(delivery)) => return delivery,
                    Some(_) => {}
                    None => panic!("the inbox has ended"),
                }
            }
        };
        let delivery = tokio::time::timeout(PATIENCE, taking).await?;
        delivery.nak(&fleet.connection, Duration::from_millis(1)).await;
    }
    until("the broker gives up", PATIENCE, || async {
        // It does so only when somebody pulls.
        let inbox = PullInbox::open(&fleet.connection).await.ok()?;
        inbox.pull(consumer, PullRequest::Now { batch: 1 }, 1).await.ok()?;
        let state = topology::consumer_state(&fleet.connection, &consumer.stream, &consumer.name).await.ok()?;
        (state.ack_pending == 0).then_some(())
    })
    .await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_that_is_exhausted_and_that_no_consumer_counts() -> Result<()> {
    let fleet = Fleet::start().await?;
    stock::make_consumers(&fleet, "tea").await?;
    let id = RequestId::parse("order-17")?;
    fleet.client.request(&capability("tea"), &1).id(id.clone()).submit().await?;
    let consumer = worker_consumer(&fleet.namespace, &capability("tea"), Source::Lane(Lane::Normal), 1);
    exhaust(&fleet, &consumer).await?;
    let finding = found(&fleet, "given-up").await;
    assert_eq!((&finding["severity"], &finding["about"]), (&json!("error"), &json!("tea")));
    assert!(
        seen(&finding).contains("1 request delivered too often") && seen(&finding).contains("order-17"),
        "{finding}"
    );
    assert_eq!(why(&fleet, "order-17").await, "given_up");
    let mut coordinator = start(&fleet, &remedy(&finding));
    gone(&fleet, "given-up").await;
    // Nothing is lost by it: the request has its outcome, and its dead letter can be replayed.
    let outcome = fleet.client.wait(&id, PATIENCE).await?;
    assert_eq!(outcome.failure().context("a failure")?.code, codes::DELIVERIES_EXHAUSTED);
    let finding = found(&fleet, "dead-letters").await;
    assert_eq!(remedy(&finding), ["dead", "show", "order-17"]);
    assert_eq!(why(&fleet, "order-17").await, "dead");
    // Sent again it is nobody's worry any more, and its mark is no letter.
    let replayed = sortie(&fleet, &["dead", "replay", "order-17"]).await;
    assert!(replayed.status.success(), "{replayed:?}");
    let pour = |_: worker::Context, input: u32| async move { Ok::<_, worker::Failure>(input) };
    let worker = fleet.run(fleet.worker("kettle").capability("tea", pour), "tea").await?;
    gone(&fleet, "dead-letters").await;
    let top: serde_json::Value = serde_json::from_slice(&sortie(&fleet, &["top", "--once", "--json"]).await.stdout)?;
    assert_eq!((&top["dead"], &top["last_failures"]), (&json!(1), &json!([])));
    let check = sortie(&fleet, &["check", "dead", "--warn", "1"]).await;
    assert!(check.status.success(), "{check:?}");
    coordinator.kill().await?;
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_consumer_with_work_waiting() -> Result<()> {
    let fleet = Fleet::start().await?;
    let echo = |_: worker::Context, input: u32| async move { Ok::<_, worker::Failure>(input) };
    let worker = fleet.run(fleet.worker("echo").capability("echo", echo), "echo").await?;
    let until_then = json!({ "pause_until": "2100-01-01T00:00:00Z" });
    raw::api(&fleet, "CONSUMER.PAUSE.FLEET_REQUESTS.echo", &until_then).await?;
    assert!(doctor(&fleet).await.of("paused").is_empty(), "nothing waits");
    let receipt = fleet.client.request(&capability("echo"), &1).submit().await?;
    let finding = found(&fleet, "paused").await;
    assert_eq!((&finding["severity"], &finding["about"]), (&json!("warning"), &json!("echo")));
    assert!(seen(&finding).contains("paused by hand"), "{finding}");
    assert!(doctor(&fleet).await.of("consuming").is_empty(), "its agent is not to blame");
    assert_eq!(why(&fleet, receipt.id().as_str()).await, "paused");
    // A resume is a wish, which a coordinator fulfils.
    let mut coordinator = start(&fleet, &["process", "coordinator"]);
    gone(&fleet, "coordinator").await;
    repair(&fleet, &finding).await?;
    assert_eq!(receipt.outcome(PATIENCE).await?.status, Status::Completed);
    gone(&fleet, "paused").await;

    // Who paused it through Sortie is named.
    let paused = sortie(&fleet, &["queues", "pause", "echo"]).await;
    assert!(paused.status.success(), "{paused:?}");
    let receipt = fleet.client.request(&capability("echo"), &2).submit().await?;
    let finding = found(&fleet, "paused").await;
    assert!(seen(&finding).contains("paused by ") && !seen(&finding).contains("by hand"), "{finding}");
    repair(&fleet, &finding).await?;
    assert_eq!(receipt.outcome(PATIENCE).await?.status, Status::Completed);
    coordinator.kill().await?;
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_breaker_that_is_open() -> Result<()> {
    let fleet = Fleet::start().await?;
    // It opens after one failure and stays so for longer than this test: nobody waits for it to close by itself.
    let bank = CircuitBreaker::new().named("bank").failures(1).open_for(Duration::from_secs(3_600));
    let is_mended = Arc::new(AtomicBool::new(false));
    let calls = |ctx: worker::Context, input: u32| async move {
        let is_mended = ctx.shared::<Arc<AtomicBool>>();
        if is_mended.load(Ordering::Relaxed) { Ok(input) } else { Err(worker::Failure::new("bank_down", "no answer")) }
    };
    let retry = RetryPolicy { attempts_max: 5, backoff: Backoff::fixed(Duration::from_millis(300)) };
    let config = CapabilityConfig::default().retry(retry);
    let builder = fleet.worker("pay").shared(Arc::clone(&is_mended)).capability_with("pay", config, calls);
    let worker = fleet.run(builder.circuit_breaker(bank), "pay").await?;
    let mut coordinator = start(&fleet, &["process", "coordinator"]);
    gone(&fleet, "coordinator").await;
    let receipt = fleet.client.request(&capability("pay"), &7).submit().await?;
    let finding = found(&fleet, "breaker").await;
    assert_eq!((&finding["severity"], &finding["about"]), (&json!("warning"), &json!("bank")));
    assert!(seen(&finding).contains("bank_down no answer"), "{finding}");
    let waits = || async {
        let answer = why(&fleet, receipt.id().as_str()).await;
        ["breaker_open", "scheduled"].contains(&answer.as_str()).then_some(())
    };
    until("it waits for the breaker", PATIENCE, waits).await;
    // Letting the queue go on is not what helps, and says so.
    let resumed = sortie(&fleet, &["queues", "resume", "pay"]).await;
    let told = String::from_utf8_lossy(&resumed.stdout).into_owned();
    assert!(
        told.contains("circuit breaker bank keeps it back") && told.contains("sortie breaker reset bank"),
        "{resumed:?}"
    );
    is_mended.store(true, Ordering::Relaxed);
    repair(&fleet, &finding).await?;
    gone(&fleet, "breaker").await;
    // What was put off for an hour comes now.
    assert_eq!(receipt.outcome(PATIENCE).await?.status, Status::Completed);
    let done = || async {
        let outcome = fleet.client.request(&capability("pay"), &8).call(Duration::from_secs(5)).await.ok()?;
        outcome.result::<u32>().ok()
    };
    assert_eq!(until("calls go through again", PATIENCE, done).await, 8);
    coordinator.kill().await?;
    worker.stop().await
}
