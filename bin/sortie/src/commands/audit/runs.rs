//! Whether every run can say what it waits for.

use std::time::Duration;

use client::{Client, LiveRun, RunFilter};
use futures_util::{StreamExt, stream};
use process::Problem;
use protocol::RunId;
use serde::Serialize;
use workflow::state::view::RunStatus;

use crate::{
    commands::{run::fold, why::run::waits},
    meter::Meter,
    refusal,
};

/// Runs that are asked at once: each is folded from its log.
const AT_ONCE: usize = 16;

/// Looks at a run that says nothing, and how far they are apart: between a fact and what follows from it there are
/// milliseconds, and seconds where its coordinator has just died.
const LOOKS: u32 = 12;
const LOOKS_APART: Duration = Duration::from_millis(500);

/// Runs that are named.
const NAMED_MAX: usize = 100;

/// What runs say.
#[derive(Debug, Default, Serialize)]
pub(super) struct Runs {
    /// Runs that are alive.
    pub(super) alive: u64,
    /// Those that cannot say what they wait for.
    pub(super) mute: u64,
    /// The first of them.
    pub(super) named: Vec<Mute>,
}

/// One that cannot.
#[derive(Debug, Serialize)]
pub(super) struct Mute {
    pub(super) run: RunId,
    pub(super) why: String,
}

/// Asks every run.
pub(super) async fn ask(client: &Client, meter: &Meter) -> Result<Runs, Problem> {
    let mut runs = Runs::default();
    let mut from = Some(1);
    while let Some(sequence) = from {
        let (some, next) = client.live_runs_from(&RunFilter::default(), sequence).await.map_err(refusal::problem)?;
        let mut asked = stream::iter(some).map(|run| one(client, run)).buffer_unordered(AT_ONCE);
        while let Some(mute) = asked.next().await {
            runs.alive += 1;
            runs.mute += u64::from(mute.is_some());
            runs.named.extend(mute.filter(|_| runs.named.len() < NAMED_MAX));
        }
        meter.at(usize::try_from(runs.alive).unwrap_or(0), "runs asked");
        from = next;
    }
    Ok(runs)
}

/// None for one that says what it waits for, that goes on meanwhile, or that has ended.
async fn one(client: &Client, live: LiveRun) -> Option<Mute> {
    let (mut read, mut why) = (None, String::new());
    for look in 0..LOOKS {
        if look > 0 {
            tokio::time::sleep(LOOKS_APART).await;
        }
        match fold::course(client, &live.run).await {
            Ok(None) => return None,
            Ok(Some(course)) => {
                let view = course.view();
                let is_answer = matches!(view.status, RunStatus::Ended(_) | RunStatus::Paused);
                if is_answer || !waits(&view).is_empty() {
                    return None;
                }
                if read
                    .replace(course.state.last_sequence())
                    .is_some_and(|before| before != course.state.last_sequence())
                {
                    return None;
                }
                why = "nothing of it runs, and no step says what it waits for".to_owned();
            }
            Err(problem) => why = problem.message,
        }
    }
    Some(Mute { run: live.run, why })
}
