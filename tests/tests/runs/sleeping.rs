//! Runs that sleep cost a coordinator little: it keeps the last ones that did something, and reads the others again when
//! they wake. What is measured is the resident memory of the process (`VmRSS`), after some runs and after all of them,
//! divided by the number of those that came in between.

use std::{
    env, fs,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use broker::{Outgoing, topology};
use chrono::TimeDelta;
use futures_util::{TryStreamExt, stream};
use protocol::{RequestId, Status, header, time};
use serde_json::json;
use sortie_tests::{process::WorkerProcess, until};

use crate::site::{BOUND, Site};

/// How many runs sleep. Defaults to [`SLEEPERS`]; 100,000 take some minutes.
const COUNT: &str = "SORTIE_TEST_SLEEPERS";
const SLEEPERS: usize = 20_000;

/// Runs that are begun before the first look, so that what a coordinator takes by itself is not counted as theirs.
const FIRST: usize = 500;

/// Runs that wake, of those that are begun first and so are not in memory any more.
const WAKING: usize = 100;

/// What one run may cost in memory, in bytes.
const BYTES_MAX: usize = 1_024;

/// Starts that are published at once.
const AT_ONCE: usize = 256;

/// What a process has in memory, in bytes.
fn resident(process: &WorkerProcess) -> Result<usize> {
    let status = fs::read_to_string(format!("/proc/{}/status", process.id()?))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<usize>()? * 1_024)
}

/// Starts runs that sleep until then, and waits until each has set its timer.
async fn begin(site: &Site, numbers: std::ops::Range<usize>, wakes: protocol::time::Timestamp) -> Result<()> {
    let input = json!({ "until": time::format(wakes) }).to_string();
    let (numbers_before, all) = (numbers.start, numbers.end as u64);
    let started = stream::iter(numbers.map(Ok)).try_for_each_concurrent(AT_ONCE, |number| {
        let start = Outgoing::new("fleet.start.sleeps", input.clone());
        let headers = [(header::REQUEST_ID.to_owned(), format!("sleeper-{number}"))].into_iter().collect();
        async move { site.publisher.publish(&start.with_headers(headers)).await.map(|_| ()) }
    });
    started.await?;
    let within = BOUND + Duration::from_millis(10 * all);
    until("all sleep", within, || async {
        let state = topology::stream_state(&site.fleet.connection, &site.names.runs).await.ok()?;
        // On a slow machine those that wake have begun to.
        (state.messages >= 2 * (all - WAKING.min(numbers_before) as u64)).then_some(())
    })
    .await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_sleeps_costs_the_coordinator_less_than_a_kilobyte() -> Result<()> {
    #[allow(clippy::disallowed_methods, reason = "more than a test run has time for is asked for by a variable")]
    let count = env::var(COUNT).ok().and_then(|text| text.parse().ok()).unwrap_or(SLEEPERS);
    ensure!(count > 2 * FIRST, "{COUNT}: more than {}", 2 * FIRST);
    let site = Site::start().await?;
    let coordinator = site.coordinator_process()?;
    let sleeps = json!({
        "workflow": "sleeps", "version": "1.0.0",
        "input": { "type": "object", "required": ["until"] },
        "steps": {
            "nap": { "wait": { "until": "${ input.until }" } },
            "last": { "needs": ["nap"], "call": "work", "with": { "give": "awake" } },
        },
        "output": "${ steps.last.output }",
    });
    site.apply(&sleeps).await?;
    let now = site.fleet.client.now().await?;
    let soon = now + TimeDelta::seconds(15) + TimeDelta::milliseconds(i64::try_from(count)? * 2);
    let late = now + TimeDelta::days(30);
    begin(&site, 0..WAKING, soon).await?;
    begin(&site, WAKING..FIRST, late).await?;
    let before = resident(&coordinator)?;
    let began = Instant::now();
    begin(&site, FIRST..count, late).await?;
    let took = began.elapsed();
    let after = resident(&coordinator)?;
    let each = after.saturating_sub(before) / (count - FIRST);
    println!(
        "{count} runs sleep: {} MB before, {} MB after, {each} bytes each; begun in {took:?}",
        before >> 20,
        after >> 20,
    );
    for number in 0..WAKING {
        let id = RequestId::parse(&format!("sleeper-{number}"))?;
        let outcome = site.fleet.client.wait(&id, 5 * BOUND).await?;
        assert_eq!((outcome.status, outcome.result::<String>().ok().as_deref()), (Status::Completed, Some("awake")));
    }
    let woken = site.begun.all();
    assert_eq!((woken.len(), woken.values().max()), (WAKING, Some(&1)));
    println!("{} MB when {WAKING} have woken", resident(&coordinator)? >> 20);
    assert!(each < BYTES_MAX, "{each} bytes for each run that sleeps");
    Ok(())
}
