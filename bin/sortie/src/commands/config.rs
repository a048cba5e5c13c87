//! `sortie config`: settings of agents, for all of them, a kind, or one.

mod change;
mod show;

use clap::Subcommand;
use process::{ExitCode, Problem};
use protocol::{
    InstanceId, Kind,
    settings::{Scope, SettingFault},
};

use crate::{refusal, session::Session};

const EXAMPLES: &str = "\
Examples:
  sortie config show --origin                            what every agent goes by, and where it comes from
  sortie config show --kind words
  sortie config set slots 20 --kind words                running agents take it over within two seconds
  sortie config set capabilities.resize.timeout 2m
  sortie config set custom.bank.token secret://env/BANK_TOKEN
  sortie config unset slots --kind words
  sortie config history --kind words                     every revision, and what it changed
  sortie config rollback 17 --kind words

Stronger layers hide weaker ones: defaults, the agent's file, its environment file, the fleet (every agent, then its kind), its
variables and flags, the fleet (it alone). A file and variables are known to their agent only, so they do not show here.
Exit codes: 0 done, 1 somebody changed it meanwhile, 64 it would be wrong: every fault is told, and nothing is stored.";

/// See and change the settings of agents: slots, heartbeat, log level, time-outs, and their own
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ConfigArgs {
    #[command(subcommand)]
    verb: Verb,
}

/// Whom a document is for.
#[derive(Debug, clap::Args)]
struct ScopeArgs {
    /// Agents of this kind [default: every agent]
    #[arg(long, value_name = "KIND", conflicts_with = "instance")]
    kind: Option<Kind>,
    /// This agent alone
    #[arg(long, value_name = "INSTANCE")]
    instance: Option<InstanceId>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Show what agents go by, as far as the fleet says
    Show {
        #[command(flatten)]
        scope: ScopeArgs,
        /// Show which layer each value comes from
        #[arg(long)]
        origin: bool,
    },
    /// Set one value: JSON, or plain text
    Set {
        /// Where, as in capabilities.resize.timeout
        path: String,
        /// The value
        #[arg(allow_hyphen_values = true)]
        value: String,
        #[command(flatten)]
        scope: ScopeArgs,
        /// Only if the document still has this revision
        #[arg(long, value_name = "REVISION")]
        if_revision: Option<u64>,
    },
    /// Take one value, or all below a path, out of the document
    Unset {
        /// Where
        path: String,
        #[command(flatten)]
        scope: ScopeArgs,
        /// Only if the document still has this revision
        #[arg(long, value_name = "REVISION")]
        if_revision: Option<u64>,
    },
    /// Show every revision of the document, oldest first
    History {
        #[command(flatten)]
        scope: ScopeArgs,
    },
    /// Make the document what it was at a revision
    Rollback {
        /// The revision
        revision: u64,
        #[command(flatten)]
        scope: ScopeArgs,
    },
}

impl ScopeArgs {
    fn scope(self) -> Scope {
        match (self.kind, self.instance) {
            (_, Some(instance)) => Scope::Instance(instance),
            (Some(kind), None) => Scope::Kind(kind),
            (None, None) => Scope::Global,
        }
    }
}

pub(crate) async fn run(args: ConfigArgs, session: &Session) -> Result<ExitCode, Problem> {
    match args.verb {
        Verb::Show { scope, origin } => show::effective(scope.scope(), origin, session).await,
        Verb::Set { path, value, scope, if_revision } => {
            change::set(&scope.scope(), &path, &value, if_revision, session).await
        }
        Verb::Unset { path, scope, if_revision } => change::unset(&scope.scope(), &path, if_revision, session).await,
        Verb::History { scope } => show::history(&scope.scope(), session).await,
        Verb::Rollback { revision, scope } => change::rollback(&scope.scope(), revision, session).await,
    }
}

/// The kind of an agent that is there.
async fn kind_of(instance: &InstanceId, session: &Session) -> Result<Kind, Problem> {
    let agents = session.client().await?.agents().await.map_err(refusal::problem)?;
    let found = agents.into_iter().find(|agent| agent.instance == *instance).map(|agent| agent.kind);
    found.ok_or_else(|| {
        let problem = Problem::new(ExitCode::WorkFailed, format!("no agent {instance} is alive"));
        problem.advise("`sortie agents list` shows who is")
    })
}

/// Every fault, a line each.
fn told(faults: &[SettingFault]) -> String {
    faults.iter().map(|fault| format!("\n  {fault}")).collect()
}
