//! `sortie dead`: what was given up, why, and once more.

mod show;

use clap::Subcommand;
use process::{ExitCode, Problem};
use protocol::{Capability, DeadLetter, RequestId, limits, time};
use serde::Serialize;
use serde_json::Value;

use crate::{output::Output, refusal, session::Session};

const EXAMPLES: &str = "\
Examples:
  sortie dead list                             what was given up, the latest last
  sortie dead list --capability resize
  sortie dead show req_0198…                   the whole story of one, with its body
  sortie dead replay req_0198… req_0199…       send them again, as new requests
  sortie dead list --json | jq -r '.[].id' | xargs sortie dead replay";

/// See what was given up and why, and send it again
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct DeadArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List dead letters, the latest last
    List {
        /// Only those of this capability
        #[arg(long, value_name = "NAME")]
        capability: Option<Capability>,
        /// The latest so many
        #[arg(long, value_name = "N", default_value_t = 100)]
        limit: usize,
    },
    /// Show one: its failure, its attempts, its headers and its body
    Show {
        /// The request that was given up
        #[arg(value_name = "ID")]
        id: RequestId,
    },
    /// Send again, each as a new request with a new id; the dead letter stays
    Replay {
        /// The requests that were given up
        #[arg(value_name = "ID", required = true)]
        ids: Vec<RequestId>,
    },
}

pub(crate) async fn run(args: DeadArgs, session: &Session) -> Result<ExitCode, Problem> {
    match args.verb {
        Verb::List { capability, limit } => list(capability.as_ref(), limit, session).await,
        Verb::Show { id } => show::run(&id, session).await,
        Verb::Replay { ids } => replay(&ids, session).await,
    }
}

async fn list(capability: Option<&Capability>, limit: usize, session: &Session) -> Result<ExitCode, Problem> {
    let client = session.client().await?;
    let letters = client.dead_letters(capability, limit).await.map_err(refusal::problem)?;
    session.output().show(&letters, || match letters.len() {
        0 => "nothing was given up".to_owned(),
        count if count == limit => {
            format!("{}\nand maybe earlier ones: see --limit", table(session.output(), &letters))
        }
        _ => table(session.output(), &letters),
    })?;
    Ok(ExitCode::Done)
}

fn table(output: Output, letters: &[DeadLetter]) -> String {
    let rows = letters.iter().map(|letter| {
        [
            time::format(letter.dead_at),
            letter.id.to_string(),
            letter.capability.to_string(),
            letter.attempt.to_string(),
            letter.failure.code.clone(),
            limits::truncate(&letter.failure.message, 120),
        ]
    });
    output.table(&["GIVEN UP", "REQUEST", "CAPABILITY", "ATTEMPT", "CODE", "WHY"], rows)
}

/// What became of one dead letter that was to be sent again.
#[derive(Serialize)]
struct Replayed<'a> {
    id: &'a RequestId,
    #[serde(skip_serializing_if = "Option::is_none")]
    request: Option<RequestId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refusal: Option<String>,
}

/// Every one is tried: one that is gone keeps none of the others from being sent.
async fn replay(ids: &[RequestId], session: &Session) -> Result<ExitCode, Problem> {
    let client = session.client().await?;
    let mut all = Vec::new();
    let mut worst = ExitCode::Done;
    for id in ids {
        session.audit("dead-replay", id.as_str(), Value::Null).await?;
        let replayed = match client.replay(id).await {
            Ok(receipt) => Replayed { id, request: Some(receipt.id().clone()), refusal: None },
            Err(error) => {
                let problem = refusal::problem(error);
                worst = problem.code;
                Replayed { id, request: None, refusal: Some(problem.to_string()) }
            }
        };
        all.push(replayed);
    }
    session.output().show(&all, || {
        let lines = all.iter().map(|replayed| match (&replayed.request, &replayed.refusal) {
            (Some(request), _) => format!("{} is sent again as {request}\n", replayed.id),
            (None, refusal) => {
                format!("{} is not sent again: {}\n", replayed.id, refusal.as_deref().unwrap_or_default())
            }
        });
        lines.collect()
    })?;
    Ok(worst)
}
