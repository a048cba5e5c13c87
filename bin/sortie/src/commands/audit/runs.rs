//! Whether every run can say what it waits for, and what it waits for is there.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use client::{Client, LiveRun, RunFilter, WANTED_MAX};
use futures_util::{StreamExt, stream};
use process::{ExitCode, Problem};
use protocol::{RequestId, RunId};
use serde::Serialize;
use workflow::state::view::RunStatus;

use crate::{
    commands::{
        run::fold,
        why::run::{Wait, waits},
    },
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
    /// Those that wait for a request or a run that is nowhere.
    pub(super) stranded: u64,
    /// The first of both.
    pub(super) named: Vec<Named>,
}

/// One with which something is wrong.
#[derive(Debug, Serialize)]
pub(super) struct Named {
    pub(super) run: RunId,
    pub(super) why: String,
}

/// What one says.
enum Said {
    /// It waits for time, for a word or for nothing any more, or it goes on meanwhile.
    Well,
    /// It waits for these requests and starts, and was brought as far as it can be without them.
    Waits(RunId, Vec<RequestId>),
    Mute(Named),
}

impl Runs {
    fn name(&mut self, named: Named) {
        if self.named.len() < NAMED_MAX {
            self.named.push(named);
        }
    }

    async fn strand(&mut self, client: &Client, waits: HashMap<RequestId, RunId>) -> Result<(), Problem> {
        let wanted = waits.keys().cloned().collect();
        let Some(nowhere) = client.nowhere(wanted).await.map_err(refusal::problem)? else {
            let why = "more is stored than can be read, so nothing can be said of what runs wait for: look again";
            return Err(Problem::new(ExitCode::Again, why));
        };
        let stranded: BTreeMap<&RunId, &RequestId> =
            nowhere.iter().filter_map(|id| Some((waits.get(id)?, id))).collect();
        self.stranded += stranded.len() as u64;
        for (run, id) in stranded {
            let why = format!(
                "it waits for {id}, which is nowhere: somebody removed it, or the broker lost it; `sortie run cancel {run}`, \
                 and `sortie run retry {run}` does again what did not complete"
            );
            self.name(Named { run: run.clone(), why });
        }
        Ok(())
    }
}

/// Asks every run.
pub(super) async fn ask(client: &Client, meter: &Meter) -> Result<Runs, Problem> {
    let mut runs = Runs::default();
    let mut waits = HashMap::new();
    let mut from = Some(1);
    while let Some(sequence) = from {
        let carried_out = client.carried_out().await.map_err(refusal::problem)?;
        let (some, next) = client.live_runs_from(&RunFilter::default(), sequence).await.map_err(refusal::problem)?;
        let through = |run: &LiveRun| carried_out.get(&run.partition).copied().unwrap_or(0);
        let asked = some.into_iter().map(|run| one(client, through(&run), run));
        let mut asked = stream::iter(asked).buffer_unordered(AT_ONCE);
        while let Some(said) = asked.next().await {
            runs.alive += 1;
            match said {
                Said::Well => {}
                Said::Waits(run, ids) => waits.extend(ids.into_iter().map(|id| (id, run.clone()))),
                Said::Mute(named) => {
                    runs.mute += 1;
                    runs.name(named);
                }
            }
        }
        if waits.len() >= WANTED_MAX {
            runs.strand(client, std::mem::take(&mut waits)).await?;
        }
        meter.at(usize::try_from(runs.alive).unwrap_or(0), "runs asked");
        from = next;
    }
    runs.strand(client, waits).await?;
    Ok(runs)
}

/// What a run says. Facts up to `carried_out` have led to whatever they lead to.
async fn one(client: &Client, carried_out: u64, live: LiveRun) -> Said {
    let (mut read, mut why) = (None, String::new());
    for look in 0..LOOKS {
        if look > 0 {
            tokio::time::sleep(LOOKS_APART).await;
        }
        match fold::course(client, &live.run).await {
            Ok(None) => return Said::Well,
            Ok(Some(course)) => {
                let view = course.view();
                let through = course.state.last_sequence();
                if matches!(view.status, RunStatus::Ended(_) | RunStatus::Paused) {
                    return Said::Well;
                }
                let waits = waits(&view);
                if !waits.is_empty() {
                    // Of a fact that is in a coordinator's hands nothing may have come yet.
                    return if through <= carried_out { Said::of(live.run, waits) } else { Said::Well };
                }
                if read.replace(through).is_some_and(|before| before != through) {
                    return Said::Well;
                }
                why = "nothing of it runs, and no step says what it waits for".to_owned();
            }
            Err(problem) => why = problem.message,
        }
    }
    Said::Mute(Named { run: live.run, why })
}

impl Said {
    fn of(run: RunId, waits: Vec<Wait>) -> Self {
        let ids = waits.into_iter().filter_map(|wait| match wait {
            Wait::Request { request, .. } => Some(request),
            Wait::Run { run, .. } => Some(RequestId::from(&run)),
            Wait::Timer { .. } | Wait::Signal { .. } => None,
        });
        Self::Waits(run, ids.collect())
    }
}
