//! `sortie audit`: the proof that nothing is lost, or where it is not.

mod accepted;
mod runs;
mod structure;

use std::path::PathBuf;

use process::{ExitCode, Problem};

use crate::session::Session;

const EXAMPLES: &str = "\
Examples:
  sortie map resize --accepted jobs.accepted < jobs.jsonl     a line for each acknowledgement of the broker
  sortie audit --accepted jobs.accepted                       each has one outcome, or waits, runs, is scheduled or dead
  sortie audit --accepted jobs.accepted --json | jq -r '.faults[].id'
  sortie audit                                                nothing stuck, overdue, unmarked, or without an owner

It may be run at any time, under load and while processes die: what moves while it is looked at is not called lost. What was
accepted longer ago than outcomes are kept is told as too old. Memory does not grow with the file.

The file has a line of JSON for each acknowledged request or start of a run; `seq` is missing where the broker said that it
was there already, and a line that ends too early is passed over, as a client was killed in it:
  {\"id\":\"order-17\",\"request\":\"resize\",\"stream\":\"FLEET_REQUESTS\",\"seq\":4,\"at\":\"2026-11-20T07:17:00.123Z\"}
  {\"id\":\"run-3\",\"start\":\"nightly\",\"stream\":\"FLEET_REQUESTS\",\"seq\":5,\"at\":\"2026-11-20T07:17:00.456Z\"}

Exit codes: 0 proved, 1 not, with the list; 75 more came than could be read: look again.";

/// Prove that nothing is lost, of all that was accepted or of what is there now; or tell what is
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct AuditArgs {
    /// What was accepted, as `submit`, `map` and `run start` note it with --accepted
    #[arg(long, value_name = "FILE")]
    accepted: Option<PathBuf>,
}

pub(crate) async fn run(args: AuditArgs, session: &Session) -> Result<ExitCode, Problem> {
    match args.accepted {
        Some(file) => accepted::prove(&file, session).await,
        None => structure::prove(session).await,
    }
}
