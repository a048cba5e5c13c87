//! `sortie topology`: streams, buckets and consumers as they should be, and as they are.

mod standing;
mod wanted;

use broker::topology as broker_topology;
use clap::Subcommand;
use process::{ExitCode, Problem};
use protocol::{
    Capability,
    topology::{Drift, Shortened, shortened},
};
use serde::Serialize;
use serde_json::json;

use self::standing::{Action, Standing};
pub(crate) use self::wanted::WantedArgs;
use crate::session::Session;

const EXAMPLES: &str = "\
Examples:
  sortie topology plan                            what apply would do, field by field
  sortie topology apply --replicas 3              make it so, with three copies of everything
  sortie topology apply --capability resize       the consumers that a worker in another language pulls from
  sortie topology apply --logs-bytes-max 8MB      for a small store: the broker reserves as much as logs may take
  sortie topology apply --recreate                also consumers that the broker changes only by making them anew
  sortie topology check                           exit 1 if anything differs

No stream is ever deleted or made anew. Consumers that differ are changed in place; the one field where that cannot be
(max_waiting) takes --recreate. It loses no message, and keeps pauses and limits; but what agents have in hand is
delivered again, so attempts that run at that moment may run twice (their outcome is still recorded once). The
consumers of coordinators are made again where they are missing, and a pause is taken off them: nobody wishes that one.";

/// Show, make and check the streams, buckets and consumers of a fleet; never deletes a stream
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
    Apply(ApplyArgs),
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

#[derive(Debug, clap::Args)]
struct ApplyArgs {
    #[command(flatten)]
    what: WhatArgs,
    /// Make consumers anew where they differ in what cannot be changed: what is in hand is delivered again
    #[arg(long)]
    recreate: bool,
}

/// Whether consumers may be made anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Recreate(bool);

#[derive(Serialize)]
struct Document<'a> {
    namespace: &'a str,
    settings: &'a protocol::topology::Settings,
    agrees: bool,
    changes: &'a [Standing],
    /// What is kept for less long than usual.
    shortened: &'a [Shortened],
}

pub(crate) async fn run(args: TopologyArgs, session: &Session) -> Result<ExitCode, Problem> {
    let (what, recreate) = match &args.verb {
        Verb::Plan(what) | Verb::Check(what) => (what, None),
        Verb::Apply(apply) => (&apply.what, Some(Recreate(apply.recreate))),
    };
    let connection = session.connection().await?;
    let namespace = session.namespace();
    let settings = what.wanted.settings(connection, namespace).await?;
    let mut standings = standing::of_all(connection, namespace, &settings, &what.capabilities).await?;
    if matches!(args.verb, Verb::Check(_)) {
        // What a coordinator is about to make, within a second of its start or of the loss, is no difference.
        standings.retain(|standing| !standing.is_made_by_coordinators());
    }
    if let Some(recreate) = recreate {
        broker_topology::apply(connection, namespace, &settings).await?;
        for standing in &standings {
            mend(session, standing, recreate).await?;
        }
    }
    let agrees = standings.iter().all(|standing| standing.action == Action::None);
    let shortened = shortened(namespace, &settings);
    let document = Document {
        namespace: namespace.as_str(),
        settings: &settings,
        agrees,
        changes: &standings,
        shortened: &shortened,
    };
    session.output().show(&document, || {
        let table = standing::table(session.output(), &standings);
        format!("{table}{}\n", standing::summary(&standings, &shortened, recreate))
    })?;
    match recreate {
        None if !agrees && matches!(args.verb, Verb::Check(_)) => Err(complaint(&standings)),
        Some(Recreate(false)) if standings.iter().any(|standing| standing.action == Action::Recreate) => {
            let message = "everything else is done, but some consumers have to be made anew";
            Err(Problem::new(ExitCode::WorkFailed, message).advise("do that with `sortie topology apply --recreate`"))
        }
        _ => Ok(ExitCode::Done),
    }
}

/// Makes one consumer as it should be; what steers a fleet that works is recorded first.
async fn mend(session: &Session, standing: &Standing, recreate: Recreate) -> Result<(), Problem> {
    let Some(consumer) = &standing.consumer else { return Ok(()) };
    let connection = session.connection().await?;
    let drifts: Vec<String> = standing.drift.iter().map(Drift::to_string).collect();
    match standing.action {
        Action::Create => broker_topology::ensure_consumer(connection, consumer).await?,
        Action::Update => {
            session.audit("consumer-update", &standing.of, json!({ "drift": drifts })).await?;
            broker_topology::update_consumer(connection, consumer).await?;
        }
        Action::Recreate if recreate.0 => {
            session.audit("consumer-recreate", &standing.of, json!({ "drift": drifts })).await?;
            broker_topology::recreate_consumer(connection, consumer).await?;
        }
        Action::None | Action::Recreate => {}
    }
    // Neither takes a pause off, because most are wished.
    if standing.drift.iter().any(Drift::is_pause) {
        broker_topology::resume_consumer(connection, &consumer.stream, &consumer.name).await?;
    }
    Ok(())
}

/// Why `check` fails: limits that break a promise are errors by name, everything else is a difference.
fn complaint(standings: &[Standing]) -> Problem {
    let broken: Vec<String> = standings.iter().flat_map(Standing::broken_promises).collect();
    let mended = match standings.iter().any(|standing| standing.action == Action::Recreate) {
        true => "sortie topology apply --recreate",
        false => "sortie topology apply",
    };
    if broken.is_empty() {
        let message = "the broker is not as the topology says";
        return Problem::new(ExitCode::WorkFailed, message)
            .advise(format!("see `sortie topology plan`, then mend it with `{mended}`"));
    }
    let message = format!("ERROR: what was acknowledged may be deleted: {}", broken.join("; "));
    Problem::new(ExitCode::WorkFailed, message).advise(format!("remove such limits with `{mended}`"))
}
