//! `sortie run list`: what is alive, and what ended last.

use client::{Client, LiveRun, PastRun, RunFilter};
use futures_util::{StreamExt, TryStreamExt, stream};
use process::{ExitCode, Problem};
use protocol::{RunId, Status, StepName, WorkflowName, time::Timestamp};
use serde::Serialize;
use workflow::{StepStatus, state::view::RunStatus};

use super::{brief, fold};
use crate::{commands::queues::age, output::Output, refusal, session::Session};

/// Logs that are read at once.
const READ_AT_ONCE: usize = 16;

/// Runs that are alive and looked at, however few of them are as they are wanted: each is a log to read.
const LOOKED_AT_MAX: usize = 5_000;

/// Steps that are named in a line.
const STEPS_NAMED: usize = 3;

/// Which runs are listed.
#[derive(Debug, clap::Args)]
pub(super) struct ListArgs {
    /// Of this workflow alone
    #[arg(long, value_name = "NAME")]
    workflow: Option<WorkflowName>,
    /// Those that are so: waiting, running, paused, stopping, undoing; completed, failed, expired, cancelled
    #[arg(long, value_name = "STATUS", value_parser = parse_status)]
    status: Option<RunStatus>,
    /// So many that are alive, and so many that have ended, at most
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: usize,
}

/// A line of the list.
#[derive(Debug, PartialEq, Serialize)]
struct Listed {
    run: RunId,
    workflow: Option<WorkflowName>,
    status: RunStatus,
    /// None where it is not folded: of runs that have ended.
    percent: Option<u8>,
    steps_running: Vec<StepName>,
    started_at: Option<Timestamp>,
    ended_at: Option<Timestamp>,
}

pub(super) async fn list(args: ListArgs, session: &Session) -> Result<ExitCode, Problem> {
    let client = session.client().await?;
    let mut listed: Vec<Listed> = Vec::new();
    let ended = match args.status {
        Some(RunStatus::Ended(status)) => Some(status),
        _ => None,
    };
    let filter = RunFilter { workflow: args.workflow.clone(), status: ended };
    let mut left_out = None;
    if ended.is_none() {
        let (alive, told) = alive(client, &filter, &args).await?;
        (listed, left_out) = (alive, told);
    }
    if args.status.is_none() || ended.is_some() {
        let past = client.latest_runs(&filter, args.limit).await.map_err(refusal::problem)?;
        // It may have ended between the two looks: then it is over.
        listed.retain(|run| past.iter().all(|past| past.run != run.run));
        listed.extend(past.into_iter().map(of_past));
    }
    let now = client.now().await.map_err(refusal::problem)?;
    session.output().show(&listed, || match listed.is_empty() {
        true => "there are no such runs; `sortie run start --help` shows how to start one".to_owned(),
        false => table(&listed, now, session.output()),
    })?;
    if let Some(told) = left_out {
        eprintln!("{told}");
    }
    Ok(ExitCode::Done)
}

/// Those that are alive and as they are wanted, and what is to be said of those that were left out.
async fn alive(client: &Client, filter: &RunFilter, args: &ListArgs) -> Result<(Vec<Listed>, Option<String>), Problem> {
    let (mut found, mut looked_at, mut from) = (Vec::new(), 0, Some(1));
    // One more than is shown tells that there are more.
    while let Some(sequence) = from
        && found.len() <= args.limit
        && looked_at < LOOKED_AT_MAX
    {
        let (some, next) = client.live_runs_from(filter, sequence).await.map_err(refusal::problem)?;
        from = next;
        looked_at += some.len();
        let wanted = if args.status.is_some() { some.len() } else { args.limit + 1 - found.len() };
        let folded = stream::iter(some.into_iter().take(wanted)).map(|run| of_live(client, run));
        let folded: Vec<_> = folded.buffered(READ_AT_ONCE).try_collect().await?;
        found.extend(folded.into_iter().flatten().filter(|run| args.status.is_none_or(|wanted| wanted == run.status)));
    }
    let told = if found.len() > args.limit {
        Some(format!("more than {} are alive; --limit shows more of them", args.limit))
    } else {
        from.map(|_| format!("only the {looked_at} runs that are alive for longest were looked at"))
    };
    found.truncate(args.limit);
    Ok((found, told))
}

async fn of_live(client: &Client, run: LiveRun) -> Result<Option<Listed>, Problem> {
    // It may be over, and its log purged.
    let Some(course) = fold::course(client, &run.run).await? else { return Ok(None) };
    let view = course.view();
    let running = view.steps.iter().filter(|step| step.status == StepStatus::Running);
    Ok(Some(Listed {
        workflow: run.workflow.or(view.workflow),
        status: view.status,
        percent: Some(view.percent),
        steps_running: running.map(|step| step.name.clone()).collect(),
        started_at: Some(run.started_at),
        ended_at: view.ended,
        run: run.run,
    }))
}

fn of_past(past: PastRun) -> Listed {
    Listed {
        run: past.run,
        workflow: Some(past.workflow),
        status: RunStatus::Ended(past.status),
        percent: None,
        steps_running: Vec::new(),
        started_at: past.started_at,
        ended_at: Some(past.ended_at),
    }
}

fn table(listed: &[Listed], now: Timestamp, output: Output) -> String {
    let rows = listed.iter().map(|run| {
        let since = match (run.started_at, run.ended_at) {
            (_, Some(ended)) => format!("{} ago", age(ended, now)),
            (Some(started), None) => age(started, now),
            (None, None) => String::new(),
        };
        let took = run.started_at.zip(run.ended_at).map(|(started, ended)| brief::took(ended - started));
        [
            run.run.to_string(),
            run.workflow.as_ref().map(ToString::to_string).unwrap_or_default(),
            brief::status(run.status).to_owned(),
            run.percent.map(|percent| format!("{percent} %")).unwrap_or_default(),
            named(&run.steps_running),
            since,
            took.unwrap_or_default(),
        ]
    });
    output.table(&["ID", "WORKFLOW", "STATUS", "DONE", "STEPS RUNNING", "SINCE", "TOOK"], rows)
}

fn named(steps: &[StepName]) -> String {
    let names: Vec<&str> = steps.iter().take(STEPS_NAMED).map(StepName::as_str).collect();
    match steps.len().saturating_sub(STEPS_NAMED) {
        0 => names.join(", "),
        more => format!("{} and {more} more", names.join(", ")),
    }
}

fn parse_status(text: &str) -> Result<RunStatus, String> {
    let alive = [RunStatus::Waiting, RunStatus::Running, RunStatus::Paused, RunStatus::Stopping, RunStatus::Undoing];
    let found = alive.into_iter().find(|status| brief::status(*status) == text);
    found.or_else(|| Status::parse(text).map(RunStatus::Ended)).ok_or_else(|| {
        let names: Vec<&str> = alive.into_iter().map(brief::status).collect();
        format!("it is one of {}, completed, failed, expired and cancelled", names.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_is_read_as_it_is_shown() {
        assert_eq!(parse_status("paused"), Ok(RunStatus::Paused));
        assert_eq!(parse_status("failed"), Ok(RunStatus::Ended(Status::Failed)));
        assert!(parse_status("dead").unwrap_err().contains("undoing, completed"));
    }

    #[test]
    fn many_steps_are_counted() {
        let names = |count: usize| (0..count).map(|n| StepName::parse(&format!("s{n}")).unwrap()).collect::<Vec<_>>();
        assert_eq!([0, 3, 5].map(|count| named(&names(count))), ["", "s0, s1, s2", "s0, s1, s2 and 2 more"]);
    }
}
