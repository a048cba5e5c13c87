//! One request, and worker after worker that dies at a chosen point of its way, until one lives.
//!
//! Each story has a server of its own, so that counting counts it alone. What is waited for is mostly the ack deadline,
//! so stories are told at the same time, no more than a machine can take.

use std::{
    collections::BTreeSet,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use broker::{Bucket, Publisher, topology};
use client::{Acceptance, Receipt};
use futures_util::future::join_all;
use protocol::{
    Backoff, Outcome, Status, UniqueKey,
    mark::{Mark, mark_key},
    topology::Names,
};
use tokio::sync::Semaphore;

use crate::{
    Count, Fleet,
    count::waiting,
    fleet::capability,
    proxy::{Proxy, Trigger},
    victim::{self, CAPABILITY, Orders, Task, Victim},
};

/// Stories that are told at once.
static AT_ONCE: Semaphore = Semaphore::const_new(8);

/// How long a redelivery may take that nobody asks for: the ack deadline, and as much again on a busy machine.
const REDELIVERED_WITHIN: Duration = Duration::from_secs(25);

/// The key of unique work.
const KEY: &str = "the-key";

/// How one worker lives.
#[derive(Clone, Debug, Default)]
pub struct Life {
    script: Vec<Trigger>,
    works: Option<Duration>,
}

/// A request, the workers that die over it, and what is to come of it in the end.
#[derive(Clone, Debug)]
pub struct Story {
    /// What is tried, in words.
    pub what: &'static str,
    task: Task,
    is_unique: bool,
    attempts: Option<u32>,
    backoff: Option<Duration>,
    lives: Vec<Life>,
    expected: Expected,
}

#[derive(Clone, Debug)]
struct Expected {
    status: Status,
    code: Option<&'static str>,
    /// Every way in which attempts may have begun.
    begun: Vec<Vec<u32>>,
    takers: Option<usize>,
    stored: Option<u64>,
}

impl Life {
    /// Dies when the last of these goes off.
    pub fn of(script: impl IntoIterator<Item = Trigger>) -> Self {
        Self { script: script.into_iter().collect(), works: None }
    }

    /// The same, with attempts that take this long.
    #[must_use]
    pub fn working(self, works: Duration) -> Self {
        Self { works: Some(works), ..self }
    }
}

impl From<Trigger> for Life {
    fn from(trigger: Trigger) -> Self {
        Self::of([trigger])
    }
}

impl Story {
    /// A request that is completed at its first attempt.
    pub fn new(what: &'static str, task: Task) -> Self {
        let expected =
            Expected { status: Status::Completed, code: None, begun: vec![vec![1]], takers: None, stored: None };
        Self { what, task, is_unique: false, attempts: None, backoff: None, lives: Vec::new(), expected }
    }

    /// Under a unique key.
    #[must_use]
    pub fn unique(self) -> Self {
        Self { is_unique: true, ..self }
    }

    /// With so many attempts, at such a distance.
    #[must_use]
    pub fn attempts(self, attempts: u32, backoff: Duration) -> Self {
        Self { attempts: Some(attempts), backoff: Some(backoff), ..self }
    }

    /// Another worker that dies.
    #[must_use]
    pub fn life(mut self, life: impl Into<Life>) -> Self {
        self.lives.push(life.into());
        self
    }

    /// These attempts begin, over all lives.
    #[must_use]
    pub fn begins(mut self, attempts: &[u32]) -> Self {
        self.expected.begun = vec![attempts.to_vec()];
        self
    }

    /// Or these: where the kill races with the worker.
    #[must_use]
    pub fn or_begins(mut self, attempts: &[u32]) -> Self {
        self.expected.begun.push(attempts.to_vec());
        self
    }

    /// In the end it has failed with this code, and a dead letter says so.
    #[must_use]
    pub fn fails(mut self, code: &'static str) -> Self {
        self.expected.status = Status::Failed;
        self.expected.code = Some(code);
        self
    }

    /// So many workers stand in its poison mark in the end.
    #[must_use]
    pub fn takers(mut self, takers: usize) -> Self {
        self.expected.takers = Some(takers);
        self
    }

    /// So many messages were ever stored in its stream: the request, schedules, and their firings.
    #[must_use]
    pub fn stored(mut self, messages: u64) -> Self {
        self.expected.stored = Some(messages);
        self
    }

    /// Tells it, and says how long it took from the last death until all was settled.
    async fn tell(&self, program: &str) -> Result<Duration> {
        let _turn = AT_ONCE.acquire().await?;
        let folder = tempfile::tempdir()?;
        let stage = Stage { diary: folder.path().join("diary"), log: folder.path().join("log"), program };
        let told = self.play(&stage).await;
        told.with_context(|| {
            let log = std::fs::read_to_string(&stage.log).unwrap_or_default();
            format!("{}: attempts {:?}, logs:\n{log}", self.what, victim::attempts(&stage.diary))
        })
    }

    async fn play(&self, stage: &Stage<'_>) -> Result<Duration> {
        let mut fleet = Fleet::start().await?;
        let mut receipt = None;
        let mut died = Instant::now();
        for life in &self.lives {
            let proxy = Proxy::start(fleet.server().port(), life.script.clone()).await?;
            let orders = Orders {
                works: life.works,
                drain_grace: Duration::from_millis(100),
                ..Orders::new(proxy.url(), &stage.diary)
            };
            let mut victim = Victim::start(stage.program, &orders, &stage.log)?;
            proxy.set_victim(victim.pid()?);
            if receipt.is_none() {
                victim.serves(&fleet).await?;
                receipt = Some(self.submit(&fleet).await?);
            }
            died = proxy.tripped(life.script.len(), REDELIVERED_WITHIN).await?;
            victim.ended(Duration::from_secs(5)).await?;
        }
        let survivor = Victim::start(stage.program, &Orders::new(fleet.url(), &stage.diary), &stage.log)?;
        let receipt = receipt.context("a story without a death")?;
        let outcome = settled(&fleet, &receipt).await?;
        let recovery = died.elapsed();
        survivor.serves(&fleet).await?;
        survivor.drain(Duration::from_secs(10)).await?;
        self.check(&fleet, &receipt, &outcome, stage).await?;
        if self.is_unique {
            self.submit(&fleet).await.context("the key is free again")?;
        }
        Ok(recovery)
    }

    async fn submit(&self, fleet: &Fleet) -> Result<Receipt> {
        let capability = capability(CAPABILITY);
        let mut request = fleet.client.request(&capability, &self.task);
        if self.is_unique {
            request = request.unique(UniqueKey::parse(KEY)?);
        }
        if let Some(attempts) = self.attempts {
            request = request.attempts(attempts);
        }
        if let Some(backoff) = self.backoff {
            request = request.backoff(Backoff::fixed(backoff));
        }
        Ok(request.submit().await?)
    }

    async fn check(&self, fleet: &Fleet, receipt: &Receipt, outcome: &Outcome, stage: &Stage<'_>) -> Result<()> {
        let Expected { status, code, begun, takers, stored } = &self.expected;
        let count = Count::of(&fleet.client, &BTreeSet::from([receipt.id().clone()])).await?;
        let failure = outcome.failure();
        ensure!(outcome.status == *status, "it ended {:?}, {failure:?}", outcome.status);
        ensure!(failure.as_ref().map(|failure| failure.code.as_str()) == *code, "it failed with {failure:?}");
        ensure!(count.with(*status) == 1 && count.foreign == 0, "one outcome: {count:?}");
        ensure!(count.missing.is_empty() && count.duplicated.is_empty() && count.waiting == 0, "whole: {count:?}");
        ensure!(count.dead == usize::from(*status == Status::Failed), "dead letters: {count:?}");
        if outcome.status == Status::Completed {
            ensure!(outcome.body.len() == self.task.result_bytes + 2, "a result of {} bytes", outcome.body.len());
        }
        let attempts = victim::attempts(&stage.diary);
        ensure!(begun.contains(&attempts), "attempts that began: {attempts:?}, expected {begun:?}");
        let names = Names::of(&fleet.namespace);
        let stream = if self.is_unique { &names.unique } else { &names.requests };
        if let Some(stored) = stored {
            let last = topology::stream_state(&fleet.connection, stream).await?.last_sequence;
            ensure!(last == *stored, "{last} messages were stored in {stream}, expected {stored}");
        }
        if let Some(takers) = takers {
            let Acceptance::Stored { sequence } = receipt.acceptance() else { anyhow::bail!("it was there before") };
            let state = Bucket::new(&fleet.connection, &Publisher::new(&fleet.connection), names.state.clone());
            let entry = state.get(&mark_key(stream, *sequence)).await?.and_then(|entry| entry.value);
            let mark: Mark = entry.map_or_else(|| Ok(Mark::default()), |value| serde_json::from_slice(&value))?;
            ensure!(mark.takers.len() == *takers, "marks: {mark:?}, expected {takers}");
        }
        Ok(())
    }
}

struct Stage<'a> {
    diary: PathBuf,
    log: PathBuf,
    program: &'a str,
}

/// Waits until a request has its outcome, a failed one its dead letter, and nothing waits.
async fn settled(fleet: &Fleet, receipt: &Receipt) -> Result<Outcome> {
    let client = &fleet.client;
    let settled = async {
        loop {
            if let (Some(outcome), 0) = (client.outcome(receipt.id()).await?, waiting(client).await?) {
                return Ok::<_, anyhow::Error>(outcome);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let within = 2 * REDELIVERED_WITHIN;
    match tokio::time::timeout(within, settled).await {
        Ok(settled) => settled,
        Err(_) => {
            let count = Count::of(client, &BTreeSet::from([receipt.id().clone()])).await?;
            anyhow::bail!("not settled within {within:?}: {count:?}")
        }
    }
}

/// Tells stories, all of them, and fails with every one that ended otherwise than it should.
///
/// # Errors
/// What ended otherwise.
pub async fn tell(program: &str, stories: Vec<Story>) -> Result<()> {
    let told = join_all(stories.iter().map(|story| story.tell(program))).await;
    let longest = told.iter().flatten().max().copied().unwrap_or_default();
    let failed: Vec<String> =
        told.iter().filter_map(|told| told.as_ref().err()).map(|error| format!("{error:#}")).collect();
    println!("{} stories, {} ended badly, longest recovery {longest:.1?}", told.len(), failed.len());
    ensure!(failed.is_empty(), "{}", failed.join("\n\n"));
    Ok(())
}
