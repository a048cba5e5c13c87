//! Everything of one agent.

use std::{collections::BTreeMap, fmt::Write, time::Duration};

use process::{ExitCode, Problem};
use protocol::{control::InHand, limits, registry::AgentEntry};
use serde::Serialize;
use serde_json::Value;

use super::{
    named,
    table::{health, since},
    word,
};
use crate::{refusal, session::Session};

/// How long the agent itself may take to answer; its entry is shown without that.
const ANSWERED_WITHIN: Duration = Duration::from_secs(2);

#[derive(Serialize)]
struct Document {
    /// As the agent says now, else as it stands in the registry.
    entry: AgentEntry,
    /// By digest.
    schemas: BTreeMap<String, Value>,
    /// None where the agent does not answer.
    in_hand: Option<Vec<InHand>>,
}

pub(super) async fn run(part: &str, session: &Session) -> Result<ExitCode, Problem> {
    let client = session.client().await?;
    let entry = named(part, session).await?;
    let schemas = client.schemas(&entry).await.map_err(refusal::problem)?;
    let document = match client.inspect(&entry.instance, ANSWERED_WITHIN).await {
        Ok(inspection) => Document { entry: inspection.entry, schemas, in_hand: Some(inspection.in_hand) },
        Err(_) => Document { entry, schemas, in_hand: None },
    };
    session.output().show(&document, || text(&document))?;
    Ok(ExitCode::Done)
}

fn text(document: &Document) -> String {
    let Document { entry, schemas, in_hand } = document;
    let mut lines = vec![
        ("kind", format!("{} {}", entry.kind, entry.version)),
        ("state", format!("{}, {}", word(&entry.state), health(entry))),
        ("where", format!("{}:{}", entry.host, entry.pid)),
        ("up", format!("{}, seen {} ago", since(entry.started_at), since(entry.seen_at))),
        ("slots", format!("{} of {} busy", entry.slots_busy, entry.slots)),
    ];
    let counts = entry.counts;
    lines.push((
        "done",
        format!(
            "{} completed, {} given up, {} tried again, {} done by others",
            counts.completed, counts.failed, counts.retried, counts.superseded
        ),
    ));
    if !entry.tags.is_empty() {
        let tags: Vec<String> = entry.tags.iter().map(|(name, value)| format!("{name}={value}")).collect();
        lines.push(("tags", tags.join(" ")));
    }
    let mut text = format!("{}\n", entry.instance);
    for (name, value) in lines {
        let _ = writeln!(text, "  {name:<8}{value}");
    }
    let _ = writeln!(text, "\nserves");
    for capability in &entry.capabilities {
        let slots = capability.slots.map(|slots| format!(" ({slots} slots at most)")).unwrap_or_default();
        let description = capability.description.as_deref().unwrap_or_default();
        let _ = writeln!(text, "  {}{slots}  {description}", capability.name);
        for (name, digest) in [("input", &capability.input_schema), ("output", &capability.output_schema)] {
            let Some(digest) = digest else { continue };
            let schema =
                schemas.get(digest).map_or_else(|| format!("schema {digest} is not there"), ToString::to_string);
            let _ = writeln!(text, "    {name:<8}{}", limits::truncate(&schema, 2_000));
        }
    }
    match in_hand {
        None => text.push_str("\nit does not answer: this is what stands in the registry\n"),
        Some(held) if held.is_empty() => text.push_str("\nnothing in hand\n"),
        Some(held) => {
            text.push_str("\nin hand\n");
            for held in held {
                let since = since(held.since);
                let _ = writeln!(text, "  {}  {}  attempt {}  since {since}", held.id, held.capability, held.attempt);
            }
        }
    }
    text
}
