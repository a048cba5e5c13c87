//! `sortie run show`: one run, alive or over.

use process::{ExitCode, Problem};
use protocol::{RunId, time, time::Timestamp};
use workflow::{View, state::view::RunStatus};

use super::{brief, fold, timeline};
use crate::{output::Output, refusal, session::Session};

/// Bytes of a value in the head.
const VALUE_BYTES_MAX: usize = 200;
const FAILURE_BYTES_MAX: usize = 1_000;

/// Which run is shown, and how much of it.
#[derive(Debug, clap::Args)]
pub(super) struct ShowArgs {
    /// The run
    #[arg(value_name = "ID")]
    run: RunId,
    /// Of a step that asks many times, so many requests: failed ones first, then those that run
    #[arg(long, value_name = "N", default_value_t = 10)]
    items: usize,
}

pub(super) async fn show(args: ShowArgs, session: &Session) -> Result<ExitCode, Problem> {
    let client = session.client().await?;
    let view = fold::view(client, &args.run).await?;
    let now = client.now().await.map_err(refusal::problem)?;
    session.output().show(&view, || text(&view, now, args.items, session.output()))?;
    Ok(ExitCode::Done)
}

/// The whole of it for people.
pub(super) fn text(view: &View, now: Timestamp, requests_max: usize, output: Output) -> String {
    let drawn = timeline::draw(view, now, requests_max, output);
    let head = head(view, now);
    if drawn.is_empty() { head } else { format!("{head}\n{drawn}") }
}

fn head(view: &View, now: Timestamp) -> String {
    let mut lines = vec![("run", view.run.to_string())];
    if let Some(workflow) = &view.workflow {
        let version = view.version.as_ref().map(|version| format!(" {}", brief::text(version, 40))).unwrap_or_default();
        lines.push(("workflow", format!("{workflow}{version}")));
    }
    let percent = match view.status {
        RunStatus::Ended(_) | RunStatus::Waiting => String::new(),
        _ => format!(", {} %", view.percent),
    };
    lines.push(("status", format!("{}{percent}", brief::status(view.status))));
    lines
        .extend(view.failure.as_ref().map(|failure| ("failure", brief::text(&failure.to_string(), FAILURE_BYTES_MAX))));
    if let Some(started) = view.started {
        let word = if view.ended.is_some() { "took" } else { "for" };
        let took = brief::took(timeline::span(started, view.ended.unwrap_or(now)));
        lines.push(("started", format!("{}, {word} {took}", time::format(started))));
    }
    if view.ended.is_none() {
        lines.extend(view.due.map(|due| ("due", time::format(due))));
    }
    lines.extend(view.parent.as_ref().map(|parent| ("asked by", parent.to_string())));
    lines.extend(view.retry_of.as_ref().map(|run| ("retry of", run.to_string())));
    let values = [("input", &view.input), ("output", &view.output)];
    lines.extend(values.into_iter().filter_map(|(name, payload)| {
        let text = brief::value(payload, VALUE_BYTES_MAX);
        (!text.is_empty()).then_some((name, text))
    }));
    if view.signals_kept > 0 {
        lines.push(("signals", format!("{} came that no step has taken", view.signals_kept)));
    }
    if view.undo_left > 0 {
        lines.push(("undo", format!("{} left", view.undo_left)));
    }
    lines.into_iter().map(|(name, value)| format!("{name:<9} {value}\n")).collect()
}
