use std::time::Instant;

use futures_util::{TryStreamExt, stream};
use protocol::WorkflowName;
use serde_json::{Value, json};

use super::{PATIENCE, Rounds, body, completed};
use crate::{
    Basis, Error, Report, Side, Stage,
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
        let (taken, used) = rounds
            .take(
                stage,
                || start(stage, &workflow, &load, self.number, self.in_flight),
                || yardstick.run(self.number, self.in_flight, &body),
            )
            .await?;
        yardstick.close().await;
        stage.crew.dismiss().await?;
        let parameters = [
            ("number", self.number.into()),
            ("steps", self.steps.into()),
            ("in_flight", self.in_flight.into()),
            ("bytes", self.bytes.into()),
        ];
        let mut report = Report::new("runs", parameters).with_rounds(taken, Basis::Rate);
        report.figures.insert("steps_per_second".to_owned(), report.sortie(|side| side.rate) * self.steps as f64);
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

/// So many runs, so many at once, each until its outcome is there.
pub(super) async fn start(
    stage: &Stage<'_>,
    workflow: &WorkflowName,
    input: &(impl serde::Serialize + Sync),
    number: usize,
    in_flight: usize,
) -> Result<Side, Error> {
    let tape = Tape::start();
    stream::iter((0..number).map(Ok::<_, Error>))
        .try_for_each_concurrent(in_flight, |_| {
            let tape = &tape;
            async move {
                let began = Instant::now();
                completed(&stage.client.start(workflow, input).call(PATIENCE).await?)?;
                tape.note(began.elapsed());
                Ok(())
            }
        })
        .await?;
    Ok(tape.end())
}
