//! `sortie queues peek`: what lies in a queue.

use client::Peeked;
use process::{ExitCode, Problem};
use protocol::{Capability, limits, time};
use serde_json::{Value, json};

use super::{LaneArg, list::age};
use crate::{commands::outcome::printable, output::Output, refusal, session::Session};

const EXAMPLES: &str = "\
Examples:
  sortie queues peek resize                        the first ten of the normal lane
  sortie queues peek resize --lane unique --count 100
  sortie queues peek resize --json | jq '.[].body'
  sortie why req_0198…                             what one of them waits for

Nothing is taken: whoever serves the queue gets it all the same. TAKEN was delivered once at least.";

/// Bytes of a body that the table shows.
const SHOWN_BYTES: usize = 60;

/// Look at the first requests of a queue, without taking them
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct PeekArgs {
    /// The capability
    capability: Capability,
    /// The lane
    #[arg(long, value_enum, default_value = "normal")]
    lane: LaneArg,
    /// Requests to show at most, of each lane
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    count: u32,
}

pub(super) async fn run(args: PeekArgs, session: &Session) -> Result<ExitCode, Problem> {
    let client = session.client().await?;
    let mut found = Vec::new();
    let count = usize::try_from(args.count).unwrap_or(usize::MAX);
    for source in args.lane.sources() {
        let lane = client.peek(&args.capability, source, count).await.map_err(refusal::problem)?;
        found.extend(lane.into_iter().map(|peeked| (source.token(), peeked)));
    }
    let now = client.now().await.map_err(refusal::problem)?;
    let document: Vec<Value> = found.iter().map(|(lane, peeked)| document(lane, peeked)).collect();
    session.output().show(&document, || match found.is_empty() {
        true => format!("nothing lies there; see `sortie queues --capability {}`", args.capability),
        false => table(session.output(), &found, now),
    })?;
    Ok(ExitCode::Done)
}

fn document(lane: &str, peeked: &Peeked) -> Value {
    let headers: serde_json::Map<String, Value> =
        peeked.headers.iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
    json!({
        "id": peeked.id,
        "lane": lane,
        "sequence": peeked.sequence,
        "key": peeked.key,
        "published_at": time::format(peeked.published_at),
        "was_delivered": peeked.was_delivered,
        "attempt": peeked.attempt,
        "deadline": peeked.deadline.map(time::format),
        "fault": peeked.fault,
        "payload_ref": peeked.payload_ref,
        "headers": headers,
        "body": peeked.content_type.show(&peeked.body),
    })
}

fn table(output: Output, found: &[(&str, Peeked)], now: time::Timestamp) -> String {
    let head = ["SEQUENCE", "LANE", "REQUEST", "AGE", "TAKEN", "ATTEMPT", "KEY", "BODY"];
    let rows = found.iter().map(|(lane, peeked)| {
        [
            peeked.sequence.to_string(),
            (*lane).to_owned(),
            peeked.id.to_string(),
            age(peeked.published_at, now),
            if peeked.was_delivered { "yes" } else { "" }.to_owned(),
            peeked.attempt.to_string(),
            peeked.key.as_ref().map(ToString::to_string).unwrap_or_default(),
            body(peeked),
        ]
    });
    output.table(&head, rows)
}

fn body(peeked: &Peeked) -> String {
    if let Some(fault) = &peeked.fault {
        return format!("will be refused: {}", printable(fault));
    }
    if let Some(object) = &peeked.payload_ref {
        return format!("object {}", printable(object));
    }
    let text = match peeked.content_type.show(&peeked.body) {
        Value::String(text) => text,
        value => value.to_string(),
    };
    limits::truncate(&printable(&text), SHOWN_BYTES)
}
