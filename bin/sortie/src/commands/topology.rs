//! `sortie topology`: streams, buckets and consumers as they should be, and as they are.

mod standing;
mod wanted;

use broker::topology as broker_topology;
use clap::Subcommand;
use process::{ExitCode, Problem};
use protocol::{
    Capability,
    topology::{Source, worker_consumer},
};
use serde::Serialize;

use self::standing::{Action, Standing};
pub(crate) use self::wanted::WantedArgs;
use crate::session::Session;

const EXAMPLES: &str = "\
Examples:
  sortie topology plan                            what apply would do, field by field
  sortie topology apply --replicas 3              make it so, with three copies of everything
  sortie topology apply --capability resize       the consumers that a worker in another language pulls from
  sortie topology check                           exit 1 if anything differs";

/// Show, make and check the streams, buckets and consumers of a fleet; never deletes one
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct TopologyArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Show what `apply` would create and change
    Plan(WhatArgs),
    /// Create what is missing and update what differs
    Apply(WhatArgs),
    /// Compare only: exit 1 if anything is missing or differs
    Check(WhatArgs),
}

#[derive(Debug, clap::Args)]
struct WhatArgs {
    #[command(flatten)]
    wanted: WantedArgs,
    /// Also the consumers of this capability, which our own workers make by themselves; may be repeated
    #[arg(long = "capability", value_name = "NAME")]
    capabilities: Vec<Capability>,
}

#[derive(Serialize)]
struct Document<'a> {
    namespace: &'a str,
    settings: &'a protocol::topology::Settings,
    agrees: bool,
    changes: &'a [Standing],
}

pub(crate) async fn run(args: TopologyArgs, session: &Session) -> Result<ExitCode, Problem> {
    let (Verb::Plan(what) | Verb::Apply(what) | Verb::Check(what)) = &args.verb;
    let connection = session.connection().await?;
    let namespace = session.namespace();
    let settings = what.wanted.settings(connection, namespace).await?;
    let standings = standing::of_all(connection, namespace, &settings, &what.capabilities).await?;
    if let Verb::Apply(what) = &args.verb {
        broker_topology::apply(connection, namespace, &settings).await?;
        for capability in &what.capabilities {
            for source in Source::ALL {
                let consumer = worker_consumer(namespace, capability, source, settings.replicas);
                broker_topology::ensure_consumer(connection, &consumer).await?;
            }
        }
    }
    let agrees = standings.iter().all(|standing| standing.action == Action::None);
    let document = Document { namespace: namespace.as_str(), settings: &settings, agrees, changes: &standings };
    session.output().show(&document, || {
        let table = standing::table(session.output(), &standings);
        let done = matches!(args.verb, Verb::Apply(_));
        format!("{table}{}\n", standing::summary(&standings, done))
    })?;
    match args.verb {
        Verb::Check(_) if !agrees => Err(complaint(&standings)),
        _ => Ok(ExitCode::Done),
    }
}

/// Why `check` fails: limits that break a promise are errors by name, everything else is a difference.
fn complaint(standings: &[Standing]) -> Problem {
    let broken: Vec<String> = standings.iter().flat_map(Standing::broken_promises).collect();
    if broken.is_empty() {
        let message = "the broker is not as the topology says";
        return Problem::new(ExitCode::WorkFailed, message).advise("see `sortie topology plan`, then apply it");
    }
    let message = format!("ERROR: what was acknowledged may be deleted: {}", broken.join("; "));
    Problem::new(ExitCode::WorkFailed, message).advise("remove such limits with `sortie topology apply`")
}
