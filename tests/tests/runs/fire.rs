//! Hundreds of runs of every kind of step while coordinators are killed and frozen all the time: every run ends as it
//! would have, no step is begun twice, and nothing is left.

use std::{collections::BTreeMap, env, time::Duration};

use anyhow::Result;
use client::StartedRun;
use futures_util::{StreamExt, TryStreamExt, stream};
use nix::sys::signal::Signal;
use protocol::{StepName, topology::run_pace};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use sortie_tests::process::WorkerProcess;
use tokio::time::{Instant, sleep, timeout};

use crate::site::{Site, three_steps};

/// Repeats a run of this test: who is hurt, and how. Defaults to the time.
const SEED: &str = "SORTIE_TEST_SEED";

const RUNS: usize = 240;
const COORDINATORS: usize = 3;
const HURT: usize = 24;

/// Time between two that are hurt.
const PAUSE: Duration = Duration::from_millis(900);

/// From the last one that is hurt until every run has ended. What dead hands held moves within seconds, and a run has ten
/// moments in a row at which it may wait for that.
const ENDED_WITHIN: Duration = Duration::from_secs(180);

/// Every kind of step that waits for something: requests one by one and many at once, a timer, a signal, a sub-run, turns.
fn mixed() -> Value {
    let work = |give: &str| json!({ "give": give, "ms": "${ input.ms }" });
    json!({
        "workflow": "mixed", "version": "1.0.0",
        "steps": {
            "first": { "call": "work", "with": work("${ input.n }") },
            "each": {
                "needs": ["first"], "foreach": "${ [0, 1, 2, 3, 4] }", "max_parallel": 3, "call": "work",
                "with": work("${ item + steps.first.output }"),
            },
            "nap": { "needs": ["first"], "wait": "700ms" },
            "gate": { "needs": ["first"], "signal": "go", "timeout": "2s", "otherwise": 1000 },
            "turns": {
                "needs": ["nap"],
                "repeat": { "call": "work", "with": work("${ turn }"), "until": "last >= 2", "max": 5, "pause": "300ms" },
            },
            "under": { "needs": ["gate"], "workflow": "three", "with": { "n": "${ steps.gate.output }", "ms": "${ input.ms }" } },
            "told": { "needs": ["each"], "emit": "mixed.told", "with": { "n": "${ input.n }" } },
            "last": {
                "needs": ["told", "turns", "under"], "call": "work",
                "with": work("${ steps.each.output.sum() + steps.turns.output + steps.under.output }"),
            },
        },
        "output": "${ steps.last.output }",
    })
}

/// What the run of this number gives, if its signal counts or comes too late.
fn results(number: usize) -> [usize; 2] {
    let [told, untold] = [number, 1_000].map(|gate| 5 * number + 10 + 2 + gate + 2);
    [told, untold]
}

/// Requests of a run that are begun: its own, and those of its sub-run.
const STEPS: usize = 1 + 5 + 3 + 1 + 3;

struct Hunt {
    dice: StdRng,
    alive: Vec<WorkerProcess>,
    told: BTreeMap<&'static str, usize>,
}

impl Hunt {
    /// Kills one and starts another, or lets one stand still for longer than it may.
    async fn hurt(&mut self, site: &Site) -> Result<()> {
        let which = self.dice.random_range(0..self.alive.len());
        if self.dice.random_bool(0.3) {
            self.alive[which].signal(Signal::SIGSTOP)?;
            sleep(run_pace().priority_timeout + run_pace().ack_wait).await;
            self.alive[which].signal(Signal::SIGCONT)?;
            *self.told.entry("frozen").or_default() += 1;
        } else {
            self.alive.swap_remove(which).signal(Signal::SIGKILL)?;
            self.alive.push(site.coordinator_process()?);
            *self.told.entry("killed").or_default() += 1;
        }
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_of_every_kind_end_while_coordinators_die() -> Result<()> {
    let now = || protocol::time::now().timestamp().unsigned_abs();
    #[allow(clippy::disallowed_methods, reason = "a test is repeated by a variable")]
    let seed = env::var(SEED).ok().and_then(|text| text.parse().ok()).unwrap_or_else(now);
    println!("{SEED}={seed}");
    let site = Site::start().await?;
    site.apply(&three_steps()).await?;
    let mixed = site.apply(&mixed()).await?;
    let alive = (0..COORDINATORS).map(|_| site.coordinator_process()).collect::<Result<_>>()?;
    let mut hunt = Hunt { dice: StdRng::seed_from_u64(seed), alive, told: BTreeMap::new() };

    let go = StepName::parse("go")?;
    let calm =
        site.fleet.client.start(&mixed, &json!({ "n": 7, "ms": 0 })).submit().await?.outcome(ENDED_WITHIN).await?;
    let [_, untold] = results(7);
    anyhow::ensure!(calm.result::<usize>().ok() == Some(untold), "undisturbed: {}", calm.document());

    let submit = async {
        let mut started: Vec<StartedRun> = Vec::new();
        for number in 0..RUNS {
            let run = site.fleet.client.start(&mixed, &json!({ "n": number, "ms": 20 + number % 60 })).submit().await?;
            // Every other one is told, before or after it asks for it.
            if number % 2 == 0 {
                site.fleet.client.signal(run.run(), &go, &json!(number), None).await?;
            }
            started.push(run);
            sleep(PAUSE * u32::try_from(HURT)? / u32::try_from(RUNS)?).await;
        }
        anyhow::Ok(started)
    };
    let hurt = async {
        for _ in 0..HURT {
            sleep(PAUSE).await;
            hunt.hurt(&site).await?;
        }
        anyhow::Ok(())
    };
    let (started, ()) = tokio::try_join!(submit, hurt)?;
    let hurt_until = Instant::now();
    let ended = stream::iter(started.iter().enumerate()).map(|(number, run)| async move {
        let outcome = run.outcome(ENDED_WITHIN).await?;
        let found = outcome.result::<usize>().map_err(|failure| anyhow::anyhow!("run {number}: {failure}"))?;
        anyhow::ensure!(results(number).contains(&found), "run {number} gave {found}");
        anyhow::ensure!(
            number % 2 == 1 || found == results(number)[0],
            "run {number} did not hear its signal: {found}"
        );
        Ok(())
    });
    timeout(ENDED_WITHIN, ended.buffer_unordered(RUNS).try_collect::<Vec<()>>()).await??;
    println!("{:?}; all had ended {:?} after the last", hunt.told, hurt_until.elapsed());
    site.is_empty().await;
    let begun = site.begun.all();
    let twice: Vec<_> = begun.iter().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "steps that were begun more than once: {twice:?}");
    assert_eq!(begun.len(), STEPS * (RUNS + 1));
    assert_eq!((site.events("mixed").await, site.events("sys.run").await), (RUNS as u64 + 1, 2 * (RUNS as u64 + 1)));
    Ok(())
}
