//! `sortie cron`: requests that recur.

mod add;
mod show;

use clap::Subcommand;
use client::Acceptance;
use process::{ExitCode, Problem};
use protocol::CronName;
use serde_json::{Value, json};

use self::add::AddArgs;
use crate::{refusal, session::Session};

const EXAMPLES: &str = "\
Examples:
  sortie cron add nightly repo-audit '{\"deep\":true}' --schedule '0 30 6 * * *' --zone Europe/Zurich
  sortie cron add sweep sweep --every 10s --overlap skip      not while the last one is queued or running
  sortie cron add report report --schedule @daily
  sortie cron list                                            what recurs, and when it fires next
  sortie cron show nightly                                    its spec, its schedule, and whether they agree
  sortie cron pause nightly                                   it fires no more until it is resumed
  sortie cron resume nightly
  sortie cron fire nightly                                    once, now
  sortie cron remove nightly

Schedules have six fields: second minute hour day month weekday. The broker fires them, whether or not anything of ours
runs; with --overlap skip a coordinator lets each firing through.";

/// Ask for something again and again: at times of the day, or every so often
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CronArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Keep a recurring request, and begin to fire it
    #[command(after_help = EXAMPLES)]
    Add(Box<AddArgs>),
    /// List what recurs, by name
    List,
    /// Show one: its spec, its schedule, and whether they agree
    Show {
        /// Which one
        name: CronName,
    },
    /// Fire it no more until it is resumed; what it asked for already goes on
    Pause {
        /// Which one
        name: CronName,
    },
    /// Fire it again; what would have fired meanwhile does not
    Resume {
        /// Which one
        name: CronName,
    },
    /// Ask for it once, now, paused or not
    Fire {
        /// Which one
        name: CronName,
    },
    /// Forget it; what it asked for already goes on
    Remove {
        /// Which one
        name: CronName,
    },
}

pub(crate) async fn run(args: CronArgs, session: &Session) -> Result<ExitCode, Problem> {
    match args.verb {
        Verb::Add(args) => add::run(*args, session).await,
        Verb::List => show::list(session).await,
        Verb::Show { name } => show::one(&name, session).await,
        Verb::Pause { name } => {
            session.audit("cron-pause", name.as_str(), Value::Null).await?;
            let done = session.client().await?.cron_pause(&name).await.map_err(refusal::problem)?;
            said(session, &name, "paused", done)
        }
        Verb::Resume { name } => {
            session.audit("cron-resume", name.as_str(), Value::Null).await?;
            let done = session.client().await?.cron_resume(&name).await.map_err(refusal::problem)?;
            said(session, &name, "resumed", done)
        }
        Verb::Fire { name } => fire(&name, session).await,
        Verb::Remove { name } => {
            session.audit("cron-remove", name.as_str(), Value::Null).await?;
            if !session.client().await?.cron_remove(&name).await.map_err(refusal::problem)? {
                let problem = Problem::new(ExitCode::WorkFailed, format!("there is no cron {name}"));
                return Err(problem.advise("`sortie cron list` shows what recurs"));
            }
            said(session, &name, "removed", true)
        }
    }
}

async fn fire(name: &CronName, session: &Session) -> Result<ExitCode, Problem> {
    session.audit("cron-fire", name.as_str(), Value::Null).await?;
    let receipt = session.client().await?.cron_fire(name).await.map_err(refusal::problem)?;
    let sequence = match receipt.acceptance() {
        Acceptance::Stored { sequence } => Some(*sequence),
        _ => None,
    };
    let document = json!({ "name": name, "request": receipt.id(), "sequence": sequence });
    session.output().show(&document, || receipt.id().to_string())?;
    Ok(ExitCode::Done)
}

fn said(session: &Session, name: &CronName, done: &str, has_changed: bool) -> Result<ExitCode, Problem> {
    let document = json!({ "name": name, "done": done, "changed": has_changed });
    session.output().show(&document, || match has_changed {
        true => format!("cron {name} is {done}"),
        false => format!("cron {name} was {done} already"),
    })?;
    Ok(ExitCode::Done)
}
