//! `sortie run retry`: a new run that goes on where another one failed.

use std::collections::BTreeMap;

use client::{Client, RunRecord, StartBuilder};
use process::{ExitCode, Problem};
use protocol::{ContentType, RunId, StepName, WorkflowName};
use serde_json::json;
use workflow::{State, fact::CopiedOutcome, validate};

use super::{
    fold,
    start::{self, Waiting, parse_new_run},
};
use crate::{commands::submit::body::Body, refusal, session::Session};

/// Which run is done again, and how.
#[derive(Debug, clap::Args)]
pub(super) struct RetryArgs {
    /// The run, which must be over
    #[arg(value_name = "ID")]
    run: RunId,
    /// Do this step and all that depends on it again as well [default: only what did not complete or was undone]
    #[arg(long, value_name = "STEP")]
    from: Option<StepName>,
    /// Another input: JSON, `-` for standard input, `@path` for a file; what is taken over stays as it is [default: the
    /// input that it had]
    #[arg(long, value_name = "JSON|-|@FILE")]
    input: Option<String>,
    /// The new run's id: whatever is started under one id is one run [default: a new one]
    #[arg(long, value_name = "NEW", value_parser = parse_new_run)]
    id: Option<RunId>,
    #[command(flatten)]
    waiting: Waiting,
}

pub(super) async fn retry(args: RetryArgs, session: &Session) -> Result<ExitCode, Problem> {
    let RetryArgs { run, from, input, id, waiting } = args;
    let input = input.map(|input| Body::read(Some(&input), false)).transpose()?;
    let client = session.client().await?;
    let (workflow, state) = over(client, &run).await?;
    let copied = state.copied_outcomes(from.as_ref()).map_err(|fault| {
        Problem::new(ExitCode::Usage, fault).advise(format!("`sortie run show {run}` shows its steps"))
    })?;
    if let (Some(input), Some(program)) = (&input, state.program()) {
        let faults: Vec<String> =
            validate::input(program.plan(), &input.value()?).iter().map(ToString::to_string).collect();
        if !faults.is_empty() {
            let message = format!("the input is not what run {run} of {workflow} takes:\n{}", faults.join("\n"));
            return Err(Problem::new(ExitCode::Usage, message));
        }
    }
    let detail = json!({ "from": from, "id": id, "with_input": input.is_some() });
    session.audit("run-retry", run.as_str(), detail).await?;
    let mut start = started(client, &workflow, &run, from.as_ref(), input);
    if let Some(id) = &id {
        start = start.id(id);
    }
    let started = start.submit().await.map_err(refusal::problem)?;
    eprintln!("{}", taken_over(&run, &copied));
    start::told(&started, &workflow, &waiting, session).await
}

fn started<'a>(
    client: &'a Client,
    workflow: &WorkflowName,
    run: &RunId,
    from: Option<&StepName>,
    input: Option<Body>,
) -> StartBuilder<'a> {
    match input {
        None => client.retry_run(workflow, run, from),
        Some(input) => client.start_encoded(workflow, input.into_bytes(), ContentType::Json).retry_of(run, from),
    }
}

/// A run that is over, folded.
async fn over(client: &Client, run: &RunId) -> Result<(WorkflowName, State), Problem> {
    match client.run_record(run).await.map_err(refusal::problem)? {
        Some(RunRecord::Ended(summary)) => {
            let state = fold::folded(client, run, &summary.facts).await?;
            Ok((summary.workflow.clone(), state))
        }
        Some(RunRecord::Live(_)) => {
            let message = format!("run {run} is alive: it is done again when it is over");
            Err(Problem::new(ExitCode::WorkFailed, message)
                .advise(format!("`sortie run watch {run}` shows what it does, `sortie run cancel {run}` ends it")))
        }
        None if fold::ended(client, run).await?.is_some() => {
            let message = format!("run {run} is over, but nothing is kept of what it did");
            Err(Problem::new(ExitCode::WorkFailed, message).advise("start a new one with `sortie run start`"))
        }
        None => Err(fold::missing(client, run).await?),
    }
}

/// What is not done again, in a line.
fn taken_over(run: &RunId, copied: &[CopiedOutcome]) -> String {
    let mut steps: BTreeMap<&StepName, usize> = BTreeMap::new();
    for outcome in copied {
        *steps.entry(&outcome.step).or_default() += 1;
    }
    let named = steps.into_iter().map(|(step, count)| match count {
        1 => step.to_string(),
        count => format!("{step} ({count} times)"),
    });
    let named: Vec<String> = named.collect();
    match named.is_empty() {
        true => format!("nothing of run {run} is taken over: all of it is done again"),
        false => format!("taken over from run {run}, and not done again: {}", named.join(", ")),
    }
}
