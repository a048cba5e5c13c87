//! The one way to count: what was accepted against outcomes, dead letters and what waits.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use anyhow::Result;
use broker::{Reader, topology};
use client::Client;
use protocol::{Namespace, Outcome, RequestId, Status, Subject, subject::filter, topology::Names};

use crate::until;

/// What became of the requests that a test counts as accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Requests that the broker acknowledged.
    pub accepted: usize,
    /// Accepted requests with an outcome, by its status.
    pub outcomes: BTreeMap<&'static str, usize>,
    /// Accepted requests that have more than one outcome.
    pub duplicated: Vec<RequestId>,
    /// Accepted requests without any outcome.
    pub missing: Vec<RequestId>,
    /// Outcomes of requests that nobody accepted.
    pub foreign: usize,
    /// Dead letters.
    pub dead: usize,
    /// Messages that still wait in the request streams, schedules counted.
    pub waiting: u64,
}

impl Count {
    /// Counts a fleet's streams against the ids that were accepted.
    ///
    /// # Errors
    /// When the broker cannot be read.
    pub async fn of(client: &Client, accepted: &BTreeSet<RequestId>) -> Result<Self> {
        let (connection, namespace) = (client.connection(), client.namespace());
        let names = Names::of(namespace);
        let mut count = Self { accepted: accepted.len(), ..Self::default() };
        let mut seen: BTreeMap<RequestId, usize> = BTreeMap::new();
        let reader = Reader::new(connection);
        for message in all(&reader, &names.outcomes, &filter::outcomes(namespace)).await? {
            let Some(Subject::Outcome(id)) = Subject::parse(namespace, &message.subject) else { continue };
            if !accepted.contains(&id) {
                count.foreign += 1;
                continue;
            }
            let outcome = Outcome::read(id.clone(), &message.headers, &message.body);
            *count.outcomes.entry(outcome.status.as_str()).or_default() += 1;
            *seen.entry(id).or_default() += 1;
        }
        count.duplicated = seen.iter().filter(|(_, times)| **times > 1).map(|(id, _)| id.clone()).collect();
        count.missing = accepted.iter().filter(|id| !seen.contains_key(*id)).cloned().collect();
        count.dead = all(&reader, &names.dead, &filter::dead(namespace, None)).await?.len();
        count.waiting = waiting(client).await?;
        Ok(count)
    }

    /// Counts until nothing is missing and nothing waits: what comes last comes a moment after the outcomes, and a
    /// replica may be behind.
    ///
    /// # Panics
    /// When it is not whole within this time, with the last count.
    #[allow(clippy::panic, reason = "a test fails by panicking")]
    pub async fn whole(client: &Client, accepted: &BTreeSet<RequestId>, within: Duration) -> Self {
        let end = Instant::now() + within;
        let counted = || async {
            let count = Self::of(client, accepted).await.ok()?;
            let is_settled = count.missing.is_empty() && count.waiting == 0;
            (is_settled || Instant::now() >= end).then_some(count)
        };
        let count = until("a count", within + crate::PATIENCE, counted).await;
        count.assert_whole();
        count
    }

    /// How many have an outcome of this status.
    pub fn with(&self, status: Status) -> usize {
        self.outcomes.get(status.as_str()).copied().unwrap_or(0)
    }

    /// Nothing lost, nothing twice, nothing stuck: every accepted request has exactly one outcome, and nothing waits.
    ///
    /// # Panics
    /// When it is not so, with the count.
    pub fn assert_whole(&self) {
        let is_whole = self.missing.is_empty() && self.duplicated.is_empty() && self.waiting == 0;
        assert!(is_whole, "lost, twice or stuck: {self:#?}");
    }
}

/// Looks until nothing waits in the request streams: the broker takes a message out a moment after it was acknowledged.
///
/// # Panics
/// When something still does after [`PATIENCE`](crate::PATIENCE).
pub async fn nothing_waits(client: &Client) {
    until("nothing waits", crate::PATIENCE, || async { (waiting(client).await.ok()? == 0).then_some(()) }).await;
}

/// Messages that still wait in the request streams.
///
/// # Errors
/// When the broker cannot be read.
pub async fn waiting(client: &Client) -> Result<u64> {
    let names = Names::of(client.namespace());
    let requests = topology::stream_state(client.connection(), &names.requests).await?;
    let unique = topology::stream_state(client.connection(), &names.unique).await?;
    Ok(requests.messages + unique.messages)
}

async fn all(reader: &Reader, stream: &str, filter: &str) -> Result<Vec<broker::StoredMessage>> {
    let mut messages = Vec::new();
    let mut from = Some(1);
    while let Some(sequence) = from {
        let page = reader.page(stream, filter, sequence, 1_000).await?;
        messages.extend(page.messages);
        from = page.next;
    }
    Ok(messages)
}

/// The dead letters of a fleet: capability and id.
///
/// # Errors
/// When the broker cannot be read.
pub async fn dead_ids(client: &Client, namespace: &Namespace) -> Result<Vec<RequestId>> {
    let names = Names::of(namespace);
    let letters = all(&Reader::new(client.connection()), &names.dead, &filter::dead(namespace, None)).await?;
    let ids = letters.iter().filter_map(|letter| match Subject::parse(namespace, &letter.subject) {
        Some(Subject::Dead { id, .. }) => Some(id),
        _ => None,
    });
    Ok(ids.collect())
}
