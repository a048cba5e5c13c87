//! Coordinators that die, stand still, or are all away, and a broker that is started again: no run is lost, and none is
//! done twice.

use std::time::Instant;

use anyhow::{Context, Result};
use broker::topology;
use client::StartedRun;
use nix::sys::signal::Signal;
use protocol::topology::run_pace;
use serde_json::json;
use sortie_tests::{Fleet, until};

use crate::site::{BOUND, Site, three_steps};

/// Enough that every partition has some.
const RUNS: usize = 40;

/// Starts runs whose steps take a while.
async fn start(site: &Site, ms: u64) -> Result<Vec<StartedRun>> {
    let three = site.apply(&three_steps()).await?;
    let mut started = Vec::new();
    for number in 0..RUNS {
        started.push(site.fleet.client.start(&three, &json!({ "n": number, "ms": ms })).submit().await?);
    }
    Ok(started)
}

/// Waits until this many first steps are begun.
async fn begun(site: &Site, count: usize) {
    until("steps are begun", BOUND, || async { (site.begun.all().len() >= count).then_some(()) }).await;
}

/// Every run has its outcome, every step was begun once, and nothing is left.
async fn all_ended(site: &Site, started: &[StartedRun]) -> Result<()> {
    for (number, started) in started.iter().enumerate() {
        let outcome = started.outcome(BOUND).await?;
        assert_eq!(outcome.result::<usize>().unwrap(), number + 2, "{outcome:?}");
    }
    site.is_empty().await;
    let all = site.begun.all();
    assert_eq!(all.len(), 3 * started.len());
    let twice: Vec<_> = all.iter().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "steps that were begun more than once: {twice:?}");
    assert_eq!(site.events("sys.run").await, started.len() as u64);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_killed_between_steps_costs_no_run_and_no_step() -> Result<()> {
    let site = Site::start().await?;
    let first = site.coordinator_process()?;
    let started = start(&site, 300).await?;
    begun(&site, RUNS / 2).await;
    let _second = site.coordinator_process()?;
    begun(&site, RUNS + RUNS / 2).await;
    first.signal(Signal::SIGKILL)?;
    let killed = Instant::now();
    all_ended(&site, &started).await?;
    println!("all had ended {:?} after the kill", killed.elapsed());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_that_stood_still_does_no_harm() -> Result<()> {
    let site = Site::start().await?;
    let first = site.coordinator_process()?;
    let started = start(&site, 300).await?;
    begun(&site, RUNS / 2).await;
    let _second = site.coordinator_process()?;
    begun(&site, RUNS + RUNS / 2).await;
    first.signal(Signal::SIGSTOP)?;
    let stopped = Instant::now();
    // Long enough that its partitions are another's, and what it had in hand is.
    let taken = run_pace().priority_timeout + run_pace().ack_wait;
    until("the other one has all", BOUND, || async { (stopped.elapsed() > taken).then_some(()) }).await;
    first.signal(Signal::SIGCONT)?;
    all_ended(&site, &started).await
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_wait_for_a_coordinator_and_go_on_with_the_next() -> Result<()> {
    let site = Site::start().await?;
    let only = site.coordinator_process()?;
    let started = start(&site, 300).await?;
    begun(&site, RUNS / 2).await;
    only.signal(Signal::SIGKILL)?;
    // Steps end meanwhile, and nobody folds them.
    only.ended(BOUND).await?;
    let _next = site.coordinator_process()?;
    all_ended(&site, &started).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_started_again_in_mid_run_loses_no_run() -> Result<()> {
    let mut site = Site::start().await?;
    let _two = [site.coordinator_process()?, site.coordinator_process()?];
    let started = start(&site, 300).await?;
    begun(&site, RUNS + RUNS / 2).await;
    site.fleet.server().kill()?;
    site.fleet.server().restart().await?;
    for (number, started) in started.iter().enumerate() {
        let outcome = started.outcome(BOUND).await?;
        assert_eq!(outcome.result::<usize>().unwrap(), number + 2, "{outcome:?}");
    }
    site.is_empty().await;
    assert_eq!(site.events("sys.run").await, RUNS as u64);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_lose_the_leader_of_the_logs_and_no_run() -> Result<()> {
    let mut site = Site::on(Fleet::start_cluster().await?).await?;
    let _two = [site.coordinate().await?, site.coordinate().await?];
    let started = start(&site, 300).await?;
    begun(&site, RUNS + RUNS / 2).await;
    let state = topology::stream_state(&site.fleet.connection, &site.names.runs).await?;
    let cluster = site.fleet.cluster();
    let leader = cluster.index_by_name(&state.leader.context("a leader")?).context("a server")?;
    cluster.server_mut(leader).kill()?;
    let killed = Instant::now();
    for (number, started) in started.iter().enumerate() {
        let outcome = started.outcome(BOUND).await?;
        assert_eq!(outcome.result::<usize>().unwrap(), number + 2, "{outcome:?}");
    }
    println!("all had ended {:?} after the leader was killed", killed.elapsed());
    site.fleet.cluster().server_mut(leader).restart().await?;
    site.is_empty().await;
    assert_eq!(site.events("sys.run").await, RUNS as u64);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_lose_the_leader_of_the_queue_and_queue_no_step_twice() -> Result<()> {
    let mut site = Site::on(Fleet::start_cluster().await?).await?;
    let _two = [site.coordinator_process()?, site.coordinator_process()?];
    let started = start(&site, 300).await?;
    begun(&site, RUNS + RUNS / 2).await;
    let state = topology::stream_state(&site.fleet.connection, &site.names.requests).await?;
    let cluster = site.fleet.cluster();
    let leader = cluster.index_by_name(&state.leader.context("a leader")?).context("a server")?;
    cluster.server_mut(leader).kill()?;
    for (number, started) in started.iter().enumerate() {
        let outcome = started.outcome(2 * BOUND).await?;
        assert_eq!(outcome.result::<usize>().unwrap(), number + 2, "{outcome:?}");
    }
    site.fleet.cluster().server_mut(leader).restart().await?;
    site.is_empty().await;
    // Whatever was queued has a sequence of its own, also when it is gone: a start and three steps for each run. An agent may
    // have begun one twice all the same, where the broker gave it out again.
    let queued = topology::stream_state(&site.fleet.connection, &site.names.requests).await?.last_sequence;
    assert_eq!(queued, 4 * RUNS as u64, "queued once each");
    assert_eq!(site.begun.all().len(), 3 * RUNS);
    assert_eq!(site.events("sys.run").await, RUNS as u64);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn coordinators_share_the_partitions() -> Result<()> {
    let site = Site::start().await?;
    let first = site.coordinate().await?;
    let started = start(&site, 0).await?;
    all_ended(&site, &started).await?;
    let second = site.coordinate().await?;
    // Pins move when something comes: runs go on all the while.
    let three = site.apply(&three_steps()).await?;
    // Eight moves of two seconds and a half each, and what moves last waits for a run to come.
    let end = Instant::now() + BOUND;
    let mut number = 0;
    while second.partitions() < 8 || first.partitions() > 8 {
        assert!(Instant::now() < end, "{} and {}", first.partitions(), second.partitions());
        number += 1;
        let started = site.fleet.client.start(&three, &json!({ "n": number, "ms": 0 })).submit().await?;
        assert_eq!(started.outcome(BOUND).await?.result::<usize>().unwrap(), number + 2);
    }
    println!("even after {number} runs");
    Ok(())
}
