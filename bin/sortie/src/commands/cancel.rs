//! `sortie cancel`: gives a request up.

use client::Cancellation;
use process::{ExitCode, Problem};
use protocol::RequestId;
use serde_json::{Value, json};

use crate::{refusal, session::Session};

const EXAMPLES: &str = "\
Examples:
  sortie cancel req_0198…      what waits never starts, what runs is told to stop
  sortie later list            ids of what waits for its time

An id of your own that was never submitted cannot be told from one that is queued: it is cancelled in advance.
Exit codes: 0 cancelled, 1 it was done before, or was never issued.";

/// Cancel a request, queued, waiting or running
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CancelArgs {
    /// The request
    id: RequestId,
}

pub(crate) async fn run(args: CancelArgs, session: &Session) -> Result<ExitCode, Problem> {
    let CancelArgs { id } = args;
    session.audit("request-cancel", id.as_str(), Value::Null).await?;
    match session.client().await?.cancel(&id).await.map_err(refusal::problem)? {
        Cancellation::Cancelled => {
            let document = json!({ "id": id, "cancelled": true });
            session.output().show(&document, || format!("request {id} is cancelled"))?;
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
