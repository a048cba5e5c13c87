//! `sortie agents`: who is there, and what they are told.

mod choose;
mod show;
mod steer;
mod table;

use clap::Subcommand;
use client::Steering;
use process::{ExitCode, Problem};
use protocol::limits;

use self::{
    choose::{FilterArgs, TargetArgs},
    table::table,
};
use crate::{refusal, session::Session};

const EXAMPLES: &str = "\
Examples:
  sortie agents list                                every agent that is alive, the healthy and idle first
  sortie agents list --capability resize            those that serve it
  sortie agents list --json | jq '.[].instance'
  sortie agents find --kind words --load-max 50%    the ids of those that are half idle; exit 1 if there is none
  sortie agents show 0199f3                         everything of one, with schemas and what it has in hand
  sortie agents pause 0199f3                        it ends what it has and begins nothing more
  sortie agents resume --all                        every agent pulls again
  sortie agents drain --kind words --version 1.2.0  they end what they have and exit with 0
  sortie agents restart --tag zone=blue --dry-run   who would drain and exit with 75, to be started again
  sortie agents set-slots 4 0199f3                  four attempts at once from now on
  sortie agents set-log debug --health degraded     they log more; `set-log default` ends that

An agent is named by the beginning, or the end, of its instance id. Steering prints a row per agent, and exits with 1 if
one refused or did not answer.";

/// See the agents that are alive, and steer them
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct AgentsArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List agents: what they serve, how they are and what they have done
    List {
        #[command(flatten)]
        filter: FilterArgs,
    },
    /// Print the instance ids of agents, a line each, the healthy and idle first
    Find {
        #[command(flatten)]
        filter: FilterArgs,
        /// So many at most
        #[arg(long, value_name = "N", default_value_t = usize::MAX, hide_default_value = true)]
        limit: usize,
    },
    /// Show everything of one agent: its entry, its schemas, what it has in hand
    Show {
        /// The agent: the beginning or end of its instance id
        agent: String,
    },
    /// Have agents pull no more, end what they have and exit with 0
    Drain {
        #[command(flatten)]
        target: TargetArgs,
    },
    /// Have agents pull no more and end what they have; they stay
    Pause {
        #[command(flatten)]
        target: TargetArgs,
    },
    /// Have paused agents pull again
    Resume {
        #[command(flatten)]
        target: TargetArgs,
    },
    /// Have agents run so many attempts at once; nothing that runs is stopped
    SetSlots {
        /// Slots, from 1 to 1,000
        #[arg(value_parser = clap::value_parser!(u64).range(1..=limits::SLOTS_MAX as u64))]
        slots: u64,
        #[command(flatten)]
        target: TargetArgs,
    },
    /// Have agents log more or less, on standard error and shipped
    SetLog {
        /// A level, levels by module as in `info,sortie_worker=debug`, or `default` for what it started with
        level: String,
        #[command(flatten)]
        target: TargetArgs,
    },
    /// Have agents drain and exit with 75, for their supervisors to start them again
    Restart {
        #[command(flatten)]
        target: TargetArgs,
    },
}

pub(crate) async fn run(args: AgentsArgs, session: &Session) -> Result<ExitCode, Problem> {
    match args.verb {
        Verb::List { filter } => list(&filter, session).await,
        Verb::Find { filter, limit } => find(&filter, limit, session).await,
        Verb::Show { agent } => show::run(&agent, session).await,
        Verb::Drain { target } => steer::run(&Steering::Drain, &target, session).await,
        Verb::Pause { target } => steer::run(&Steering::Pause, &target, session).await,
        Verb::Resume { target } => steer::run(&Steering::Resume, &target, session).await,
        Verb::SetSlots { slots, target } => {
            let slots = usize::try_from(slots).unwrap_or(limits::SLOTS_MAX);
            steer::run(&Steering::SetSlots(slots), &target, session).await
        }
        Verb::SetLog { level, target } => steer::run(&Steering::SetLog(level), &target, session).await,
        Verb::Restart { target } => steer::run(&Steering::Restart, &target, session).await,
    }
}

async fn list(filter: &FilterArgs, session: &Session) -> Result<ExitCode, Problem> {
    let agents = filter.agents(session).await?;
    session.output().show(&agents, || match (agents.is_empty(), filter.is_empty()) {
        (false, _) => table(session.output(), &agents),
        (true, true) => "no agent is there".to_owned(),
        (true, false) => format!("no agent is {}; `sortie agents list` shows all", filter.words()),
    })?;
    Ok(ExitCode::Done)
}

async fn find(filter: &FilterArgs, limit: usize, session: &Session) -> Result<ExitCode, Problem> {
    let mut agents = filter.agents(session).await?;
    agents.retain(|agent| !agent.is_gone());
    agents.truncate(limit);
    session.output().show(&agents, || agents.iter().map(|agent| format!("{}\n", agent.instance)).collect())?;
    Ok(if agents.is_empty() { ExitCode::WorkFailed } else { ExitCode::Done })
}

/// The word that stands on the wire.
fn word<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_value(value).ok().and_then(|word| word.as_str().map(str::to_owned)).unwrap_or_default()
}

/// The agent that is named, or the problem of the one who named it.
async fn named(part: &str, session: &Session) -> Result<protocol::registry::AgentEntry, Problem> {
    session.client().await?.agent(part).await.map_err(refusal::problem)
}
