//! `sortie run`: runs of workflows, started, steered and looked at.

mod brief;
pub(super) mod fold;
mod list;
mod show;
mod start;
mod tell;
mod timeline;

use clap::Subcommand;
use process::{ExitCode, Problem};
use protocol::RunId;

use crate::session::Session;

const EXAMPLES: &str = "\
Examples:
  sortie run start repo-audit '{\"path\":\".\"}'        its id; the same id again is the same run
  sortie run start order @order.json --id order-17 --wait
                                                   print the result
  sortie run list                                  what is alive, and what ended last
  sortie run list --workflow order --status failed
  sortie run show order-17                         its steps on a line of time, what they took and gave
  sortie run show order-17 --json | jq '.steps[] | select(.status == \"failed\")'
  sortie run signal order-17 approve '{\"by\":\"ann\"}'
  sortie run pause order-17                        nothing new begins
  sortie run resume order-17
  sortie run cancel order-17 --reason 'out of stock'
                                                   what runs is cancelled, what was done is undone

By hand: nats pub fleet.start.order '{}'; the run is seq-<its sequence>.";

/// Start runs of workflows, steer them, and look at them
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct RunArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Start a run; whatever is started under one id is one run
    Start(start::StartArgs),
    /// List runs: those that are alive, the oldest first, and those that ended last
    List(list::ListArgs),
    /// Show one, alive or over: its steps on a line of time, what they took and what they gave
    Show(show::ShowArgs),
    /// Tell it something that a step of it waits for, or will wait for
    Signal(tell::SignalArgs),
    /// Let it begin nothing new; what runs of it goes on
    Pause {
        /// The run
        #[arg(value_name = "ID")]
        run: RunId,
    },
    /// Let it go on
    Resume {
        /// The run
        #[arg(value_name = "ID")]
        run: RunId,
    },
    /// Have it end: what runs is cancelled, what is to be undone is undone
    Cancel(tell::CancelArgs),
}

pub(crate) async fn run(args: RunArgs, session: &Session) -> Result<ExitCode, Problem> {
    match args.verb {
        Verb::Start(args) => start::start(args, session).await,
        Verb::List(args) => list::list(args, session).await,
        Verb::Show(args) => show::show(args, session).await,
        Verb::Signal(args) => tell::signal(args, session).await,
        Verb::Pause { run } => tell::pause(&run, session).await,
        Verb::Resume { run } => tell::resume(&run, session).await,
        Verb::Cancel(args) => tell::cancel(args, session).await,
    }
}
