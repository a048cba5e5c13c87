//! `sortie run start`: hands the start of a run over.

use std::time::Duration;

use client::{Acceptance, ErrorKind, StartedRun};
use process::{ExitCode, Problem};
use protocol::{
    ContentType, Lane, RequestId, RunId, WorkflowName, duration,
    time::{self, Timestamp},
};
use serde_json::json;
use workflow::{Plan, validate};

use crate::{
    commands::{
        outcome,
        submit::{body::Body, noting::Noting},
    },
    patience, refusal,
    session::Session,
};

/// What a run is started with.
#[derive(Debug, clap::Args)]
pub(super) struct StartArgs {
    /// The workflow
    workflow: WorkflowName,
    /// The run's input: JSON, `-` for standard input, `@path` for a file [default: null]
    #[arg(value_name = "JSON|-|@FILE")]
    input: Option<String>,
    /// The input is plain text, to be given as a JSON string
    #[arg(long)]
    text: bool,
    /// Its id: whatever is started under one id is one run [default: a new one]
    #[arg(long, value_name = "ID", value_parser = parse_new_run)]
    id: Option<RunId>,
    /// The lane of its steps where they name none: urgent, normal or bulk
    #[arg(long, value_name = "LANE", value_parser = parse_lane, default_value = "normal")]
    lane: Lane,
    /// After this long it is stopped, whatever the workflow says
    #[arg(long, value_name = "1h", value_parser = duration::parse, conflicts_with = "deadline_at")]
    deadline: Option<Duration>,
    /// After this time (RFC 3339) it is stopped
    #[arg(long, value_name = "TIME", value_parser = time::parse)]
    deadline_at: Option<Timestamp>,
    #[command(flatten)]
    noting: Noting,
    #[command(flatten)]
    waiting: Waiting,
}

/// Whether and how long to wait for a run's outcome.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Waiting {
    /// Wait for its outcome and print the result
    #[arg(long)]
    wait: bool,
    /// The same, but at most this long [default: as long as it takes]
    #[arg(long, value_name = "30s", value_parser = duration::parse)]
    within: Option<Duration>,
}

pub(super) async fn start(args: StartArgs, session: &Session) -> Result<ExitCode, Problem> {
    let body = Body::read(args.input.as_deref(), args.text)?;
    check(&args.workflow, &body, session).await?;
    let noted_in = args.noting.file()?;
    let client = session.client().await?;
    let mut start = client.start_encoded(&args.workflow, body.into_bytes(), ContentType::Json).lane(args.lane);
    if let Some(id) = &args.id {
        start = start.id(id);
    }
    if let Some(file) = &noted_in {
        start = start.noted_in(file);
    }
    if let Some(within) = args.deadline {
        start = start.deadline(within);
    }
    if let Some(at) = args.deadline_at {
        start = start.deadline_at(at);
    }
    let started = start.submit().await.map_err(refusal::problem)?;
    told(&started, &args.workflow, &args.waiting, session).await
}

/// Tells whether it is a new run, and waits for its outcome where that is wanted.
pub(super) async fn told(
    started: &StartedRun,
    workflow: &WorkflowName,
    waiting: &Waiting,
    session: &Session,
) -> Result<ExitCode, Problem> {
    let run = started.run();
    let state = match started.acceptance() {
        Acceptance::Stored { .. } => "stored",
        Acceptance::Repeated => {
            eprintln!("run {run} was started before: it is the same one");
            "repeated"
        }
        Acceptance::Done(outcome) => {
            eprintln!("run {run} is {} already", outcome.status);
            "done"
        }
    };
    if waiting.wait || waiting.within.is_some() {
        let within = waiting.within.unwrap_or(duration::DURATION_MAX);
        let ended = patience::waiting(format!("waiting for the outcome of run {run}"), started.outcome(within)).await;
        return match ended {
            Ok(outcome) => outcome::answer_as("run", &outcome, session.output()),
            Err(error) if *error.kind() == ErrorKind::Pending => {
                let problem = Problem::new(ExitCode::Again, format!("run {run} is not over yet; it goes on"));
                Err(problem.advise(format!("`sortie run watch {run}` shows it, `sortie outcome {run} --wait` waits")))
            }
            Err(error) => Err(refusal::problem(error)),
        };
    }
    let mut document = json!({ "run": run, "workflow": workflow, "state": state });
    if let Acceptance::Done(outcome) = started.acceptance() {
        document["outcome"] = outcome.document();
    }
    session.output().show(&document, || run.to_string())?;
    Ok(ExitCode::Done)
}

/// What the coordinator would refuse is told at once, before anything is stored.
async fn check(workflow: &WorkflowName, body: &Body, session: &Session) -> Result<(), Problem> {
    let stored = match session.client().await?.workflow(workflow).await {
        Ok(stored) => stored,
        // Who only starts runs need not see what is kept.
        Err(error) if *error.kind() == ErrorKind::Forbidden => return Ok(()),
        Err(error) => return Err(refusal::problem(error)),
    };
    let Some(stored) = stored else {
        return Err(Problem::new(ExitCode::WorkFailed, format!("there is no such workflow {workflow}"))
            .advise("`sortie workflow list` shows what is kept, `sortie workflow apply FILE` keeps one"));
    };
    // A coordinator may know more than this version does: what cannot be read here is for it to judge.
    let Ok(plan) = Plan::read(&stored.definition) else { return Ok(()) };
    let faults: Vec<String> = validate::input(&plan, &body.value()?).iter().map(ToString::to_string).collect();
    if faults.is_empty() {
        return Ok(());
    }
    let message = format!("the input is not what {workflow} takes:\n{}", faults.join("\n"));
    Err(Problem::new(ExitCode::Usage, message)
        .advise(format!("`sortie workflow show {workflow} --json` has its schema, under definition.input")))
}

/// An id that a run may be given.
pub(super) fn parse_new_run(text: &str) -> Result<RunId, String> {
    RequestId::from_client(text).map_err(|error| error.to_string())?;
    RunId::parse(text).map_err(|error| error.to_string())
}

fn parse_lane(text: &str) -> Result<Lane, String> {
    Lane::named(text).ok_or_else(|| "urgent, normal or bulk".to_owned())
}
