//! `sortie check` and `sortie top`: what monitoring systems and screens are told.

use std::time::Duration;

use anyhow::Result;
use broker::{Bucket, Publisher, topology};
use futures_util::{StreamExt, TryStreamExt, stream};
use protocol::{Failure, registry::AgentEntry, topology::Names};
use serde_json::Value;
use sortie_tests::{Fleet, fleet::capability, until};

use crate::bystander::{PATIENCE, entry, sortie};

/// Agents at once.
const CROWD: usize = 1_000;

/// What a refresh may take here, where tests share two cores; the aim on a quiet machine is 200 ms.
const REFRESH_MAX: Duration = Duration::from_secs(5);

struct Line {
    code: i32,
    text: String,
}

async fn check(fleet: &Fleet, arguments: &[&str]) -> Line {
    let output = sortie(fleet, &[&["check"], arguments].concat()).await;
    Line { code: output.status.code().unwrap(), text: String::from_utf8(output.stdout).unwrap() }
}

async fn consumers(fleet: &Fleet) -> Result<usize> {
    let settings = protocol::topology::Settings::default();
    let streams = protocol::topology::streams(&fleet.namespace, &settings);
    let counts = stream::iter(streams).then(|stream| async move {
        topology::consumer_names(&fleet.connection, &stream.name).await.map(|names| names.len())
    });
    Ok(counts.try_fold(0, |sum, count| async move { Ok(sum + count) }).await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn check_judges_in_the_numbers_of_monitoring_plugins() -> Result<()> {
    let fleet = Fleet::start().await?;
    for _ in 0..3 {
        fleet.client.request(&capability("echo"), &1).submit().await?;
    }
    for (bounds, code, word) in [(["4", "9"], 0, "OK"), (["3", "9"], 1, "WARNING"), (["1", "3"], 2, "CRITICAL")] {
        let line = check(&fleet, &["queue", "--capability", "echo", "--warn", bounds[0], "--crit", bounds[1]]).await;
        assert_eq!(line.code, code, "{}", line.text);
        assert!(line.text.starts_with(&format!("QUEUE {word} - 3 waiting; echo (normal) has 3")), "{}", line.text);
        assert_eq!(line.text.lines().count(), 1, "{}", line.text);
        assert!(line.text.contains("'echo.normal.queue_waiting'=3;"), "{}", line.text);
    }
    let line = check(&fleet, &["agent", "--capability", "echo"]).await;
    assert_eq!(line.code, 2, "{}", line.text);
    let fails =
        |_: worker::Context, _: Value| async { Err::<(), _>(Failure::new("no_tea", "the pot is empty").give_up()) };
    let worker = fleet.run(fleet.worker("echo").capability("echo", fails), "echo").await?;
    assert_eq!(check(&fleet, &["agent", "--capability", "echo", "--warn", "1"]).await.code, 0);
    let given_up = || async { (check(&fleet, &["dead", "--warn", "3"]).await.code == 1).then_some(()) };
    until("all three are given up", PATIENCE, given_up).await;
    let line = check(&fleet, &["dead", "--within", "1h", "--warn", "1", "--crit", "3"]).await;
    assert_eq!((line.code, line.text.contains("echo no_tea: 3")), (2, true), "{}", line.text);
    assert_eq!(check(&fleet, &["dead", "--capability", "other"]).await.code, 0);
    let text = check(&fleet, &["dead", "--prometheus"]).await;
    assert_eq!(text.code, 0);
    assert!(text.text.contains("\nsortie_dead_recent 3\n"), "{}", text.text);
    assert!(text.text.contains("sortie_dead_recent_by_code{capability=\"echo\",code=\"no_tea\"} 3\n"), "{}", text.text);
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn check_says_that_it_does_not_know_and_why() -> Result<()> {
    let mut fleet = Fleet::start().await?;
    fleet.server().kill()?;
    let line = check(&fleet, &["queue"]).await;
    assert_eq!(line.code, 3, "{}", line.text);
    assert!(line.text.starts_with("QUEUE UNKNOWN - no connection to"), "{}", line.text);
    assert_eq!(check(&fleet, &["agent", "--prometheus"]).await.code, 3);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn top_shows_a_thousand_agents_without_a_consumer() -> Result<()> {
    let fleet = Fleet::start().await?;
    let bucket = Bucket::new(&fleet.connection, &Publisher::new(&fleet.connection), Names::of(&fleet.namespace).agents);
    let written =
        stream::iter((0..CROWD).map(|number| AgentEntry { slots_busy: number % 10, ..entry("paint") })).map(|agent| {
            let bucket = bucket.clone();
            async move { bucket.put(&agent.key(), serde_json::to_vec(&agent).unwrap(), Some(PATIENCE)).await }
        });
    written.buffer_unordered(64).try_collect::<Vec<_>>().await?;
    fleet.client.request(&capability("sing"), &1).submit().await?;

    let told: Value = serde_json::from_slice(&sortie(&fleet, &["top", "--once", "--json"]).await.stdout)?;
    assert_eq!(told["agents"].as_array().unwrap().len(), CROWD);
    let asked_in = Duration::from_millis(told["asked_in_ms"].as_u64().unwrap());
    println!("top: {CROWD} agents asked in {asked_in:?}");
    assert!(asked_in < REFRESH_MAX, "{asked_in:?}");
    assert_eq!(consumers(&fleet).await?, 0, "a consumer was made for looking");

    // Not a terminal: one frame as text.
    let frame = String::from_utf8(sortie(&fleet, &["top"]).await.stdout)?;
    for words in ["1000 agents  4500/10000 slots busy", "CAPABILITY", "sing", "nobody serves it", "painter", "more"] {
        assert!(frame.contains(words), "{words}: {frame}");
    }
    assert!(!frame.contains('\u{1b}'), "no escape sequences: {frame}");
    Ok(())
}
