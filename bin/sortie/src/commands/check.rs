//! `sortie check`: one question, one line, one exit code, for monitoring systems.

mod agent;
mod dead;
mod queue;
mod verdict;

use clap::Subcommand;
use client::Client;
use process::{ExitCode, Problem};
use protocol::Capability;

use self::verdict::{Level, Verdict};
use crate::session::Session;

const EXAMPLES: &str = "\
Examples:
  sortie check queue --warn 1000 --crit 10000            requests that wait, the fullest queue counts
  sortie check queue --capability resize --oldest --warn 60 --crit 600
                                                          seconds that the oldest waits
  sortie check agent --capability resize --warn 3 --crit 1
                                                          agents that are ready and well; fewer is worse
  sortie check dead --within 1h --warn 1 --crit 20        requests given up lately
  sortie check queue --prometheus > /var/lib/node_exporter/sortie_queue.prom

Exit codes are those of monitoring plugins, not those of the other commands:
  0 ok   1 warning   2 critical   3 unknown: it could not be asked, the reason is told
A fault in the command line itself ends with 2, as everywhere. With --prometheus the exit code is 0, or 3.";

/// Check queues, agents or dead letters for a monitoring system: one line, exit code 0, 1, 2 or 3
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CheckArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Requests that wait, or how long the oldest of them does
    Queue(queue::QueueArgs),
    /// Agents that are ready and well
    Agent(agent::AgentArgs),
    /// Requests that were given up lately
    Dead(dead::DeadArgs),
}

/// What every check takes.
#[derive(Debug, clap::Args)]
struct Common {
    /// Only this capability
    #[arg(long, value_name = "NAME")]
    capability: Option<Capability>,
    /// Write Prometheus text instead of one line, for a textfile collector or a push gateway
    #[arg(long)]
    prometheus: bool,
}

pub(crate) async fn run(args: CheckArgs, session: &Session) -> Result<ExitCode, Problem> {
    let (name, common) = match &args.what {
        What::Queue(args) => ("queue", &args.common),
        What::Agent(args) => ("agent", &args.common),
        What::Dead(args) => ("dead", &args.common),
    };
    let asked = match session.try_connection().await {
        Ok(connection) => {
            let client = Client::new(connection.clone(), session.namespace().clone());
            ask(&args.what, &client).await
        }
        Err(error) => Err(error.to_string()),
    };
    let verdict = asked.unwrap_or_else(Verdict::unknown);
    if common.prometheus {
        session.output().text(&verdict.prometheus(name))?;
        let is_known = verdict.level != Level::Unknown;
        return Ok(if is_known { ExitCode::Done } else { ExitCode::Unknown });
    }
    session.output().show(&verdict.document(name), || verdict.line(name))?;
    Ok(verdict.level.exit_code())
}

async fn ask(what: &What, client: &Client) -> Result<Verdict, String> {
    match what {
        What::Queue(args) => queue::ask(args, client).await,
        What::Agent(args) => agent::ask(args, client).await,
        What::Dead(args) => dead::ask(args, client).await,
    }
}
