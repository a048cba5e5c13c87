use std::{
    sync::{Mutex, PoisonError},
    time::Instant,
};

use futures_util::{TryStreamExt, stream};
use protocol::{RunId, WorkflowName};
use serde_json::{Value, json};

use super::{PATIENCE, Rounds, body, completed};
use crate::{
    Basis, Error, Latency, Report, Side, Stage,
    agent::{CAPABILITY, Load},
    measure::Tape,
    yardstick::Yardstick,
};

/// Runs of steps one after the other, so many at once.
#[derive(Clone, Debug)]
pub struct Runs {
    /// How many. Defaults to 1,000.
    pub number: usize,
    /// Steps of each. Defaults to 3.
    pub steps: usize,
    /// How many at once. Defaults to 100.
    pub in_flight: usize,
    /// The size of an input, in bytes. Defaults to 256.
    pub bytes: usize,
}

impl Default for Runs {
    fn default() -> Self {
        Self { number: 1_000, steps: 3, in_flight: 100, bytes: 256 }
    }
}

impl Runs {
    pub(super) async fn measure(&self, stage: &mut Stage<'_>, rounds: Rounds) -> Result<Report, Error> {
        stage.crew.hire(256, 1).await?;
        let load = Load::of_bytes(self.bytes, 0);
        let body = body(&load);
        let workflow = apply(stage, &format!("bench-runs-{}", self.steps), self.definition()).await?;
        let yardstick = Yardstick::runs(&stage.options, 1, self.steps, 1).await?;
        let last = Mutex::new(Vec::new());
        let (taken, used) = rounds
            .take(
                stage,
                async || {
                    let (side, runs) = start(stage, &workflow, &load, self.number, self.in_flight).await?;
                    *last.lock().unwrap_or_else(PoisonError::into_inner) = runs;
                    Ok(side)
                },
                || yardstick.run(self.number, self.in_flight, &body),
            )
            .await?;
        yardstick.close().await;
        let last = last.into_inner().unwrap_or_else(PoisonError::into_inner);
        let between = between_steps(stage, &last).await?;
        stage.crew.dismiss().await?;
        let parameters = [
            ("number", self.number.into()),
            ("steps", self.steps.into()),
            ("in_flight", self.in_flight.into()),
            ("bytes", self.bytes.into()),
        ];
        let mut report = Report::new("runs", parameters).with_rounds(taken, Basis::Rate);
        report.figures.insert("steps_per_second".to_owned(), report.sortie(|side| side.rate) * self.steps as f64);
        if let Some(between) = between {
            report.figures.insert("step_to_step_p50_us".to_owned(), between.p50_us as f64);
            report.figures.insert("step_to_step_p99_us".to_owned(), between.p99_us as f64);
        }
        report.resources = used;
        Ok(report)
    }

    fn definition(&self) -> Value {
        let step = |number: usize| {
            let from = match number {
                1 => "${ input }".to_owned(),
                _ => format!("${{ steps.s{}.output }}", number - 1),
            };
            let mut step = json!({ "call": CAPABILITY, "with": from });
            if number > 1 {
                step["needs"] = json!([format!("s{}", number - 1)]);
            }
            (format!("s{number}"), step)
        };
        let steps: serde_json::Map<String, Value> = (1..=self.steps.max(1)).map(step).collect();
        let output = format!("${{ steps.s{}.output }}", self.steps.max(1));
        json!({ "steps": steps, "output": output })
    }
}

/// Keeps the definition under a name.
pub(super) async fn apply(stage: &Stage<'_>, name: &str, mut definition: Value) -> Result<WorkflowName, Error> {
    let workflow = WorkflowName::parse(name).map_err(|error| Error::Wrong(error.to_string()))?;
    definition["workflow"] = name.into();
    definition["version"] = "1.0.0".into();
    stage.client.workflow_apply(&workflow, &definition, true).await?;
    Ok(workflow)
}

/// So many runs, so many at once, each until its outcome is there; and their ids.
pub(super) async fn start(
    stage: &Stage<'_>,
    workflow: &WorkflowName,
    input: &(impl serde::Serialize + Sync),
    number: usize,
    in_flight: usize,
) -> Result<(Side, Vec<RunId>), Error> {
    let tape = Tape::start();
    let runs = stream::iter((0..number).map(Ok::<_, Error>))
        .map_ok(|_| async {
            let began = Instant::now();
            let outcome = stage.start(workflow, input).call(PATIENCE).await?;
            completed(&outcome)?;
            tape.note(began.elapsed());
            RunId::parse(outcome.id.as_str()).map_err(|error| Error::Wrong(error.to_string()))
        })
        .try_buffer_unordered(in_flight)
        .try_collect()
        .await?;
    Ok((tape.end(), runs))
}

/// From one step's outcome to the next one's, as the broker dated them; of the last thousand runs, as long as their summaries are
/// there. None where no run has two steps.
async fn between_steps(stage: &Stage<'_>, runs: &[RunId]) -> Result<Option<Latency>, Error> {
    let tape = Tape::start();
    let mut count = 0;
    for run in runs.iter().rev().take(1_000) {
        let Some(summary) = stage.client.run_summary(run).await? else { continue };
        let ends: Vec<_> =
            summary.facts.iter().filter(|fact| fact.name.ends_with(".outcome")).map(|fact| fact.at).collect();
        for pair in ends.windows(2) {
            tape.note((pair[1] - pair[0]).to_std().unwrap_or_default());
            count += 1;
        }
    }
    Ok((count > 0).then(|| tape.end().latency))
}
