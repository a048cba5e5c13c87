//! `sortie breaker`: what handlers call, and whether it is called just now.

use clap::Subcommand;
use client::NamedBreaker;
use process::{ExitCode, Problem};
use protocol::{BreakerName, breaker::State, time};
use serde_json::{Value, json};

use crate::{output::Output, refusal, session::Session};

const EXAMPLES: &str = "\
Examples:
  sortie breaker list                    since when, until when and why each one is open
  sortie breaker reset payments          close it at once: what was broken is mended

A breaker is open for 30 s unless its agent says otherwise, then lets a few requests through, and closes by itself where
they succeed. Requests of its capability wait meanwhile, and burn no attempt.";

/// See circuit breakers, and close them
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct BreakerArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List those that ever opened
    List,
    /// Close one at once
    Reset {
        /// Its name, unless told otherwise that of the capability
        name: BreakerName,
    },
}

pub(crate) async fn run(args: BreakerArgs, session: &Session) -> Result<ExitCode, Problem> {
    match args.verb {
        Verb::List => {
            let breakers = session.client().await?.breakers().await.map_err(refusal::problem)?;
            session.output().show(&breakers, || match breakers.len() {
                0 => "no circuit breaker ever opened".to_owned(),
                _ => table(session.output(), &breakers),
            })?;
        }
        Verb::Reset { name } => {
            session.audit("breaker-reset", name.as_str(), Value::Null).await?;
            let before = session.client().await?.reset_breaker(&name).await.map_err(refusal::problem)?;
            let document = json!({ "name": name, "was": before.now, "state": State::Closed });
            session.output().show(&document, || match before.now {
                State::Closed => format!("circuit breaker {name} was closed already"),
                was => format!("circuit breaker {name} is closed; it was {}", spelled(was)),
            })?;
        }
    }
    Ok(ExitCode::Done)
}

fn table(output: Output, breakers: &[NamedBreaker]) -> String {
    let head = ["NAME", "STATE", "SINCE", "UNTIL", "PAUSES", "OPENED BY", "WHY"];
    let rows = breakers.iter().map(|NamedBreaker { name, now, breaker }| {
        let pauses: Vec<&str> = breaker.pauses.iter().map(protocol::Capability::as_str).collect();
        let opened = breaker.opened.as_ref();
        [
            name.to_string(),
            spelled(*now).to_owned(),
            time::format(breaker.since),
            breaker.until.map(time::format).unwrap_or_default(),
            pauses.join(", "),
            opened.map(|opening| opening.by.to_string()).unwrap_or_default(),
            opened.map(|opening| format!("{}: {}", opening.code, opening.message)).unwrap_or_default(),
        ]
    });
    output.table(&head, rows)
}

fn spelled(state: State) -> &'static str {
    match state {
        State::Closed => "closed",
        State::Open => "open",
        State::HalfOpen => "half open",
    }
}
