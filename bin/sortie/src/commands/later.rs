//! `sortie later`: what waits for its time.

use clap::Subcommand;
use client::Scheduled;
use process::{ExitCode, Problem};
use protocol::{Capability, time, topology::Source};

use crate::{output::Output, refusal, session::Session};

const EXAMPLES: &str = "\
Examples:
  sortie later list                      what is retried or delayed, the first due first
  sortie cancel req_0198…                give one of them up";

/// See the requests that wait for their time: retries and delays
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct LaterArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List what waits, the first due first
    #[command(after_help = EXAMPLES)]
    List {
        /// Requests to read at most
        #[arg(long, value_name = "N", default_value_t = 1_000)]
        limit: usize,
    },
}

pub(crate) async fn run(args: LaterArgs, session: &Session) -> Result<ExitCode, Problem> {
    let Verb::List { limit } = args.verb;
    let waiting = session.client().await?.later(limit).await.map_err(refusal::problem)?;
    session.output().show(&waiting, || match waiting.len() {
        0 => "nothing waits for its time".to_owned(),
        count if count == limit => format!("{}\nand maybe more: see --limit", table(session.output(), &waiting)),
        _ => table(session.output(), &waiting),
    })?;
    Ok(ExitCode::Done)
}

fn table(output: Output, waiting: &[Scheduled]) -> String {
    let head = ["DUE", "REQUEST", "CAPABILITY", "LANE", "ATTEMPT", "AFTER"];
    let rows = waiting.iter().map(|request| {
        [
            request.due.map_or_else(|| "unknown".to_owned(), time::format),
            request.id.to_string(),
            request.capability.as_ref().map(Capability::to_string).unwrap_or_default(),
            Source::Lane(request.lane).to_string(),
            request.attempt.to_string(),
            request.snoozed_for.clone().or_else(|| request.last_failure.clone()).unwrap_or_default(),
        ]
    });
    output.table(&head, rows)
}
