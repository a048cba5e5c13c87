//! Twenty thousand requests while a random worker dies every second and the server twice: every accepted request has
//! exactly one outcome, and nothing is left behind.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use broker::task;
use client::{Client, ErrorKind};
use futures_util::{StreamExt, stream};
use protocol::{RequestId, Status, UniqueKey};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use sortie_tests::{
    Count, Fleet,
    count::waiting,
    fleet::capability,
    victim::{CAPABILITY, Orders, Task, Victim},
};

const VICTIM: &str = env!("CARGO_BIN_EXE_victim");

/// Repeats a run: the choice of requests and of who dies. Defaults to the time.
const SEED: &str = "SORTIE_TEST_SEED";

const REQUESTS: usize = 20_000;
const PER_SECOND: u32 = 400;
const IN_FLIGHT: usize = 64;
const WORKERS: usize = 4;
const SLOTS: usize = 12;

/// Requests submitted when the server dies.
const SERVER_DIES_AT: [usize; 2] = [REQUESTS / 3, 2 * REQUESTS / 3];

/// From the last submission until all is settled: a message of the last victim waits for its deadline, and one that
/// three died with for three of them.
const SETTLED_WITHIN: Duration = Duration::from_secs(60);

/// Requests that may meet three deaths and count as poison: by the odds, one in forty runs has one.
const POISON_MAX: usize = 2;

/// One request, as the seed has it.
#[derive(Clone, Debug)]
struct Plan {
    task: Task,
    way: Way,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Plain,
    Urgent,
    Bulk,
    Named,
    Unique,
    Delayed(Duration),
}

/// What the submitters found.
#[derive(Debug, Default)]
struct Accepted {
    ids: Mutex<BTreeSet<RequestId>>,
    submitted: AtomicUsize,
    /// Submissions that had to be said again, in the end with an answer.
    repeated: AtomicUsize,
}

/// Who runs at the moment.
struct Crowd {
    url: String,
    folder: PathBuf,
    victims: Vec<Victim>,
    deaths: usize,
}

fn plan(random: &mut StdRng) -> Plan {
    let works_ms = random.random_range(0..80);
    let (fails, gives_up) = match random.random_range(0..100) {
        0..10 => (1, false),
        10..12 => (9, true),
        12..13 => (9, false),
        _ => (0, false),
    };
    let way = match random.random_range(0..100) {
        0..10 => Way::Unique,
        10..20 => Way::Delayed(Duration::from_millis(random.random_range(250..3_000))),
        20..30 => Way::Named,
        30..35 => Way::Urgent,
        35..40 => Way::Bulk,
        _ => Way::Plain,
    };
    Plan { task: Task { works_ms, fails, gives_up, result_bytes: 20 }, way }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_and_nothing_done_twice() -> Result<()> {
    let seed = seed();
    println!("{SEED}={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let plans: Vec<Plan> = (0..REQUESTS).map(|_| plan(&mut random)).collect();
    let failing = plans.iter().filter(|plan| plan.task.fails == 9).count();
    let uniques = plans.iter().filter(|plan| plan.way == Way::Unique).count();

    let mut fleet = Fleet::start().await?;
    let folder = tempfile::tempdir()?;
    let mut crowd = Crowd { url: fleet.url(), folder: folder.path().into(), victims: Vec::new(), deaths: 0 };
    for _ in 0..WORKERS {
        crowd.join()?;
    }
    crowd.victims[0].serves(&fleet).await?;
    let accepted = Arc::new(Accepted::default());
    let began = Instant::now();
    let submitting = task::spawn("submitting", submit_all(fleet.client.clone(), plans, Arc::clone(&accepted)));
    let mut server_deaths = SERVER_DIES_AT.iter().peekable();
    let mut strikes = tokio::time::interval(Duration::from_secs(1));
    strikes.tick().await;
    while !submitting.is_finished() {
        strikes.tick().await;
        // The ack deadline is a multiple of the interval: without this, what comes again would meet the next blow.
        tokio::time::sleep(Duration::from_millis(random.random_range(0..500))).await;
        crowd.lose_one(&mut random).await?;
        if server_deaths.next_if(|at| accepted.submitted.load(Ordering::Relaxed) >= **at).is_some() {
            fleet.server().kill()?;
            fleet.server().restart().await?;
        }
    }
    submitting.join().await.context("the submitters panicked")??;
    ensure!(server_deaths.next().is_none(), "the server did not die twice");
    let submitted = Instant::now();

    let accepted_ids = accepted.ids.lock().unwrap().clone();
    let settled = until_settled(&fleet, &accepted_ids).await;
    let (count, settled_after) = (Count::of(&fleet.client, &accepted_ids).await?, submitted.elapsed());
    println!(
        "{} workers and {} servers died over {:.1?}; {} submissions said again; settled {settled_after:.1?} after the last; {count:?}",
        crowd.deaths,
        SERVER_DIES_AT.len(),
        submitted - began,
        accepted.repeated.load(Ordering::Relaxed),
    );
    settled?;
    let mut codes: BTreeMap<String, usize> = BTreeMap::new();
    for letter in fleet.client.dead_letters(None, REQUESTS).await? {
        *codes.entry(letter.failure.code).or_default() += 1;
    }
    println!("dead letters: {codes:?}, as told: {failing}");
    ensure!(accepted_ids.len() == REQUESTS, "each request was accepted under an id of its own");
    count.assert_whole();
    let failed = count.with(Status::Failed);
    ensure!(count.with(Status::Completed) + failed == REQUESTS, "completed or failed");
    ensure!((failing..=failing + POISON_MAX).contains(&failed), "{failed} failed, {failing} should");
    // A request is unique while it is queued: one that was done before its submission was said again is another one.
    ensure!(count.foreign <= uniques.min(accepted.repeated.load(Ordering::Relaxed)), "outcomes that nobody asked for");
    ensure!((failed..=failed + count.foreign).contains(&count.dead), "a dead letter for each that failed");
    crowd.drain().await
}

#[allow(clippy::disallowed_methods, reason = "this setting is the test's own")]
fn seed() -> u64 {
    let chosen = std::env::var(SEED).ok().and_then(|text| text.parse().ok());
    chosen.unwrap_or_else(|| protocol::time::now().timestamp_micros().unsigned_abs())
}

/// Waits until nothing waits and every outcome is there.
async fn until_settled(fleet: &Fleet, accepted: &BTreeSet<RequestId>) -> Result<()> {
    let names = protocol::topology::Names::of(&fleet.namespace);
    let settled = async {
        loop {
            let outcomes = broker::topology::stream_state(&fleet.connection, &names.outcomes).await;
            let outcomes = outcomes.map_or(0, |state| state.messages);
            if usize::try_from(outcomes)? >= accepted.len() && waiting(&fleet.client).await.is_ok_and(|left| left == 0)
            {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(SETTLED_WITHIN, settled).await.context("not settled")?
}

async fn submit_all(client: Client, plans: Vec<Plan>, accepted: Arc<Accepted>) -> Result<()> {
    let mut pace = tokio::time::interval(Duration::from_secs(1) / PER_SECOND);
    pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
    let paced = stream::unfold((pace, plans.into_iter().enumerate()), |(mut pace, mut plans)| async {
        pace.tick().await;
        let next = plans.next()?;
        Some((next, (pace, plans)))
    });
    let mut submissions = std::pin::pin!(
        paced.map(|(number, plan)| submit(&client, number, plan, &accepted)).buffer_unordered(IN_FLIGHT)
    );
    while let Some(submitted) = submissions.next().await {
        submitted?;
        accepted.submitted.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// Says it until the broker has acknowledged it, under one id from beginning to end.
async fn submit(client: &Client, number: usize, plan: Plan, accepted: &Accepted) -> Result<()> {
    let work = capability(CAPABILITY);
    let mut id = None;
    for _ in 0..20 {
        let mut request = client.request(&work, &plan.task);
        request = match plan.way {
            Way::Plain => request,
            Way::Urgent => request.urgent(),
            Way::Bulk => request.bulk(),
            Way::Named => request.id(RequestId::parse(&format!("named-{number}"))?),
            Way::Unique => request.unique(UniqueKey::parse(&format!("key-{number}"))?),
            Way::Delayed(delay) => request.delay(delay),
        };
        if let Some(id) = &id {
            request = request.id(RequestId::clone(id));
        }
        let settled = match request.submit().await {
            Ok(receipt) => Some(receipt.id().clone()),
            Err(error) => match error.kind() {
                // The key is this request's alone: it is its own message that holds it.
                ErrorKind::KeyTaken { holder } => holder.clone(),
                ErrorKind::TimedOut | ErrorKind::Unreachable | ErrorKind::Broker | ErrorKind::StreamsMissing => {
                    id = error.request().cloned().filter(|_| plan.way != Way::Unique).or(id);
                    None
                }
                _ => return Err(error.into()),
            },
        };
        if let Some(id) = settled {
            accepted.ids.lock().unwrap().insert(id);
            return Ok(());
        }
        accepted.repeated.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    anyhow::bail!("request {number} was never acknowledged")
}

impl Crowd {
    fn join(&mut self) -> Result<()> {
        let orders = Orders { slots: SLOTS, ..Orders::new(&self.url, &self.folder.join("diary")) };
        self.victims.push(Victim::start(VICTIM, &orders, &self.folder.join("log"))?);
        Ok(())
    }

    /// One dies, and another one begins.
    async fn lose_one(&mut self, random: &mut StdRng) -> Result<()> {
        let chosen = self.victims.swap_remove(random.random_range(0..self.victims.len()));
        chosen.kill().await?;
        self.deaths += 1;
        self.join()
    }

    /// Each of those that live ends in good order.
    async fn drain(self) -> Result<()> {
        for mut victim in self.victims {
            ensure!(victim.lives()?, "a worker ended by itself:\n{}", victim.log());
            victim.drain(Duration::from_secs(10)).await?;
        }
        Ok(())
    }
}
