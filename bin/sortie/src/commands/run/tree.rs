//! `sortie run tree`: a run and the runs that its steps asked for.

use client::Client;
use futures_util::{StreamExt, TryStreamExt, stream};
use process::{ExitCode, Problem};
use protocol::{RequestId, RunId, WorkflowName, time::Timestamp};
use serde::Serialize;
use workflow::{StepStatus, View, state::view::RunStatus};

use super::{brief, fold, timeline};
use crate::{output::Output, refusal, session::Session};

/// Logs that are read at once.
const READ_AT_ONCE: usize = 16;

/// Which tree is shown, and how much of it.
#[derive(Debug, clap::Args)]
pub(super) struct TreeArgs {
    /// The run at its top
    #[arg(value_name = "ID")]
    run: RunId,
    /// Levels below the first
    #[arg(long, value_name = "N", default_value_t = 20)]
    depth: usize,
    /// Runs in all
    #[arg(long, value_name = "N", default_value_t = 500)]
    limit: usize,
}

/// A run of the tree.
#[derive(Debug, Serialize)]
struct Branch {
    run: RunId,
    /// The step's request that asked for it; none at the top of a tree that nobody asked for.
    asked_by: Option<RequestId>,
    workflow: Option<WorkflowName>,
    status: RunStatus,
    percent: u8,
    started: Option<Timestamp>,
    ended: Option<Timestamp>,
    /// Runs that its steps asked for.
    sub_runs: Vec<Branch>,
    /// How many of those are not shown.
    left_out: usize,
}

/// A run that somebody asked for and that is to be looked at.
struct Wanted {
    run: RunId,
    asked_by: Option<RequestId>,
    workflow: Option<WorkflowName>,
}

pub(super) async fn tree(args: TreeArgs, session: &Session) -> Result<ExitCode, Problem> {
    let client = session.client().await?;
    let top = fold::view(client, &args.run).await?;
    let mut left = args.limit.saturating_sub(1);
    let asked_by = top.parent.clone();
    let tree = grown(client, top, asked_by, args.depth, &mut left).await?;
    let now = client.now().await.map_err(refusal::problem)?;
    session.output().show(&tree, || table(&tree, now, session.output()))?;
    Ok(ExitCode::Done)
}

/// Level by level, so that a bound leaves out what lies deepest. What a run asked for comes after it, so the tree is put
/// together from the end.
async fn grown(
    client: &Client,
    top: View,
    asked_by: Option<RequestId>,
    depth: usize,
    left: &mut usize,
) -> Result<Branch, Problem> {
    let mut branches = vec![(branch(&top, asked_by), None)];
    let mut level = vec![(0, asked_for(&top))];
    for _ in 0..depth {
        let mut wanted = Vec::new();
        for (parent, asked) in level.drain(..) {
            let taken = asked.len().min(*left);
            *left -= taken;
            branches[parent].0.left_out = asked.len() - taken;
            wanted.extend(asked.into_iter().take(taken).map(|asked| (parent, asked)));
        }
        if wanted.is_empty() {
            break;
        }
        let found = stream::iter(wanted).map(|(parent, asked)| async move {
            Ok::<_, Problem>((parent, fold::find(client, &asked.run).await?, asked))
        });
        let found: Vec<(usize, Option<View>, Wanted)> = found.buffered(READ_AT_ONCE).try_collect().await?;
        for (parent, view, asked) in found {
            let branch = match &view {
                Some(view) => branch(view, asked.asked_by),
                None => not_begun(asked),
            };
            level.extend(view.map(|view| (branches.len(), asked_for(&view))));
            branches.push((branch, Some(parent)));
        }
    }
    for (parent, asked) in level {
        branches[parent].0.left_out = asked.len();
    }
    while branches.len() > 1
        && let Some((branch, Some(parent))) = branches.pop()
    {
        branches[parent].0.sub_runs.insert(0, branch);
    }
    let (top, _) = branches.swap_remove(0);
    Ok(top)
}

fn branch(view: &View, asked_by: Option<RequestId>) -> Branch {
    Branch {
        run: view.run.clone(),
        asked_by,
        workflow: view.workflow.clone(),
        status: view.status,
        percent: view.percent,
        started: view.started,
        ended: view.ended,
        sub_runs: Vec::new(),
        left_out: 0,
    }
}

fn not_begun(asked: Wanted) -> Branch {
    Branch {
        run: asked.run,
        asked_by: asked.asked_by,
        workflow: asked.workflow,
        status: RunStatus::Waiting,
        percent: 0,
        started: None,
        ended: None,
        sub_runs: Vec::new(),
        left_out: 0,
    }
}

/// The runs that a run's steps and undos asked for.
fn asked_for(view: &View) -> Vec<Wanted> {
    let requests = view.steps.iter().flat_map(|step| &step.requests).chain(&view.undo);
    let asked = requests.filter(|request| request.status != StepStatus::Waiting && !request.is_copied);
    asked
        .filter_map(|request| {
            Some(Wanted {
                run: timeline::sub_run(&view.run, request)?,
                asked_by: Some(RequestId::of_step(&view.run, &request.step, request.item)),
                workflow: request.workflow.clone(),
            })
        })
        .collect()
}

fn table(tree: &Branch, now: Timestamp, output: Output) -> String {
    let mut rows = Vec::new();
    add(tree, 0, now, &mut rows);
    output.table(&["RUN", "WORKFLOW", "STATUS", "DONE", "TOOK", "ASKED BY"], rows)
}

fn add(branch: &Branch, depth: usize, now: Timestamp, rows: &mut Vec<[String; 6]>) {
    // A table takes away blanks in front.
    let indented = |text: String| if depth == 0 { text } else { format!("{}└ {text}", "· ".repeat(depth - 1)) };
    let is_over = matches!(branch.status, RunStatus::Ended(_));
    let took = branch.started.map(|started| brief::took(timeline::span(started, branch.ended.unwrap_or(now))));
    rows.push([
        indented(branch.run.to_string()),
        branch.workflow.as_ref().map(ToString::to_string).unwrap_or_default(),
        brief::status(branch.status).to_owned(),
        if is_over { String::new() } else { format!("{} %", branch.percent) },
        took.unwrap_or_default(),
        branch.asked_by.as_ref().map(ToString::to_string).unwrap_or_default(),
    ]);
    for sub_run in &branch.sub_runs {
        add(sub_run, depth + 1, now, rows);
    }
    if branch.left_out > 0 {
        let text = format!("└ and {} more; --limit, --depth", branch.left_out);
        let more = format!("{}{text}", "· ".repeat(depth));
        rows.push([more, String::new(), String::new(), String::new(), String::new(), String::new()]);
    }
}
