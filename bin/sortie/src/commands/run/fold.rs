//! A run as its log tells it, wherever the log is kept.

use client::{Client, ErrorKind, RunRecord};
use process::{ExitCode, Problem};
use protocol::{ContentType, LoggedFact, Outcome, RequestId, RunFact, RunId, RunSummary, Status};
use serde_json::Value;
use workflow::{Fact, Folded, Payload, State, View, fact::Event, state::view::RunStatus};

use crate::refusal;

/// What a coordinator loads at most for an expression to look into, in bytes. What it did not see must not be seen here
/// either, or the log would be folded to something else.
const LOADED_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Starts that are looked through for one.
const STARTS_READ_MAX: usize = 10_000;

/// A run, as far as its log was folded.
pub(in crate::commands) struct Course {
    pub(in crate::commands) state: State,
    /// How it ended, once its log is put away.
    pub(in crate::commands) summary: Option<Box<RunSummary>>,
}

impl Course {
    /// What it looks like.
    pub(in crate::commands) fn view(&self) -> View {
        let mut view = self.state.view();
        if let Some(summary) = &self.summary {
            // Its outcome may have been somebody else's word.
            if view.status != RunStatus::Ended(summary.status) {
                view.status = RunStatus::Ended(summary.status);
                view.failure.clone_from(&summary.failure);
            }
            view.ended = view.ended.or(Some(summary.ended_at));
        }
        view
    }
}

/// A run as it is now, or as it ended; none where nothing is known of its log.
pub(in crate::commands) async fn course(client: &Client, run: &RunId) -> Result<Option<Course>, Problem> {
    let Some(record) = client.run_record(run).await.map_err(refusal::problem)? else { return Ok(None) };
    let state = folded(client, run, record.facts()).await?;
    let summary = match record {
        RunRecord::Live(_) => None,
        RunRecord::Ended(summary) => Some(summary),
    };
    Ok(Some(Course { state, summary }))
}

/// What a run looks like, alive or over. Of one whose log is not kept, as much as its outcome tells.
///
/// # Errors
/// That nothing is known of it.
pub(in crate::commands) async fn view(client: &Client, run: &RunId) -> Result<View, Problem> {
    match find(client, run).await? {
        Some(view) => Ok(view),
        None => Err(missing(client, run).await?),
    }
}

/// The same; none where nothing is known of it.
pub(in crate::commands) async fn find(client: &Client, run: &RunId) -> Result<Option<View>, Problem> {
    match course(client, run).await? {
        Some(course) => Ok(Some(course.view())),
        None => ended(client, run).await,
    }
}

/// A run of which only the outcome tells: its start was refused, or its log is no longer kept.
pub(in crate::commands) async fn ended(client: &Client, run: &RunId) -> Result<Option<View>, Problem> {
    Ok(outcome(client, run).await?.map(|outcome| of_outcome(run, &outcome)))
}

/// The facts, folded in order.
pub(in crate::commands) async fn folded(client: &Client, run: &RunId, facts: &[LoggedFact]) -> Result<State, Problem> {
    let mut state = State::new(run.clone());
    for fact in facts {
        fold(client, &mut state, fact).await?;
    }
    Ok(state)
}

/// Whether it is the setting of a timer: it tells nothing that its cause does not tell, and is gone when the timer fires.
pub(in crate::commands) fn is_timer(fact: &LoggedFact) -> bool {
    matches!(RunFact::parse(&fact.name), Some(RunFact::Timer(_)))
}

/// Folds the next fact, and gives it as it was read.
pub(in crate::commands) async fn fold(
    client: &Client,
    state: &mut State,
    logged: &LoggedFact,
) -> Result<(Fact, Folded), Problem> {
    let body = match RunFact::parse(&logged.name) {
        // It holds the definition, without which nothing can be folded.
        Some(RunFact::Started) => client.whole_body(logged).await.map_err(refusal::problem)?,
        _ => logged.bytes(),
    };
    let mut fact = Fact::read(&logged.name, logged.sequence, logged.at, &logged.headers(), &body);
    bring(client, state, &mut fact.event).await?;
    let folded = state.fold(&fact);
    Ok((fact, folded))
}

/// Loads what an expression looks into.
async fn bring(client: &Client, state: &mut State, event: &mut Event) -> Result<(), Problem> {
    let payload = match event {
        Event::Started(started) if state.is_input_read(started) => &mut started.input,
        Event::StepEnded { step, outcome, .. } if state.is_output_read(step) => &mut outcome.output,
        Event::Signalled { name, value } if state.is_signal_read(name) => value,
        _ => return Ok(()),
    };
    if let Payload::Held { reference, content_type } = &*payload
        && let Some(body) = client.held_value(reference, LOADED_BYTES_MAX).await.map_err(refusal::problem)?
        && let Ok(value) = ContentType::read(Some(content_type)).decode::<Value>(&body)
    {
        *payload = Payload::from(value);
    }
    Ok(())
}

/// The outcome of a run, without a large result.
async fn outcome(client: &Client, run: &RunId) -> Result<Option<Outcome>, Problem> {
    match client.outcome(&RequestId::from(run)).await {
        Ok(outcome) => Ok(outcome),
        Err(error) if *error.kind() == ErrorKind::Unreadable => Ok(None),
        // A number that no start has had.
        Err(error) if *error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(refusal::problem(error)),
    }
}

fn of_outcome(run: &RunId, outcome: &Outcome) -> View {
    let output = match outcome.status {
        Status::Completed => Payload::from(outcome.content_type.show(&outcome.body)),
        _ => Payload::default(),
    };
    let workflow = outcome.capability.as_ref().and_then(|name| name.as_str().parse().ok());
    let status = RunStatus::Ended(outcome.status);
    View { workflow, status, output, failure: outcome.failure(), ..State::new(run.clone()).view() }
}

/// What is said of a run of which nothing is known but, at most, its start.
pub(in crate::commands) async fn missing(client: &Client, run: &RunId) -> Result<Problem, Problem> {
    let start = client.waiting_start(run, STARTS_READ_MAX).await.map_err(refusal::problem)?;
    if let Some(workflow) = start {
        let message = format!("run {run} of {workflow} has not begun: its start waits for a coordinator");
        let advice = "one takes it at once, unless as many runs are alive as the workflow allows; `sortie doctor` says \
                      whether one is there";
        return Ok(Problem::new(ExitCode::Again, message).advise(advice));
    }
    let message = format!(
        "nothing is known of a run {run}: it was never started, or ended longer ago than events and outcomes are kept"
    );
    Ok(Problem::new(ExitCode::WorkFailed, message).advise("`sortie run list` shows what there is"))
}
