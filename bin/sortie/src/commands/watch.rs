//! `sortie watch`: what happens, live.

use client::Happening;
use owo_colors::{OwoColorize, Style};
use process::{ExitCode, Problem};
use protocol::{Capability, Lane, Outcome, Status, limits, time};
use serde_json::{Value, json};

use super::outcome::{printable, progress_line};
use crate::{output::Output, refusal, session::Session};

/// A result in a line for people, in bytes.
const RESULT_BYTES_MAX: usize = 120;

const EXAMPLES: &str = "\
Examples:
  sortie watch                     everything that is asked, said and answered from now on
  sortie watch resize              of one capability
  sortie watch --json | jq -r 'select(.what == \"ended\") | .outcome.status'
  sortie watch --limit 10          ends after ten lines

It looks on only: what happens while nobody watches is not shown later. A request without an id of its own is shown
without one until it has its outcome.";

/// Watch what happens, live
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct WatchArgs {
    /// Only this capability [default: all]
    capability: Option<Capability>,
    /// End after so many lines [default: at Ctrl-C]
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
}

pub(crate) async fn run(args: WatchArgs, session: &Session) -> Result<ExitCode, Problem> {
    let client = session.client().await?;
    let mut watcher = client.watch(args.capability.as_ref()).await.map_err(refusal::problem)?;
    // The broker handles what comes over one connection in order: after this answer it has all the subscriptions.
    client.now().await.map_err(refusal::problem)?;
    let what = args.capability.as_ref().map_or("everything", Capability::as_str);
    eprintln!("watching {what} in {}", session.namespace());
    let output = session.output();
    let mut shown = 0;
    while args.limit.is_none_or(|limit| shown < limit) {
        let Some(happening) = watcher.next().await else {
            return Err(Problem::new(ExitCode::BrokerUnreachable, "the connection is closed"));
        };
        shown += 1;
        if output.is_json() {
            output.text(&document(&happening).to_string())?;
        } else {
            output.text(&line(&happening, output))?;
        }
    }
    Ok(ExitCode::Done)
}

fn document(happening: &Happening) -> Value {
    let at = time::format(time::now());
    match happening {
        Happening::Asked { id, capability, lane, key } => {
            json!({ "at": at, "what": "asked", "id": id, "capability": capability, "lane": lane, "key": key })
        }
        Happening::Progressed { id, progress } => {
            json!({ "at": at, "what": "progressed", "id": id, "progress": progress })
        }
        Happening::Ended(outcome) => json!({ "at": at, "what": "ended", "outcome": outcome.document() }),
        Happening::Event { topic, data } => json!({ "at": at, "what": "event", "topic": topic, "data": data }),
    }
}

fn line(happening: &Happening, output: Output) -> String {
    let at = time::now().format("%H:%M:%S%.3f");
    let (word, style, rest) = match happening {
        Happening::Asked { id, capability, lane, key } => {
            let id = id.as_ref().map_or("-", |id| id.as_str());
            let lane = if *lane == Lane::Normal { String::new() } else { format!("  {}", lane.token()) };
            let key = key.as_ref().map(|key| format!("  unique {key}")).unwrap_or_default();
            ("asked", Style::new().blue(), format!("{capability}  {id}{lane}{key}"))
        }
        Happening::Progressed { id, progress } => {
            ("progress", Style::new().dimmed(), format!("{id}  {}", progress_line(progress)))
        }
        Happening::Ended(outcome) => ended(outcome),
        Happening::Event { topic, data } => ("event", Style::new().magenta(), format!("{topic}  {}", short(data))),
    };
    let rest = printable(&rest);
    if output.colour() {
        format!("{}  {}  {rest}", at.dimmed(), format!("{word:<9}").style(style))
    } else {
        format!("{at}  {word:<9}  {rest}")
    }
}

fn ended(outcome: &Outcome) -> (&'static str, Style, String) {
    let style = match outcome.status {
        Status::Completed => Style::new().green(),
        Status::Failed => Style::new().red(),
        Status::Expired | Status::Cancelled => Style::new().yellow(),
    };
    let capability = outcome.capability.as_ref().map_or("-", Capability::as_str);
    let what = match (outcome.failure(), &outcome.payload_ref) {
        (Some(failure), _) => failure.to_string(),
        (None, Some(object)) => format!("(a large result, {object})"),
        (None, None) => short(&outcome.content_type.show(&outcome.body)),
    };
    let again = if outcome.attempt > 1 { format!("  attempt {}", outcome.attempt) } else { String::new() };
    (outcome.status.as_str(), style, format!("{capability}  {}{again}  {what}", outcome.id))
}

fn short(value: &Value) -> String {
    limits::truncate(&value.to_string(), RESULT_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use protocol::{ContentType, Failure, RequestId};

    use super::*;

    #[test]
    fn an_end_in_one_line() {
        let id = RequestId::parse("a").unwrap();
        let (word, _, line) = ended(&Outcome::completed(id.clone(), ContentType::Json, b"[1,2]".to_vec()));
        assert_eq!((word, line.as_str()), ("completed", "-  a  [1,2]"));
        let mut outcome = Outcome::not_completed(id, Status::Failed, &Failure::new("tea_is_cold", "no\nway"));
        outcome.attempt = 3;
        assert!(ended(&outcome).2.starts_with("-  a  attempt 3  tea_is_cold: no"));
    }
}
