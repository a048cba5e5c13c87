//! Messages under which workers died, before the third death sets them aside.

use std::collections::BTreeSet;

use protocol::{Request, RequestId, limits, mark::Mark};

use super::Found;
use crate::{
    Patient,
    finding::{Finding, counted},
};

/// Marks that are looked at.
const MARKS_MAX: usize = 100;

pub(super) async fn poison(patient: &Patient) -> Found {
    let marks = patient.bucket(&patient.names().state).list("mark.>").await?;
    let alive: BTreeSet<_> = patient.agents().await?.iter().map(|agent| &agent.instance).collect();
    let mut findings = Vec::new();
    for entry in marks.iter().rev().take(MARKS_MAX) {
        let mark = entry.value.as_deref().and_then(|value| serde_json::from_slice::<Mark>(value).ok());
        let Some((mark, (stream, sequence))) = mark.zip(place(&entry.key)) else { continue };
        // Each but the last lost it to the next; the last may have it in hand.
        let last = mark.takers.last().filter(|taker| alive.contains(taker));
        let gone = mark.takers.len() - usize::from(last.is_some());
        // The mark outlives the message.
        if gone == 0 {
            continue;
        }
        let Some(message) = patient.reader().by_sequence(stream, sequence).await? else { continue };
        let own = if stream == patient.names().unique {
            RequestId::of_unique_sequence(sequence)
        } else {
            RequestId::of_sequence(sequence)
        };
        let id = Request::read(&message.headers, own.clone()).map_or(own, |request| request.id);
        let seen = format!(
            "request {id} ({}) was delivered again, and {} that took it then died; at {} it is set aside",
            message.subject,
            counted(gone, "worker"),
            limits::POISON_MARKS
        );
        findings.push(
            Finding::warning(seen)
                .about(&id)
                .remedy("if it kills them, cancel it before it kills the next; why they died stands in their logs")
                .command(format!("sortie cancel {id}")),
        );
    }
    Ok(findings)
}

/// Stream and sequence out of `mark.<stream>.<sequence>`.
fn place(key: &str) -> Option<(&str, u64)> {
    let (stream, sequence) = key.strip_prefix("mark.")?.rsplit_once('.')?;
    Some((stream, sequence.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use protocol::mark::mark_key;

    use super::*;

    #[test]
    fn a_mark_names_its_message() {
        assert_eq!(place(&mark_key("FLEET_REQUESTS", 7)), Some(("FLEET_REQUESTS", 7)));
        assert_eq!((place("schema.x"), place("mark.S.x")), (None, None));
    }
}
