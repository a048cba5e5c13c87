//! `sortie run signal`, `pause`, `resume` and `cancel`: what a run is told.

use client::Heard;
use process::{ExitCode, Problem};
use protocol::{RequestId, RunId, StepName};
use serde_json::{Value, json};

use crate::{commands::submit::body::Body, refusal, session::Session};

/// A signal for a run.
#[derive(Debug, clap::Args)]
pub(super) struct SignalArgs {
    /// The run
    #[arg(value_name = "ID")]
    run: RunId,
    /// The signal's name, as the workflow says after `signal:`
    name: StepName,
    /// What it carries: JSON, `-` for standard input, `@path` for a file [default: null]
    #[arg(value_name = "JSON|-|@FILE")]
    value: Option<String>,
    /// It carries plain text, to be sent as a JSON string
    #[arg(long)]
    text: bool,
    /// Its id: what is sent again under it within two minutes is the same signal [default: a new one]
    #[arg(long, value_name = "ID", value_parser = RequestId::from_client)]
    id: Option<RequestId>,
}

/// Which run is cancelled, and why.
#[derive(Debug, clap::Args)]
pub(super) struct CancelArgs {
    /// The run
    #[arg(value_name = "ID")]
    run: RunId,
    /// Why, for whoever looks at it later
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

pub(super) async fn signal(args: SignalArgs, session: &Session) -> Result<ExitCode, Problem> {
    let SignalArgs { run, name, value, text, id } = args;
    let value = Body::read(value.as_deref(), text)?.value()?;
    // What it carries may be a secret, and is in the run's log.
    session.audit("run-signal", run.as_str(), json!({ "signal": name })).await?;
    let heard = session.client().await?.signal(&run, &name, &value, id.as_ref()).await;
    let told = heard.map_err(refusal::problem)?;
    answer(&run, told, "signalled", &format!("run {run} is told {name}"), session)
}

pub(super) async fn pause(run: &RunId, session: &Session) -> Result<ExitCode, Problem> {
    session.audit("run-pause", run.as_str(), Value::Null).await?;
    let heard = session.client().await?.pause_run(run).await.map_err(refusal::problem)?;
    let sentence = format!("run {run} begins nothing new; `sortie run resume {run}` lets it go on");
    answer(run, heard, "paused", &sentence, session)
}

pub(super) async fn resume(run: &RunId, session: &Session) -> Result<ExitCode, Problem> {
    session.audit("run-resume", run.as_str(), Value::Null).await?;
    let heard = session.client().await?.resume_run(run).await.map_err(refusal::problem)?;
    answer(run, heard, "resumed", &format!("run {run} goes on"), session)
}

pub(super) async fn cancel(args: CancelArgs, session: &Session) -> Result<ExitCode, Problem> {
    let CancelArgs { run, reason } = args;
    session.audit("run-cancel", run.as_str(), json!({ "reason": reason })).await?;
    let heard = session.client().await?.cancel_run(&run, reason.as_deref()).await.map_err(refusal::problem)?;
    let sentence = format!("run {run} is told to end; `sortie run watch {run}` shows what is cancelled and undone");
    answer(&run, heard, "cancelled", &sentence, session)
}

fn answer(run: &RunId, heard: Heard, done: &str, sentence: &str, session: &Session) -> Result<ExitCode, Problem> {
    if heard == Heard::NotStarted {
        eprintln!(
            "run {run} has not started: it is told when it does, within an hour; `sortie run list` shows those that have"
        );
    }
    session.output().show(&json!({ "run": run, "done": done, "heard": heard }), || sentence.to_owned())?;
    Ok(ExitCode::Done)
}
