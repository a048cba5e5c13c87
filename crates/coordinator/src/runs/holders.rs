//! At most so many runs of a workflow at once, or of those with the same key.
//!
//! A place is taken before the run's first fact is written and given back when its outcome is stored. Whoever dies in between
//! leaves a place to a run that is over, and who finds no place looks for those first. So a limit is never broken, and a
//! place never lost for longer than anybody asks for it.

use broker::{Error, Kind};
use protocol::{
    Failure, RunId, WorkflowName, codes,
    run::{RunHolders, holders_key},
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

/// Takes a place, or says that there is none.
///
/// # Errors
/// `run_limit_reached` where the workflow says so.
pub(super) async fn take(
    means: &Means,
    concurrency: &Concurrency,
    key: String,
    workflow: &WorkflowName,
    run: &RunId,
) -> Result<Result<Place, Failure>, Error> {
    for _ in 0..TRIES {
        let (revision, mut holders) = read(means, &key).await?;
        if holders.runs.contains(run) {
            return Ok(Ok(Place::Taken(key)));
        }
        let limit = usize::try_from(concurrency.limit).unwrap_or(usize::MAX);
        if holders.runs.len() >= limit {
            let mut alive = Vec::new();
            for holder in holders.runs {
                if !has_outcome(means, &holder).await? {
                    alive.push(holder);
                }
            }
            holders.runs = alive;
        }
        if holders.runs.len() >= limit {
            return Ok(match concurrency.then {
                Exceeding::Queue => Ok(Place::Waits),
                Exceeding::Reject => {
                    let message = format!("{limit} runs of {workflow} are alive, and there may be no more at once");
                    Err(Failure::new(codes::RUN_LIMIT_REACHED, message).details(json!({ "holders": holders.runs })))
                }
            });
        }
        holders.runs.push(run.clone());
        if write(means, &key, revision, &holders).await? {
            return Ok(Ok(Place::Taken(key)));
        }
    }
    Ok(Ok(Place::Waits))
}

/// Gives a place back. What is not given back is found by who needs one.
pub(super) async fn give_back(means: &Means, key: &str, run: &RunId) -> Result<(), Error> {
    for _ in 0..TRIES {
        let (revision, mut holders) = read(means, key).await?;
        let before = holders.runs.len();
        holders.runs.retain(|holder| holder != run);
        if holders.runs.len() == before {
            return Ok(());
        }
        let is_written = if holders.runs.is_empty() {
            match means.post.state.remove_at(key, revision).await {
                Ok(()) => true,
                Err(error) if is_race(&error) => false,
                Err(error) => return Err(error),
            }
        } else {
            write(means, key, revision, &holders).await?
        };
        if is_written {
            return Ok(());
        }
    }
    Ok(())
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
