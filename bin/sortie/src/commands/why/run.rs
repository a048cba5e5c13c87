//! What a run waits for, and what became of a step of one.

use client::{Client, ErrorKind};
use process::{ExitCode, Problem};
use protocol::{Capability, Origin, RequestId, RunId, StepName, WorkflowName, time, time::Timestamp};
use serde::Serialize;
use serde_json::json;
use workflow::{
    StepStatus, View,
    state::view::{RequestView, RunStatus, StepView, WaitsFor},
};

use crate::{
    commands::{
        outcome::printable,
        run::{fold, timeline::sub_run},
    },
    refusal,
    session::Session,
};

/// What a run waits for that is named in one answer.
const NAMED_MAX: usize = 20;

/// Something that a run waits for.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "for", rename_all = "snake_case")]
pub(in crate::commands) enum Wait {
    /// A moment.
    Timer {
        step: StepName,
        due: Timestamp,
    },
    Signal {
        step: StepName,
        signal: StepName,
        until: Option<Timestamp>,
    },
    /// The outcome of a request.
    Request {
        request: RequestId,
        capability: Capability,
    },
    /// The end of another run.
    Run {
        step: StepName,
        run: RunId,
        workflow: WorkflowName,
    },
}

/// What there is to say of an id that is a run's or a step's.
pub(super) enum Told {
    /// It is said.
    Answer(ExitCode),
    /// It is a request of a step that agents know more of.
    Ask(Option<Capability>),
}

/// Says what is known of a run or a step; otherwise how to go on.
pub(super) async fn tell(id: &RequestId, session: &Session) -> Result<Told, Problem> {
    let client = session.client().await?;
    match id.origin() {
        Origin::Step { run, step, item } => {
            let Some(view) = known(client, &run).await? else { return Ok(Told::Ask(None)) };
            of_step(id, &view, &step, item, session).await
        }
        Origin::Client | Origin::Sequence(_) => {
            let Ok(run) = RunId::parse(id.as_str()) else { return Ok(Told::Ask(None)) };
            match known(client, &run).await? {
                Some(view) => of_run(id, &view, session),
                None => Ok(Told::Ask(None)),
            }
        }
        Origin::UniqueSequence(_) => Ok(Told::Ask(None)),
    }
}

/// What is said of an id that was not found in any queue, if it is a start that waits.
pub(super) async fn start_waits(id: &RequestId, session: &Session) -> Result<Option<Problem>, Problem> {
    let (Origin::Client | Origin::Sequence(_), Ok(run)) = (id.origin(), RunId::parse(id.as_str())) else {
        return Ok(None);
    };
    let problem = fold::missing(session.client().await?, &run).await?;
    Ok(Some(problem).filter(|problem| problem.code == ExitCode::Again))
}

/// A run whose log is there, alive or over. Who may not read runs asks for requests all the same.
async fn known(client: &Client, run: &RunId) -> Result<Option<View>, Problem> {
    match client.is_run_alive(run).await {
        Ok(true) => {}
        Ok(false) => match client.run_summary(run).await {
            Ok(Some(_)) => {}
            Ok(None) => return Ok(None),
            Err(error) if is_no_matter(error.kind()) => return Ok(None),
            Err(error) => return Err(refusal::problem(error)),
        },
        Err(error) if is_no_matter(error.kind()) => return Ok(None),
        Err(error) => return Err(refusal::problem(error)),
    }
    Ok(fold::course(client, run).await?.map(|course| course.view()))
}

fn is_no_matter(kind: &ErrorKind) -> bool {
    matches!(kind, ErrorKind::Forbidden | ErrorKind::StreamsMissing | ErrorKind::Unreadable)
}

fn of_run(id: &RequestId, view: &View, session: &Session) -> Result<Told, Problem> {
    let waits = waits(view);
    let why = match view.status {
        RunStatus::Ended(status) => status.as_str().to_owned(),
        status => format!("run_{}", word(status)),
    };
    let document = json!({
        "id": id,
        "workflow": view.workflow,
        "percent": view.percent,
        "answer": { "why": why, "waits": waits, "due": view.due, "failure": view.failure },
    });
    session.output().show(&document, || run_lines(view, &waits).join("\n"))?;
    Ok(Told::Answer(ExitCode::Done))
}

fn run_lines(view: &View, waits: &[Wait]) -> Vec<String> {
    let run = &view.run;
    let workflow = view.workflow.as_ref().map(|workflow| format!(" ({workflow})")).unwrap_or_default();
    let failure = view.failure.as_ref().map(|failure| printable(&failure.to_string()));
    let because = failure.map(|failure| format!(": {failure}")).unwrap_or_default();
    let says = match view.status {
        RunStatus::Waiting => "has not started".to_owned(),
        RunStatus::Running => format!("is running, {} %", view.percent),
        RunStatus::Paused => "is paused: no step begins".to_owned(),
        RunStatus::Stopping => format!("is about to end, and what runs of it is waited for{because}"),
        RunStatus::Undoing => format!("is being undone{because}"),
        RunStatus::Ended(status) => format!("is over: {status}{because}"),
    };
    let mut lines = vec![format!("run {run}{workflow} {says}")];
    lines.extend(waits.iter().take(NAMED_MAX).map(|wait| format!("  {}", wait_line(run, wait))));
    if waits.len() > NAMED_MAX {
        lines.push(format!("  and for {} more", waits.len() - NAMED_MAX));
    }
    if !matches!(view.status, RunStatus::Ended(_)) {
        lines.extend(view.due.map(|due| format!("  it has to be over by {}", time::format(due))));
    }
    lines.push(match view.status {
        RunStatus::Paused => format!("  `sortie run resume {run}` lets it go on"),
        _ => format!("  `sortie run show {run}` shows all of its steps"),
    });
    lines
}

fn wait_line(run: &RunId, wait: &Wait) -> String {
    match wait {
        Wait::Timer { step, due } => format!("{step} waits until {}", time::format(*due)),
        Wait::Signal { step, signal, until } => {
            let until = until.map(|until| format!(" until {}", time::format(until))).unwrap_or_default();
            format!("{step} waits{until} for signal {signal}: `sortie run signal {run} {signal} [JSON]`")
        }
        Wait::Request { request, capability } => {
            format!("{request} is asked of {capability}: `sortie why {request}` says where it is")
        }
        Wait::Run { step, run, workflow } => format!("{step} waits for run {run} of {workflow}: `sortie why {run}`"),
    }
}

/// Everything that a run waits for.
pub(in crate::commands) fn waits(view: &View) -> Vec<Wait> {
    if matches!(view.status, RunStatus::Ended(_)) {
        return Vec::new();
    }
    let mut waits = Vec::new();
    for step in view.steps.iter().filter(|step| step.status == StepStatus::Running) {
        match &step.waits_for {
            Some(WaitsFor::Moment(due)) => waits.push(Wait::Timer { step: step.name.clone(), due: *due }),
            Some(WaitsFor::Signal { name, until }) => {
                waits.push(Wait::Signal { step: step.name.clone(), signal: name.clone(), until: *until });
            }
            Some(WaitsFor::Steps(_) | WaitsFor::Resume) | None => {}
        }
        waits.extend(step.requests.iter().filter_map(|request| wait_of(view, request)));
    }
    waits.extend(view.undo.iter().filter_map(|request| wait_of(view, request)));
    waits
}

fn wait_of(view: &View, request: &RequestView) -> Option<Wait> {
    if request.status != StepStatus::Running {
        return None;
    }
    match (&request.capability, &request.workflow) {
        (Some(capability), _) => {
            let id = RequestId::of_step(&view.run, &request.step, request.item);
            Some(Wait::Request { request: id, capability: capability.clone() })
        }
        (None, Some(workflow)) => Some(Wait::Run {
            step: request.step.clone(),
            run: sub_run(&view.run, request)?,
            workflow: workflow.clone(),
        }),
        (None, None) => None,
    }
}

async fn of_step(id: &RequestId, view: &View, name: &StepName, item: u64, session: &Session) -> Result<Told, Problem> {
    let requests = view.steps.iter().flat_map(|step| &step.requests).chain(&view.undo);
    let request = requests.into_iter().find(|request| request.step == *name && request.item == item);
    let is_over = matches!(view.status, RunStatus::Ended(_));
    if let Some(request) = request {
        if request.status == StepStatus::Running && !is_over {
            if let Some(sub_run) = sub_run(&view.run, request) {
                return match known(session.client().await?, &sub_run).await? {
                    Some(view) => of_run(id, &view, session),
                    None => Err(fold::missing(session.client().await?, &sub_run).await?),
                };
            }
            return Ok(Told::Ask(request.capability.clone()));
        }
        let because = request.failure.as_ref().map(|failure| format!(": {}", printable(&failure.to_string())));
        let by = request.agent.as_ref().map(|agent| format!(" by {agent}")).unwrap_or_default();
        let sentence = format!("is {}{by}{}", request.status.as_str(), because.unwrap_or_default());
        return said(id, view, request.status, &sentence, session);
    }
    let Some(step) = view.steps.iter().find(|step| step.name == *name) else {
        let problem = Problem::new(ExitCode::WorkFailed, format!("run {} has no step {name}", view.run));
        return Err(problem.advise(format!("`sortie run show {}` shows its steps", view.run)));
    };
    said(id, view, step.status, &not_asked(step, is_over), session)
}

/// Why nobody was asked.
fn not_asked(step: &StepView, is_over: bool) -> String {
    match (&step.waits_for, step.status) {
        _ if is_over && matches!(step.status, StepStatus::Waiting | StepStatus::Running) => {
            "was not asked before the run was over".to_owned()
        }
        (Some(WaitsFor::Steps(steps)), _) => {
            let names: Vec<&str> = steps.iter().map(StepName::as_str).collect();
            format!("waits for the end of {}", names.join(", "))
        }
        (Some(WaitsFor::Resume), _) => "waits until the run is resumed".to_owned(),
        (Some(WaitsFor::Moment(due)), _) => format!("waits until {}", time::format(*due)),
        (Some(WaitsFor::Signal { name, .. }), _) => format!("waits for signal {name}"),
        (None, StepStatus::Running) => "was not asked yet: its step has others to ask first".to_owned(),
        (None, status) => format!("was not asked: its step is {}", status.as_str()),
    }
}

fn said(id: &RequestId, view: &View, status: StepStatus, says: &str, session: &Session) -> Result<Told, Problem> {
    let document = json!({
        "id": id,
        "run": view.run,
        "workflow": view.workflow,
        "answer": { "why": format!("step_{}", status.as_str()), "says": says },
    });
    session.output().show(&document, || {
        let run = &view.run;
        format!(
            "step request {id} {says}\n  `sortie run show {run}` shows the run, `sortie why {run}` what it waits for"
        )
    })?;
    Ok(Told::Answer(ExitCode::Done))
}

fn word(status: RunStatus) -> &'static str {
    match status {
        RunStatus::Waiting => "waiting",
        RunStatus::Running => "running",
        RunStatus::Paused => "paused",
        RunStatus::Stopping => "stopping",
        RunStatus::Undoing => "undoing",
        RunStatus::Ended(status) => status.as_str(),
    }
}
