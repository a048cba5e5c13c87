//! A store without room: what publishers are told, that nothing acknowledged is lost, and that work goes on afterwards.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::Result;
use broker::{Connection, Outgoing, Publisher, topology};
use client::{Client, Error, ErrorKind};
use coordinator::Coordinator;
use embedded::Config;
use protocol::{RequestId, Status, topology::Names};
use serde_json::Value;
use sortie_tests::{Count, Fleet, fleet::capability, ground::Disk, until};
use worker::{Backoff, CapabilityConfig, Context, Failure, RetryPolicy};

const PATIENCE: Duration = Duration::from_secs(60);
const STORE_BYTES_MAX: u64 = 8 << 20;

async fn echo(_ctx: Context, input: Value) -> Result<Value, Failure> {
    Ok(input)
}

fn small_store() -> Config {
    Config { store_bytes_max: Some(STORE_BYTES_MAX), ..Config::default() }
}

/// Something that nobody was promised takes the room.
async fn fill(fleet: &Fleet, with: &str) -> broker::Error {
    let publisher = Publisher::new(&fleet.connection);
    // Ever smaller, so that in the end not even a small message fits.
    for bytes in [256 * 1024, 16 * 1024, 512, 1] {
        let error = loop_until_refused(&publisher, with, bytes).await;
        if bytes == 1 {
            return error;
        }
    }
    unreachable!("the last size returns")
}

async fn loop_until_refused(publisher: &Publisher, subject: &str, bytes: usize) -> broker::Error {
    for _ in 0..1_000_000 {
        if let Err(error) = publisher.publish(&Outgoing::new(subject, "x".repeat(bytes))).await {
            return error;
        }
    }
    panic!("the store takes everything")
}

async fn make_room(fleet: &Fleet, stream: &str) {
    topology::purge(&fleet.connection, stream, ">", None).await.expect("purged");
}

async fn submit(client: &Client, body: &str) -> Result<RequestId, Error> {
    client.request(&capability("echo"), body).submit().await.map(|receipt| receipt.id().clone())
}

/// Submits until the store refuses; gives what was accepted and the refusal.
async fn submit_until_refused(client: &Client, bytes: usize) -> (BTreeSet<RequestId>, Error) {
    let body = "x".repeat(bytes);
    let mut accepted = BTreeSet::new();
    for _ in 0..100_000 {
        match submit(client, &body).await {
            Ok(id) => drop(accepted.insert(id)),
            Err(error) => return (accepted, error),
        }
    }
    panic!("the store takes everything")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_store_is_told_to_publishers_and_loses_nothing() -> Result<()> {
    let mut fleet = Fleet::start_with(small_store()).await?;
    let (accepted, refused) = submit_until_refused(&fleet.client, 20_000).await;
    assert_eq!(*refused.kind(), ErrorKind::StoreFull, "{refused}");
    assert!(accepted.len() > 100, "{} of 20 KB in 8 MB", accepted.len());
    // What was refused was not stored: it may be submitted again, under its id or a new one.
    let queued = topology::stream_state(&fleet.connection, &Names::of(&fleet.namespace).requests).await?;
    assert_eq!(queued.messages, accepted.len() as u64);
    fleet.server().kill()?;
    fleet.server().restart().await?;
    let stream = Names::of(&fleet.namespace).requests;
    let state = || async { topology::stream_state(&fleet.connection, &stream).await.ok() };
    let queued = until("the server is back", PATIENCE, state).await;
    assert_eq!(queued.messages, accepted.len() as u64, "acknowledged and lost");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_wait_for_room_and_go_on_by_themselves() -> Result<()> {
    let fleet = Fleet::start_with(small_store()).await?;
    let mut accepted = BTreeSet::new();
    for _ in 0..200 {
        accepted.insert(submit(&fleet.client, "small").await?);
    }
    let refused = fill(&fleet, "fleet.event.noise").await;
    assert_eq!(refused.kind(), broker::Kind::StoreFull, "{refused}");
    let refused = submit(&fleet.client, "x").await.unwrap_err();
    assert_eq!(*refused.kind(), ErrorKind::StoreFull, "{refused}");
    // Room for the agent's own entry, which it announces itself by; noise takes it again.
    make_room(&fleet, "FLEET_EVENTS").await;
    let may_end = Arc::new(AtomicBool::new(false));
    let handler = |ctx: Context, input: Value| async move {
        let may_end = ctx.shared::<Arc<AtomicBool>>();
        until("the store is full", PATIENCE, || async { may_end.load(Ordering::Relaxed).then_some(()) }).await;
        Ok::<_, Failure>(input)
    };
    let builder = fleet.worker("echo").slots(20).shared(Arc::clone(&may_end)).capability("echo", handler);
    let worker = fleet.run(builder, "echo").await?;
    fill(&fleet, "fleet.event.noise").await;
    may_end.store(true, Ordering::Relaxed);
    let stuck = || async {
        let state = topology::consumer_state(&fleet.connection, "FLEET_REQUESTS", "echo").await.ok()?;
        (state.ack_pending == 20 && state.waiting == 0).then_some(())
    };
    until("every slot waits for room", PATIENCE, stuck).await;
    assert_eq!(Count::of(&fleet.client, &accepted).await?.outcomes.len(), 0, "an outcome in a full store");
    make_room(&fleet, "FLEET_EVENTS").await;
    let count = Count::whole(&fleet.client, &accepted, PATIENCE).await;
    assert_eq!(count.with(Status::Completed), 200);
    let later = fleet.client.request(&capability("echo"), "again").call(PATIENCE).await?;
    assert_eq!(later.status, Status::Completed);
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fell_due_in_a_full_store_fires_once_there_is_room() -> Result<()> {
    let fleet = Fleet::start_with(small_store()).await?;
    let config = coordinator::Config {
        overdue_every: Duration::from_secs(1),
        overdue_by: Duration::from_secs(1),
        lease_ttl: Duration::from_secs(2),
        lease_renewed_every: Duration::from_millis(400),
        ..coordinator::Config::default()
    };
    let coordinator = Coordinator::start(&fleet.connection, config, &Default::default()).await?;
    let retry = RetryPolicy { attempts_max: 2, backoff: Backoff::fixed(Duration::from_secs(8)) };
    let fails_first = |ctx: Context, input: Value| async move {
        if ctx.attempt() == 1 { Err(Failure::new("not_yet", "once more")) } else { Ok(input) }
    };
    let builder = fleet.worker("echo").capability_with("echo", CapabilityConfig::default().retry(retry), fails_first);
    let worker = fleet.run(builder, "echo").await?;
    let mut accepted = BTreeSet::new();
    for _ in 0..20 {
        accepted.insert(submit(&fleet.client, "retried").await?);
    }
    let waiting = |schedules: usize| {
        let fleet = &fleet;
        move || async move {
            let found = topology::subject_counts(&fleet.connection, "FLEET_REQUESTS", "fleet.later.*").await.ok()?;
            let consumer = topology::consumer_state(&fleet.connection, "FLEET_REQUESTS", "echo").await.ok()?;
            (found.len() == schedules && consumer.ack_pending == 0).then_some(())
        }
    };
    until("twenty retries wait", PATIENCE, waiting(20)).await;
    fill(&fleet, "fleet.event.noise").await;
    // The broker tries each once, when it is due, fails, and forgets it until it restarts.
    let due = fleet.client.now().await? + chrono::TimeDelta::seconds(9);
    let passed = || async { (fleet.client.now().await.ok()? >= due).then_some(()) };
    until("all fell due", PATIENCE, passed).await;
    waiting(20)().await.expect("none fired into a full store");
    make_room(&fleet, "FLEET_EVENTS").await;
    let count = Count::whole(&fleet.client, &accepted, PATIENCE).await;
    assert_eq!((count.with(Status::Completed), count.dead), (20, 0));
    coordinator.handle().stop();
    assert!(coordinator.stopped().await);
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_loses_nothing_acknowledged_and_works_after_a_restart_with_space() -> Result<()> {
    let disk = match Disk::in_memory("16m") {
        Ok(disk) => disk,
        Err(missing) => {
            eprintln!("SKIPPED: {missing}");
            return Ok(());
        }
    };
    // The server believes that it may use more than there is.
    let config = Config { store: Some(disk.path().join("store")), store_bytes_max: Some(1 << 30), ..Config::default() };
    let mut fleet = Fleet::start_with(config).await?;
    let (accepted, refused) = submit_until_refused(&fleet.client, 100_000).await;
    println!("full after {} requests: {:?}: {refused}", accepted.len(), refused.kind());
    assert!(matches!(refused.kind(), ErrorKind::TimedOut | ErrorKind::StoreFull | ErrorKind::Broker), "{refused}");
    assert!(!accepted.is_empty());
    // Space alone does not mend it: the stream answers nothing until the server is started again.
    fleet.server().kill()?;
    disk.grow("256m")?;
    fleet.server().restart().await?;
    let url = fleet.url();
    let options = broker::Options { servers: vec![url], ..broker::Options::default() };
    let connection = Connection::open(options).await?;
    let names = Names::of(&fleet.namespace);
    let back = || async { topology::stream_state(&connection, &names.requests).await.ok() };
    let state = until("the stream answers", PATIENCE, back).await;
    assert!(state.messages >= accepted.len() as u64, "{} acknowledged, {} there", accepted.len(), state.messages);
    let worker = fleet.run(fleet.worker("echo").capability("echo", echo), "echo").await?;
    let count = Count::whole(&fleet.client, &accepted, PATIENCE).await;
    assert_eq!(count.with(Status::Completed), accepted.len());
    let later = fleet.client.request(&capability("echo"), "again").call(PATIENCE).await?;
    assert_eq!(later.status, Status::Completed);
    worker.stop().await
}
