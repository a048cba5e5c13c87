//! `sortie queues`: what waits and runs, per capability and lane; and steering it.

use clap::{Subcommand, ValueEnum};
use process::{ExitCode, Problem};
use protocol::{Lane, topology::Source};

use crate::session::Session;

mod list;
mod peek;
mod steer;

pub(super) use list::{age, rate, state};

const EXAMPLES: &str = "\
Examples:
  sortie queues                                  what waits, runs, comes and goes; who is free
  sortie queues --capability resize --all        every lane of one
  sortie queues peek resize --lane urgent        what lies there, without taking it
  sortie queues pause resize --reason 'disk full' --for 10m
  sortie queues resume resize
  sortie queues limit resize 5 --lane bulk       at most five of it at once, in the whole fleet
  sortie queues limit resize none

Steering is a wish that the coordinator fulfils within a second or two, and keeps true. What is in hand goes on.";

/// See what waits and runs in each queue; pause, resume and limit queues
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub(crate) struct QueuesArgs {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    list: list::ListArgs,
}

#[derive(Debug, Subcommand)]
enum Verb {
    List(list::ListArgs),
    Peek(peek::PeekArgs),
    Pause(steer::PauseArgs),
    Resume(steer::ResumeArgs),
    Limit(steer::LimitArgs),
}

/// Which lanes of a capability are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum LaneArg {
    Urgent,
    Normal,
    Bulk,
    Unique,
    All,
}

impl LaneArg {
    fn sources(self) -> Vec<Source> {
        match self {
            Self::Urgent => vec![Source::Lane(Lane::Urgent)],
            Self::Normal => vec![Source::Lane(Lane::Normal)],
            Self::Bulk => vec![Source::Lane(Lane::Bulk)],
            Self::Unique => vec![Source::Unique],
            Self::All => Source::ALL.to_vec(),
        }
    }
}

pub(crate) async fn run(args: QueuesArgs, session: &Session) -> Result<ExitCode, Problem> {
    match args.verb.unwrap_or(Verb::List(args.list)) {
        Verb::List(args) => list::run(args, session).await,
        Verb::Peek(args) => peek::run(args, session).await,
        Verb::Pause(args) => steer::pause(args, session).await,
        Verb::Resume(args) => steer::resume(args, session).await,
        Verb::Limit(args) => steer::limit(args, session).await,
    }
}
