//! `sortie top`: queues, agents, rates, dead letters and last failures, live.

mod frame;
mod screen;
mod snapshot;

use std::io::{IsTerminal, stdin, stdout};

use process::{ExitCode, Problem};

use self::snapshot::Looker;
use crate::session::Session;

const EXAMPLES: &str = "\
Examples:
  sortie top                     live, every second; q ends it, s sorts agents by load or by name
  sortie top --once              one frame as plain text; so does a pipe
  sortie top --once --json       the same as one document";

/// Watch queues, agents, rates and failures on a live screen
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct TopArgs {
    /// Print one frame as plain text and end, as where output is no terminal
    #[arg(long)]
    once: bool,
}

pub(crate) async fn run(args: TopArgs, session: &Session) -> Result<ExitCode, Problem> {
    let client = session.client().await?;
    let mut looker = Looker::new(client.clone());
    let is_live = stdin().is_terminal() && stdout().is_terminal() && !args.once && !session.output().is_json();
    if is_live {
        screen::run(&mut looker, session).await?;
        return Ok(ExitCode::Done);
    }
    let snapshot = looker.look().await.map_err(crate::refusal::problem)?;
    session.output().show(&snapshot, || frame::text(&snapshot))?;
    Ok(ExitCode::Done)
}
