//! One round of one fault: its seed, its choices, and how long it burns.

use std::{
    future::Future,
    pin::Pin,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use libtest_mimic::Failed;
use rand::{SeedableRng, rngs::StdRng};
use sortie_tests::{Fleet, ground::Missing};

use crate::{
    crew::Post,
    fire::Fire,
    flags::Flags,
    report::{Report, Row},
};

/// What a fault does, from the first process to the proof.
pub(crate) type Run = fn(Trial) -> Pin<Box<dyn Future<Output = Result<Row>>>>;

/// One round of one fault.
#[derive(Debug)]
pub(crate) struct Trial {
    pub(crate) name: &'static str,
    pub(crate) seed: u64,
    /// All choices of the fault are made with these.
    pub(crate) dice: StdRng,
    /// How long there is fire.
    pub(crate) lasts: Duration,
    /// Whether its files stay.
    pub(crate) keeps: bool,
    /// How many things are asked for at the same moment: as many in all, less often.
    pub(crate) burst: u32,
}

impl Trial {
    fn new(name: &'static str, seed: u64, flags: &Flags) -> Self {
        // Trials of one seed are not to make the same choices.
        let own = name.bytes().fold(seed, |mixed, byte| mixed.wrapping_mul(31).wrapping_add(u64::from(byte)));
        Self { name, seed, dice: StdRng::seed_from_u64(own), lasts: flags.round, keeps: flags.keeps, burst: 1 }
    }

    /// The test of a fault: one round, or as many as there is time for, until one fails.
    pub(crate) fn named(name: &'static str, run: Run, flags: &Flags, report: &Report) -> libtest_mimic::Trial {
        let (flags, report) = (flags.clone(), report.clone());
        libtest_mimic::Trial::test(name, move || {
            let began = Instant::now();
            for seed in flags.seed.. {
                round(Self::new(name, seed, &flags), run, &report)?;
                if flags.whole.is_none_or(|whole| began.elapsed() >= whole) {
                    break;
                }
            }
            Ok(())
        })
    }

    /// What is told of a fault that cannot be tried here.
    pub(crate) fn skipped(self, why: &str) -> Row {
        Row::skipped(self.name, self.seed, why)
    }

    /// Sets a fleet on fire: these processes at work under the mixed load.
    ///
    /// # Errors
    /// When they do not begin to work.
    pub(crate) async fn light(self, fleet: Fleet, posts: Vec<Post>) -> Result<Fire> {
        let url = fleet.url();
        self.light_through(fleet, posts, &url).await
    }

    /// The same with a load that finds the broker there.
    ///
    /// # Errors
    /// When they do not begin to work.
    pub(crate) async fn light_through(self, fleet: Fleet, posts: Vec<Post>, url: &str) -> Result<Fire> {
        Fire::light(self, fleet, posts, url).await
    }
}

fn round(trial: Trial, run: Run, report: &Report) -> Result<(), Failed> {
    let (name, seed) = (trial.name, trial.seed);
    let repeat =
        format!("to choose the same again: cargo test -p sortie-tests --test faults -- {name} --exact --seed {seed}");
    let told = |error: anyhow::Error| Failed::from(format!("{error:#}\n{repeat}"));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.context("a runtime").map_err(told)?;
    let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| runtime.block_on(run(trial))));
    // What a panic said stands above already; what it can not say is the seed.
    let ended = ended.unwrap_or_else(|_| Err(anyhow::anyhow!("it panicked")));
    let row = match ended {
        Err(error) if error.is::<Missing>() => Row::skipped(name, seed, &format!("SKIPPED: {error}")),
        ended => ended.map_err(told)?,
    };
    println!("\n{row}");
    let verdict = row.verdict();
    report.add(row);
    verdict.map_err(told)
}
