//! A fleet on fire: its processes, the load, and what is done to them.

use std::{
    ops::Range,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use protocol::time::Timestamp;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use sortie_tests::{Fleet, fleet::capability, until_some};
use tempfile::TempDir;

use crate::{
    aftermath,
    crew::{Crew, Post, Role},
    load::Load,
    proof,
    recovery::Recovery,
    report::Row,
    trial::Trial,
};

/// Everything that begins to work does within this.
const BEGUN_WITHIN: Duration = Duration::from_secs(60);

/// A fleet on fire.
#[derive(Debug)]
pub(crate) struct Fire {
    pub(crate) fleet: Fleet,
    pub(crate) crew: Crew,
    pub(crate) load: Load,
    pub(crate) dice: StdRng,
    pub(crate) row: Row,
    /// Files of the processes, and what was accepted.
    pub(crate) folder: TempDir,
    keeps: bool,
    recovery: Recovery,
    ends: Instant,
}

impl Fire {
    pub(crate) async fn light(trial: Trial, fleet: Fleet, posts: Vec<Post>, url: &str) -> Result<Self> {
        let Trial { name, seed, mut dice, lasts, keeps, burst } = trial;
        let folder = tempfile::tempdir()?;
        let crew = Crew::start(posts, folder.path())?;
        for (role, serves) in [(Role::Agent, "work"), (Role::Commands, "copy")] {
            let count = crew.of(role).len();
            let serve = until_some(BEGUN_WITHIN, || async {
                (fleet.client.serving(&capability(serves)).await.ok()?.len() >= count).then_some(())
            });
            serve.await.with_context(|| format!("{count} agents for {serves} do not serve within {BEGUN_WITHIN:?}"))?;
        }
        let load = Load::start(&fleet, url, StdRng::seed_from_u64(dice.random()), burst, folder.path()).await?;
        let recovery = Recovery::listen(&fleet).await?;
        recovery.after(Instant::now()).await.context("before anything was hurt")?;
        let row = Row { fault: name.to_owned(), seed, ..Row::default() };
        Ok(Self { fleet, crew, load, dice, row, folder, keeps, recovery, ends: Instant::now() + lasts })
    }

    /// Whether there is still to be fire: none where the load has ended by itself, which is told when it is stopped.
    pub(crate) fn burns(&self) -> bool {
        Instant::now() < self.ends && !self.load.has_ended()
    }

    /// Lets a chosen time pass.
    pub(crate) async fn pause(&mut self, between: Range<Duration>) {
        let chosen = self.dice.random_range(between.start.as_micros()..between.end.as_micros());
        tokio::time::sleep(Duration::from_micros(u64::try_from(chosen).unwrap_or(u64::MAX))).await;
    }

    /// Counts something that is done to the fleet. What is named alike is told together.
    pub(crate) fn strike(&mut self, what: &'static str) {
        self.row.strike(what);
    }

    /// The fault is over now: waits for the next outcome, and notes how long it took.
    ///
    /// # Errors
    /// When none comes.
    pub(crate) async fn recovered(&mut self, what: &'static str) -> Result<()> {
        let took = self.recovery.after(Instant::now()).await.context(what)?;
        self.row.recovery(what, took);
        Ok(())
    }

    /// One of a role, by number.
    pub(crate) fn choose(&mut self, role: Role) -> usize {
        let all = self.crew.of(role);
        all[self.dice.random_range(0..all.len())]
    }

    /// Sends one of a role a signal that ends it.
    ///
    /// # Errors
    /// When no outcome comes after it.
    pub(crate) async fn signal_one(&mut self, role: Role, signal: Signal, what: &'static str) -> Result<()> {
        let chosen = self.choose(role);
        self.strike(what);
        self.crew.member(chosen).signal(signal).await?;
        self.recovered(what).await
    }

    /// The same after acknowledged messages were allowed to go, before this time of the broker.
    ///
    /// # Errors
    /// When nothing can be said; what is wrong stands in the row.
    pub(crate) async fn prove_since(self, since: Timestamp) -> Result<Row> {
        let Self { fleet, crew, load, mut row, folder, keeps, .. } = self;
        let proved = aftermath::prove(&fleet, load, since, &mut row).await;
        ended(crew, proved, folder, keeps, row).await
    }

    /// The fire is out: the load stops, everything comes to rest, and the proof decides. Files are kept where it fails.
    ///
    /// # Errors
    /// When nothing can be said; what is wrong stands in the row.
    pub(crate) async fn prove(self) -> Result<Row> {
        let Self { fleet, crew, load, mut row, folder, keeps, .. } = self;
        let proved = proof::prove(&fleet, load, folder.path(), &mut row).await;
        ended(crew, proved, folder, keeps, row).await
    }
}

async fn ended(crew: Crew, proved: Result<()>, folder: TempDir, keeps: bool, mut row: Row) -> Result<Row> {
    let ended = if proved.is_ok() { crew.end().await } else { Ok(()) };
    if let Err(error) = proved.and(ended) {
        row.faults.push(format!("{error:#}"));
    }
    if !row.faults.is_empty() {
        row.faults.push(format!("logs, and what was accepted: {}", folder.keep().display()));
    } else if keeps {
        println!("logs, and what was accepted: {}", folder.keep().display());
    }
    Ok(row)
}
