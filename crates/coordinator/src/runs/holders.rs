//! At most so many runs of a workflow at once, or of those with the same key.
//!
//! A place is taken before the run's first fact is written and given back when its outcome is stored. Whoever dies in between
//! leaves a place to a run that is over, and who finds no place looks for those first. So a limit is never broken, and a
//! place never lost for longer than anybody asks for it.
//!
//! Who finds no place stands in line, in the order in which the broker stored what begins the runs, and who gives a place back
//! has the first in line begin. If that is lost (a coordinator died), the first in line finds the place when it asks again.

use broker::{Error, Kind};
use protocol::{
    Failure, RunId, WorkflowName, codes,
    run::{RunHolders, RunWaiting, holders_key},
};
use serde_json::{Value, json};
use workflow::{
    Payload, Plan, Scope, StepInScope,
    plan::{Concurrency, Exceeding},
};

use super::{conduct::has_outcome, means::Means};

/// How often a place is tried for while others write the same key.
const TRIES: u32 = 20;

/// What became of the wish for a place.
pub(super) enum Place {
    /// It is taken; it is given back under this key.
    Taken(String),
    /// There is none, and the run waits for one.
    Waits,
}

/// What the key of a limit can see.
struct KeyScope<'a> {
    input: &'a Payload,
    run: Value,
}

impl Scope for KeyScope<'_> {
    fn input(&self) -> &Payload {
        self.input
    }

    fn run(&self) -> &Value {
        &self.run
    }

    fn step(&self, _name: &str) -> Option<StepInScope<'_>> {
        None
    }

    fn local(&self, _name: &str) -> Option<&Payload> {
        None
    }
}

/// The key of a run's limit in the state bucket.
///
/// # Errors
/// `expression_failed`.
pub(super) fn key_of(plan: &Plan, concurrency: &Concurrency, run: &RunId, input: &Payload) -> Result<String, Failure> {
    let Some(template) = &concurrency.key else { return Ok(holders_key(&plan.workflow, None)) };
    let known = json!({ "id": run, "workflow": plan.workflow, "version": plan.version });
    let key = match template.evaluate(&KeyScope { input, run: known })? {
        Payload::Value(value) => value.to_string(),
        Payload::Held { reference, .. } => reference,
    };
    Ok(holders_key(&plan.workflow, Some(&key)))
}

/// Takes a place, or says that there is none. A place is for the first in line; whoever waits joins it if he `lines_up`.
///
/// # Errors
/// `run_limit_reached` where the workflow says so.
pub(super) async fn take(
    means: &Means,
    concurrency: &Concurrency,
    key: String,
    workflow: &WorkflowName,
    asking: &RunWaiting,
    lines_up: bool,
) -> Result<Result<Place, Failure>, Error> {
    let limit = usize::try_from(concurrency.limit).unwrap_or(usize::MAX);
    for _ in 0..TRIES {
        let (revision, mut holders) = read(means, &key).await?;
        if holders.runs.contains(&asking.run) {
            return Ok(Ok(Place::Taken(key)));
        }
        if holders.runs.len() >= limit {
            holders.runs = alive(means, holders.runs).await?;
        }
        let free = limit.saturating_sub(holders.runs.len());
        if free > 0 && holders.ahead(asking) >= free {
            holders.waiting = waiting(means, holders.waiting, free).await?;
        }
        let is_first = free > holders.ahead(asking);
        if is_first {
            holders.waiting.retain(|other| other.run != asking.run);
            holders.runs.push(asking.run.clone());
        } else if concurrency.then == Exceeding::Reject {
            let message = format!("{limit} runs of {workflow} are alive, and there may be no more at once");
            let failure = Failure::new(codes::RUN_LIMIT_REACHED, message);
            return Ok(Err(failure.details(json!({ "holders": holders.runs }))));
        } else if !lines_up || !holders.line_up(asking) {
            return Ok(Ok(Place::Waits));
        }
        if write(means, &key, revision, &holders).await? {
            return Ok(Ok(if is_first { Place::Taken(key) } else { Place::Waits }));
        }
    }
    Ok(Ok(Place::Waits))
}

/// Those of these runs that are not over.
async fn alive(means: &Means, runs: Vec<RunId>) -> Result<Vec<RunId>, Error> {
    let mut alive = Vec::new();
    for run in runs {
        if !has_outcome(means, &run).await? {
            alive.push(run);
        }
    }
    Ok(alive)
}

/// A line without those of its front that wait no longer: they were cancelled, or their message is gone. The front is as many
/// as there are places for.
async fn waiting(means: &Means, line: Vec<RunWaiting>, front: usize) -> Result<Vec<RunWaiting>, Error> {
    let mut waiting = Vec::with_capacity(line.len());
    for one in line {
        if waiting.len() >= front || waits(means, &one).await? {
            waiting.push(one);
        }
    }
    Ok(waiting)
}

async fn waits(means: &Means, one: &RunWaiting) -> Result<bool, Error> {
    let is_there = means.post.reader.is_at_leader(stream(means, one), one.sequence).await?;
    Ok(is_there && !has_outcome(means, &one.run).await?)
}

/// The stream that what begins a run lies in.
pub(super) fn stream<'a>(means: &'a Means, waiting: &RunWaiting) -> &'a str {
    if waiting.is_unique { &means.post.names.unique } else { &means.post.names.requests }
}

/// The first in line at a limit, once those are gone that wait no longer.
pub(super) async fn first_in_line(means: &Means, key: &str) -> Result<Option<RunWaiting>, Error> {
    for _ in 0..TRIES {
        let (revision, mut holders) = read(means, key).await?;
        let Some(first) = holders.waiting.first().cloned() else { return Ok(None) };
        if waits(means, &first).await? {
            return Ok(Some(first));
        }
        holders.waiting.remove(0);
        store(means, key, revision, &holders).await?;
    }
    Ok(None)
}

/// Gives a place back, and says whether somebody waits for one. What is not given back is found by who needs one.
pub(super) async fn give_back(means: &Means, key: &str, run: &RunId) -> Result<bool, Error> {
    for _ in 0..TRIES {
        let (revision, mut holders) = read(means, key).await?;
        let before = holders.runs.len();
        holders.runs.retain(|holder| holder != run);
        if holders.runs.len() == before || store(means, key, revision, &holders).await? {
            return Ok(!holders.waiting.is_empty());
        }
    }
    Ok(false)
}

/// False where another was first.
async fn store(means: &Means, key: &str, revision: u64, holders: &RunHolders) -> Result<bool, Error> {
    if !holders.is_empty() {
        return write(means, key, revision, holders).await;
    }
    match means.post.state.remove_at(key, revision).await {
        Ok(()) => Ok(true),
        Err(error) if is_race(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

async fn read(means: &Means, key: &str) -> Result<(u64, RunHolders), Error> {
    let Some(entry) = means.post.state.get(key).await? else { return Ok((0, RunHolders::default())) };
    let holders = entry.value.and_then(|value| serde_json::from_slice(&value).ok()).unwrap_or_default();
    Ok((entry.revision, holders))
}

/// False where another was first.
async fn write(means: &Means, key: &str, revision: u64, holders: &RunHolders) -> Result<bool, Error> {
    let body = serde_json::to_vec(holders).unwrap_or_default();
    match means.post.state.update(key, body, revision, None).await {
        Ok(_) => Ok(true),
        Err(error) if is_race(&error) => {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

fn is_race(error: &Error) -> bool {
    matches!(error.kind(), Kind::WrongSequence | Kind::Contended)
}
