//! `sortie run`: runs of workflows, started, steered and looked at.

mod brief;
mod facts;
pub(super) mod fold;
mod list;
mod replay;
mod retry;
mod show;
mod start;
mod tell;
pub(super) mod timeline;
mod tree;
mod watch;

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
  sortie run tree order-17                         it and the runs that it asked for
  sortie run watch order-17                        each fact as it comes, to the end; exit code 1 unless it completes
  sortie run replay order-17                       each fact of its log with its number
  sortie run replay order-17 --to 5                the run as it was when the fifth fact had come
  sortie run signal order-17 approve '{\"by\":\"ann\"}'
  sortie run pause order-17                        nothing new begins
  sortie run resume order-17
  sortie run cancel order-17 --reason 'out of stock'
                                                   what runs is cancelled, what was done is undone
  sortie run retry order-17                        a new run that takes over what completed, and does the rest
  sortie run retry order-17 --from ship --input @mended.json

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
    /// Show a run with the runs that its steps asked for, to any depth
    Tree(tree::TreeArgs),
    /// Tell each fact of a run as it comes, and how it ends; exit code 1 unless it completes
    Watch(watch::WatchArgs),
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
    /// Do a run that is over again as a new one, which takes over what completed
    Retry(retry::RetryArgs),
    /// Look at any moment of a run: the facts of its log, or what it looked like when one had come
    Replay(replay::ReplayArgs),
}

pub(crate) async fn run(args: RunArgs, session: &Session) -> Result<ExitCode, Problem> {
    match args.verb {
        Verb::Start(args) => start::start(args, session).await,
        Verb::List(args) => list::list(args, session).await,
        Verb::Show(args) => show::show(args, session).await,
        Verb::Tree(args) => tree::tree(args, session).await,
        Verb::Watch(args) => watch::watch(args, session).await,
        Verb::Signal(args) => tell::signal(args, session).await,
        Verb::Pause { run } => tell::pause(&run, session).await,
        Verb::Resume { run } => tell::resume(&run, session).await,
        Verb::Cancel(args) => tell::cancel(args, session).await,
        Verb::Retry(args) => retry::retry(args, session).await,
        Verb::Replay(args) => replay::replay(args, session).await,
    }
}
