//! `sortie cancel`: gives a request up, or all that a filter means.

mod many;

use clap::ArgGroup;
use client::{Cancellation, ErrorKind};
use process::{ExitCode, Problem};
use protocol::RequestId;
use serde_json::{Value, json};

use self::many::ManyArgs;
use crate::{refusal, session::Session};

const EXAMPLES: &str = "\
Examples:
  sortie cancel req_0198…                                what waits never starts, what runs is told to stop
  sortie cancel --capability resize --dry-run            how many that would be, and which
  sortie cancel --capability resize --lane bulk --older-than 1h
  sortie cancel --filter capability=resize --filter lane=unique
  sortie cancel --all                                    everything that is queued, waiting or running
  sortie later list                                      ids of what waits for its time

An id of your own that was never submitted cannot be told from one that is queued: it is cancelled in advance.
Exit codes: 0 cancelled, 1 it was done before, or was never issued; of many, 1 if one was refused.";

/// Cancel a request, queued, waiting or running; or all that match
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
#[command(group = ArgGroup::new("what").required(true).multiple(true)
    .args(["id", "all", "capability", "lane", "older_than", "pairs"]))]
pub(crate) struct CancelArgs {
    /// The request
    #[arg(conflicts_with_all = ["all", "capability", "lane", "older_than", "pairs", "dry_run"])]
    id: Option<RequestId>,
    #[command(flatten)]
    many: ManyArgs,
}

pub(crate) async fn run(args: CancelArgs, session: &Session) -> Result<ExitCode, Problem> {
    let Some(id) = args.id else { return many::run(args.many, session).await };
    record(session, id.as_str(), Value::Null).await?;
    match session.client().await?.cancel(&id).await.map_err(refusal::problem)? {
        Cancellation::Cancelled => {
            let document = json!({ "id": id, "cancelled": true });
            session.output().show(&document, || format!("request {id} is cancelled"))?;
            Ok(ExitCode::Done)
        }
        Cancellation::RunTold => {
            let document = json!({ "id": id, "cancelled": true, "run": true });
            let human = || format!("run {id} is told to end; `sortie outcome {id} --wait` waits until it has");
            session.output().show(&document, human)?;
            Ok(ExitCode::Done)
        }
        Cancellation::AlreadyDone(outcome) => {
            let document = json!({ "id": id, "cancelled": false, "outcome": outcome.document() });
            let human = || format!("request {id} was done before it could be cancelled: it is {}", outcome.status);
            session.output().show(&document, human)?;
            Ok(ExitCode::WorkFailed)
        }
    }
}

/// Records a cancel. A store that has no room for the record has none for the cancel either.
async fn record(session: &Session, target: &str, detail: Value) -> Result<(), Problem> {
    session.record("request-cancel", target, detail).await?.map_err(|error| {
        let is_full = *error.kind() == ErrorKind::StoreFull;
        let problem = refusal::problem(error);
        let why = "a cancel is stored, as the request's outcome, and a full store takes none";
        if is_full { Problem { message: format!("{why}: {}", problem.message), ..problem } } else { problem }
    })
}
