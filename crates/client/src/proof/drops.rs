//! Dead letters that somebody dropped, as the audit trail tells.

use std::collections::HashSet;

use protocol::{RequestId, audit::AuditRecord, subject::filter, time::Timestamp};

use crate::{Client, Error};

/// The verb of those records.
const VERB: &str = "dead-drop";

/// Records that one read asks for, and ids that are held at most. Beyond that whatever was dropped counts as dropped by a
/// filter.
const PAGE: usize = 256;
const NAMED_MAX: usize = 100_000;

/// What was dropped.
#[derive(Debug, Default)]
pub(super) struct Drops {
    named: HashSet<RequestId>,
    /// When letters were dropped last by a filter, which names none.
    by_filter_at: Option<Timestamp>,
}

impl Drops {
    pub(super) async fn read(client: &Client) -> Result<Self, Error> {
        let stream = &client.names().audit;
        let records = filter::audit(client.namespace(), VERB);
        let (mut drops, mut from) = (Self::default(), Some(1));
        while let Some(sequence) = from {
            let page = client.patiently(stream, || client.reader().page(stream, &records, sequence, PAGE)).await?;
            from = page.next;
            for message in page.messages {
                if let Ok(record) = serde_json::from_slice::<AuditRecord>(&message.body) {
                    drops.note(&record);
                }
            }
        }
        Ok(drops)
    }

    fn note(&mut self, record: &AuditRecord) {
        let ids = record.detail["letters"]["ids"].as_array();
        match ids.filter(|_| self.named.len() < NAMED_MAX) {
            Some(ids) => self.named.extend(ids.iter().filter_map(|id| RequestId::parse(id.as_str()?).ok())),
            None => self.by_filter_at = self.by_filter_at.max(Some(record.at)),
        }
    }

    /// Whether the letter of a request that failed then may be among them.
    pub(super) fn may_hold(&self, id: &RequestId, failed_at: Timestamp) -> bool {
        self.named.contains(id) || self.by_filter_at.is_some_and(|at| at >= failed_at)
    }
}

#[cfg(test)]
mod tests {
    use protocol::{Operator, time};
    use serde_json::{Value, json};

    use super::*;

    fn record(detail: Value) -> AuditRecord {
        let at = time::parse("2030-01-01T12:00:00Z").unwrap();
        let who = Operator::parse("ann").unwrap();
        AuditRecord { who, verb: VERB.to_owned(), target: "2 dead letters".to_owned(), detail, at }
    }

    #[test]
    fn a_letter_was_dropped_by_its_id_or_by_a_filter_after_it_came() {
        let id = |text: &str| RequestId::parse(text).unwrap();
        let (before, after) =
            (time::parse("2030-01-01T11:00:00Z").unwrap(), time::parse("2030-01-01T13:00:00Z").unwrap());
        let mut drops = Drops::default();
        assert!(!drops.may_hold(&id("a"), before));
        drops.note(&record(json!({ "letters": { "ids": ["a", "b"] } })));
        assert!(drops.may_hold(&id("a"), after) && !drops.may_hold(&id("c"), before));
        drops.note(&record(json!({ "letters": { "filter": { "code": "x" } } })));
        assert!(drops.may_hold(&id("c"), before) && !drops.may_hold(&id("c"), after));
    }
}
