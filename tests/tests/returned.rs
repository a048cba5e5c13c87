//! What a loss of power brings back: messages that were acknowledged, in a stream whose consumer is beyond them.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Result;
use broker::topology;
use coordinator::Coordinator;
use protocol::{UniqueKey, topology::Names};
use serde_json::Value;
use sortie_tests::{Fleet, count::waiting, fleet::capability, raw, until, until_some};
use worker::{Context, Failure};

const PATIENCE: Duration = Duration::from_secs(60);

async fn echo(_ctx: Context, input: Value) -> Result<Value, Failure> {
    Ok(input)
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for file in std::fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_and_came_back_leaves_the_queue_and_changes_nothing() -> Result<()> {
    let mut fleet = Fleet::start().await?;
    let names = Names::of(&fleet.namespace);
    // A start, a request, and one under a key that is held for ever if its message stays.
    raw::publish(&fleet, "fleet.start.nobody-knows-it", &[("Sortie-Request-Id", "a-run")], "{}").await?;
    let echoed = capability("echo");
    fleet.client.request(&echoed, &1).submit().await?;
    let key = UniqueKey::parse("the-key")?;
    fleet.client.request(&echoed, &2).unique(key.clone()).submit().await?;
    let messages = |stream: &str, fleet: &mut Fleet| -> PathBuf {
        fleet.server().store().join("jetstream/$G/streams").join(stream).join("msgs")
    };
    let kept = tempfile::tempdir()?;
    let streams = [&names.requests, &names.unique];
    fleet.server().stop().await?;
    for stream in streams {
        copy(&messages(stream, &mut fleet), &kept.path().join(stream));
    }
    fleet.server().restart().await?;

    let config = coordinator::Config { dead_letters_every: Duration::from_millis(500), ..Default::default() };
    let coordinator = Coordinator::start(&fleet.connection, config, &Default::default()).await?;
    let worker = fleet.run(fleet.worker("echo").capability("echo", echo), "echo").await?;
    let outcomes = || async { topology::stream_state(&fleet.connection, &names.outcomes).await.ok() };
    let done = || async { (outcomes().await?.messages == 3 && waiting(&fleet.client).await.ok()? == 0).then_some(()) };
    until("all is done", PATIENCE, done).await;
    let dead = topology::stream_state(&fleet.connection, &names.dead).await?.messages;
    // Nobody looks until it is certain that they are back.
    coordinator.handle().stop();
    assert!(coordinator.stopped().await);

    fleet.server().stop().await?;
    for stream in streams {
        let folder = messages(stream, &mut fleet);
        std::fs::remove_dir_all(&folder)?;
        copy(&kept.path().join(stream), &folder);
    }
    fleet.server().restart().await?;
    let back = || async { (waiting(&fleet.client).await.ok()? == 3).then_some(()) };
    until("all three are back", PATIENCE, back).await;
    let taken = until_some(Duration::from_secs(1), || async { (waiting(&fleet.client).await.ok()? < 3).then_some(()) });
    assert!(taken.await.is_none(), "the broker has taken one out by itself: this tries less than it says");

    let config = coordinator::Config { dead_letters_every: Duration::from_millis(500), ..Default::default() };
    let coordinator = Coordinator::start(&fleet.connection, config, &Default::default()).await?;
    let gone = || async { (waiting(&fleet.client).await.ok()? == 0).then_some(()) };
    until("all three are gone", PATIENCE, gone).await;
    assert_eq!(topology::stream_state(&fleet.connection, &names.outcomes).await?.last_sequence, 3);
    assert_eq!(topology::stream_state(&fleet.connection, &names.dead).await?.messages, dead);
    fleet.client.request(&echoed, &3).unique(key).submit().await?;
    coordinator.handle().stop();
    assert!(coordinator.stopped().await);
    worker.stop().await
}
