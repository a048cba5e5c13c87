//! `sortie breaker`: what handlers call, and whether it is called just now.

use clap::Subcommand;
use client::{BroughtForward, NamedBreaker};
use process::{ExitCode, Problem};
use protocol::{BreakerName, Capability, RequestId, breaker::State, time};
use serde_json::{Value, json};

use crate::{output::Output, refusal, session::Session};

const EXAMPLES: &str = "\
Examples:
  sortie breaker list                    since when, until when and why each one is open
  sortie breaker reset payments          what was broken is mended: close it, and try at once what waited for it

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
    /// Close one at once, and let what waited for it come
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
            let client = session.client().await?;
            let before = client.reset_breaker(&name).await.map_err(refusal::problem)?;
            let closed = match before.now {
                State::Closed => format!("circuit breaker {name} was closed already"),
                was => format!("circuit breaker {name} is closed; it was {}", spelled(was)),
            };
            let mut waiting = before.breaker.pauses;
            // Named like its capability, unless told otherwise.
            waiting.extend(Capability::parse(name.as_str()));
            let forward = client.bring_forward(&waiting).await.map_err(|error| {
                let Problem { code, .. } = refusal::problem(error.clone());
                let said = format!("{closed}; what was put off for it does not all come now: {error}");
                Problem::new(code, said).advise(format!("`sortie breaker reset {name}` once more lets the rest come"))
            })?;
            let document =
                json!({ "name": name, "was": before.now, "state": State::Closed, "brought_forward": forward });
            session.output().show(&document, || format!("{closed}{}", told(&forward)))?;
        }
    }
    Ok(ExitCode::Done)
}

/// What comes now, and what does not.
fn told(forward: &BroughtForward) -> String {
    let BroughtForward { brought, moved: _, refused, held } = forward;
    let requests = |count: u64| format!("{count} request{}", if count == 1 { "" } else { "s" });
    let listed = |ids: &[RequestId]| ids.iter().map(RequestId::as_str).collect::<Vec<_>>().join(", ");
    let mut lines = String::new();
    if *brought > 0 {
        lines += &format!("\n  {} that waited for it: tried again now", requests(*brought));
    }
    if !held.is_empty() {
        lines += &format!(
            "\n  {} with a unique key: tried at the time that was set, which only the broker knows: {}",
            requests(held.len() as u64),
            listed(held)
        );
    }
    if !refused.is_empty() {
        lines += &format!(
            "\n  {} whose schedule the broker takes no second time: tried at the time that `sortie later list` shows: {}",
            requests(refused.len() as u64),
            listed(refused)
        );
    }
    lines
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
