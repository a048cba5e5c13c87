//! The steps of a run on a line of time, and what they took and gave.

use chrono::TimeDelta;
use protocol::{Failure, RequestId, RunId, StepName, run::sub_run_of, time, time::Timestamp};
use workflow::{
    StepStatus, View,
    state::view::{ItemCounts, RequestView, StepView, WaitsFor},
};

use super::brief;
use crate::output::Output;

/// Cells of a bar.
const BAR_CELLS: usize = 30;

/// Bytes of a value, of a failure, of an attempt's failure.
const VALUE_BYTES_MAX: usize = 60;
const FAILURE_BYTES_MAX: usize = 160;

/// From when to when the line goes.
struct Line {
    from: Timestamp,
    to: Timestamp,
}

impl Line {
    fn of(view: &View, now: Timestamp) -> Option<Self> {
        let from = view.started?;
        let to = view.ended.unwrap_or(now);
        // The clocks of two servers may differ.
        Some(Self { from, to: to.max(from) })
    }

    fn head(&self) -> String {
        let to = brief::took(self.to - self.from);
        format!("0s{:>width$}", to, width = BAR_CELLS - 2)
    }

    /// From the beginning to the end, or to now; at least a cell of something that began.
    fn bar(&self, begun: Option<Timestamp>, ended: Option<Timestamp>, cell: char) -> String {
        let Some(begun) = begun else { return String::new() };
        let whole = (self.to - self.from).num_milliseconds().max(1);
        let cells = BAR_CELLS as i64;
        let at = |moment: Timestamp| (moment - self.from).num_milliseconds().clamp(0, whole);
        let first = (at(begun) * cells / whole).min(cells - 1);
        let end = (at(ended.unwrap_or(self.to)) * cells + whole - 1) / whole;
        let length = usize::try_from((end - first).max(1)).unwrap_or(1);
        let blank = usize::try_from(first).unwrap_or_default();
        let fill: String = std::iter::repeat_n(cell, length.min(BAR_CELLS - blank)).collect();
        // Blanks that a table does not trim.
        format!("{}{fill}", "·".repeat(blank))
    }
}

/// The bars, and below them the values; nothing of a run that has not started.
pub(super) fn draw(view: &View, now: Timestamp, requests_max: usize, output: Output) -> String {
    let Some(line) = Line::of(view, now) else { return String::new() };
    let mut rows = Vec::new();
    for step in &view.steps {
        rows.push(step_row(&view.run, step, &line));
        let shown = shown(step, requests_max);
        rows.extend(shown.iter().map(|request| request_row(&view.run, request, &line)));
        let left = step.requests.len().saturating_sub(shown.len());
        if left > 0 && is_many(step) {
            rows.push([
                String::new(),
                String::new(),
                String::new(),
                String::new(),
                format!("and {left} more; --items"),
            ]);
        }
    }
    rows.extend(view.undo.iter().take(requests_max).map(|request| request_row(&view.run, request, &line)));
    if view.undo.len() > requests_max {
        let more = format!("and {} more undone; --items", view.undo.len() - requests_max);
        rows.push([String::new(), String::new(), String::new(), String::new(), more]);
    }
    let bars = output.table(&["STEP", "STATUS", &line.head(), "TOOK", "WHAT"], rows);
    [bars, values(view, requests_max, output), attempts(view, requests_max)]
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join("\n\n")
}

fn step_row(run: &RunId, step: &StepView, line: &Line) -> [String; 5] {
    let cell = match (step.kind, step.status) {
        (_, StepStatus::Failed) => '▒',
        ("wait" | "signal", _) => '░',
        _ => '█',
    };
    let took = step.begun.map(|begun| brief::took(step.ended.unwrap_or(line.to) - begun)).unwrap_or_default();
    [
        step.name.to_string(),
        brief::step_status(step.status).to_owned(),
        line.bar(step.begun, step.ended, cell),
        took,
        what(run, step),
    ]
}

fn request_row(run: &RunId, request: &RequestView, line: &Line) -> [String; 5] {
    let cell = if request.status == StepStatus::Failed { '▒' } else { '█' };
    let took = request.begun.map(|begun| brief::took(request.ended.unwrap_or(line.to) - begun)).unwrap_or_default();
    let undo = request.step.as_str().starts_with("undo_");
    let name = if undo && request.item == 0 { request.step.to_string() } else { format!("  {}", part(request)) };
    [
        name,
        brief::step_status(request.status).to_owned(),
        line.bar(request.begun, request.ended, cell),
        took,
        asked(run, request),
    ]
}

/// A step that asks more than once is shown with what it asked.
fn is_many(step: &StepView) -> bool {
    step.requests.len() > 1 || matches!(step.kind, "foreach" | "repeat" | "race")
}

/// Of many requests those that one looks for: what failed, then what runs, then the first ones.
fn shown(step: &StepView, requests_max: usize) -> Vec<&RequestView> {
    if !is_many(step) {
        return Vec::new();
    }
    let mut requests: Vec<&RequestView> = step.requests.iter().collect();
    let rank = |request: &&RequestView| match request.status {
        StepStatus::Failed => 0,
        StepStatus::Running => 1,
        _ => 2,
    };
    requests.sort_by_key(rank);
    requests.truncate(requests_max);
    requests.sort_by_key(|request| request.item);
    requests
}

fn part(request: &RequestView) -> String {
    match &request.branch {
        Some(branch) => brief::text(branch, VALUE_BYTES_MAX),
        None => format!("#{}", request.item),
    }
}

fn what(run: &RunId, step: &StepView) -> String {
    let mut parts = Vec::new();
    match (&step.waits_for, &step.items, step.requests.first()) {
        (Some(waits), _, _) => parts.push(waits_for(waits)),
        (None, Some(items), first) => {
            parts.extend(first.map(target));
            parts.push(counts(*items));
        }
        (None, None, Some(first)) if !is_many(step) => parts.push(asked(run, first)),
        (None, None, Some(first)) => parts.push(target(first)),
        (None, None, None) => parts.push(step.kind.to_owned()),
    }
    parts.extend(step.stood_in_by.as_ref().map(|by| format!("{by} stands in for it")));
    if is_many(step) || step.requests.is_empty() {
        parts.extend(step.failure.as_ref().map(failure));
    }
    parts.join("; ")
}

fn waits_for(waits: &WaitsFor) -> String {
    match waits {
        WaitsFor::Steps(steps) if steps.is_empty() => "waits".to_owned(),
        WaitsFor::Steps(steps) => {
            format!("waits for {}", steps.iter().map(StepName::as_str).collect::<Vec<_>>().join(", "))
        }
        WaitsFor::Resume => "waits until the run is resumed".to_owned(),
        WaitsFor::Moment(moment) => format!("waits until {}", time::format(*moment)),
        WaitsFor::Signal { name, until } => {
            let until = until.map(|until| format!(", until {}", time::format(until))).unwrap_or_default();
            format!("waits for signal {name}{until}")
        }
    }
}

fn counts(items: ItemCounts) -> String {
    let others = [
        (items.running, "running"),
        (items.failed, "failed"),
        (items.cancelled, "cancelled"),
        (items.waiting, "waiting"),
    ];
    let others = others.iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!(", {count} {word}"));
    format!("{} of {} done{}", items.completed, items.total, others.collect::<String>())
}

/// Who was asked, which attempt ended it, and who did it.
fn asked(run: &RunId, request: &RequestView) -> String {
    let mut parts = match sub_run(run, request) {
        Some(sub_run) if !request.is_copied => vec![format!("{}, {sub_run}", target(request))],
        _ => vec![target(request)],
    };
    if request.attempt > 1 {
        parts.push(format!("attempt {}", request.attempt));
    }
    parts.extend(request.agent.as_ref().map(|agent| format!("by {agent}")));
    if request.is_copied {
        parts.push("taken over".to_owned());
    }
    if request.is_withdrawn {
        parts.push("taken back".to_owned());
    }
    parts.extend(request.failure.as_ref().map(failure));
    parts.join("; ")
}

fn target(request: &RequestView) -> String {
    match (&request.capability, &request.workflow) {
        (Some(capability), _) => capability.to_string(),
        (None, Some(workflow)) => format!("run of {workflow}"),
        (None, None) => String::new(),
    }
}

fn failure(failure: &Failure) -> String {
    brief::text(&failure.to_string(), FAILURE_BYTES_MAX)
}

/// What was given and what came of it.
fn values(view: &View, requests_max: usize, output: Output) -> String {
    let mut rows = Vec::new();
    let row = |name: String, input: String, given: String| {
        (!input.is_empty() || !given.is_empty()).then_some([name, input, given])
    };
    for step in &view.steps {
        let given = brief::value(&step.output, VALUE_BYTES_MAX);
        if !is_many(step) {
            let input = step.requests.first().map(|request| brief::value(&request.input, VALUE_BYTES_MAX));
            rows.extend(row(step.name.to_string(), input.unwrap_or_default(), given));
            continue;
        }
        rows.push([step.name.to_string(), String::new(), given]);
        rows.extend(shown(step, requests_max).into_iter().filter_map(|request| {
            let input = brief::value(&request.input, VALUE_BYTES_MAX);
            row(format!("  {}", part(request)), input, brief::value(&request.output, VALUE_BYTES_MAX))
        }));
    }
    if rows.iter().all(|row| row[1].is_empty() && row[2].is_empty()) {
        String::new()
    } else {
        output.table(&["STEP", "INPUT", "OUTPUT"], rows)
    }
}

/// What each attempt of a request failed with, where there was more than one.
fn attempts(view: &View, requests_max: usize) -> String {
    let requests = view.steps.iter().flat_map(|step| &step.requests).chain(&view.undo);
    let told = requests.filter_map(|request| {
        let failure = request.failure.as_ref().filter(|failure| failure.attempts.len() > 1)?;
        let lines = failure.attempts.iter().map(|attempt| {
            let text = format!("{}: {}", attempt.code, attempt.message);
            format!("  attempt {}  {}", attempt.attempt, brief::text(&text, FAILURE_BYTES_MAX))
        });
        Some(format!("{} {}\n{}", request.step, part(request), lines.collect::<Vec<_>>().join("\n")))
    });
    told.take(requests_max).collect::<Vec<_>>().join("\n")
}

/// The run that a step's request is, where it asks for one.
pub(in crate::commands) fn sub_run(run: &RunId, request: &RequestView) -> Option<RunId> {
    request.workflow.as_ref().map(|_| sub_run_of(&RequestId::of_step(run, &request.step, request.item)))
}

/// From when to when something went.
pub(super) fn span(from: Timestamp, to: Timestamp) -> TimeDelta {
    (to - from).max(TimeDelta::zero())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_lies_where_its_time_lies() {
        let at = |seconds| time::parse("2027-01-15T08:00:00Z").unwrap() + TimeDelta::seconds(seconds);
        let line = Line { from: at(0), to: at(30) };
        let bar = |begun, ended: Option<i64>| line.bar(Some(at(begun)), ended.map(at), '#');
        assert_eq!(bar(0, Some(3)), "###");
        assert_eq!(bar(10, Some(10)), format!("{}#", "·".repeat(10)), "whatever began is seen");
        assert_eq!(bar(28, None), format!("{}##", "·".repeat(28)), "what goes on reaches to now");
        assert_eq!(bar(30, Some(30)), format!("{}#", "·".repeat(29)));
        assert_eq!(line.bar(None, None, '#'), "");
        assert_eq!(line.head().chars().count(), BAR_CELLS);
        let moment = Line { from: at(0), to: at(0) };
        assert_eq!(moment.bar(Some(at(0)), Some(at(0)), '#'), "#", "a run of no time at all");
    }
}
