//! Bringing forward what was put off for a circuit breaker that is closed now.

use std::{collections::BTreeSet, time::Duration};

use broker::{Disposition, Kind, StoredMessage, once_more, scheduled_at};
use chrono::TimeDelta;
use futures_util::{StreamExt, stream};
use protocol::{
    Capability, RequestId, Subject, codes, header,
    mark::{self, UniqueTries},
    subject::filter,
    time::Timestamp,
};
use serde::Serialize;

use crate::{Client, Error};

/// Schedules that one read asks for: their bodies come along.
const PAGE: usize = 64;

/// Schedules that are published at once.
const AT_ONCE: usize = 16;

/// In how long it comes: the workers hear first that the breaker is closed, or they would put it off once more.
const IN: TimeDelta = TimeDelta::seconds(1);

/// How long one of them is tried.
const STORED_WITHIN: Duration = Duration::from_secs(5);

/// Unique requests that are named, of those that cannot be brought forward.
const HELD_MAX: usize = 100;

/// What became of what was put off.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct BroughtForward {
    /// So many come at once.
    pub brought: u64,
    /// So many came, were cancelled or were put off anew while this was done.
    pub moved: u64,
    /// Those whose schedule the broker does not take once more: they come at their time.
    pub refused: Vec<RequestId>,
    /// Unique requests wait in place and keep their keys, and only the broker knows until when: they come at their time.
    /// At most a hundred are named.
    pub held: Vec<RequestId>,
}

enum End {
    Brought,
    Moved,
    Refused(RequestId),
}

impl Client {
    /// Lets what these capabilities put off for a circuit breaker come at once. Nothing is lost or doubled: each schedule
    /// is replaced by one that is due, if it is still the one that was read.
    ///
    /// # Errors
    /// `StreamsMissing`, `StoreFull`, and what reading says. What was brought forward before stays so, and it can be done
    /// again.
    pub async fn bring_forward(&self, capabilities: &BTreeSet<Capability>) -> Result<BroughtForward, Error> {
        let stream = &self.names().requests;
        let filter = filter::later(self.namespace());
        // What is published here comes after that.
        let through = self.last_sequence(stream).await?;
        let due = self.now().await? + IN;
        let mut all = BroughtForward::default();
        let mut from = Some(1).filter(|_| through > 0);
        while let Some(sequence) = from {
            let page = match self.reader().page(stream, &filter, sequence, PAGE).await {
                Ok(page) => page,
                Err(error) => return Err(self.explained(error, stream).await),
            };
            from = page.next.filter(|next| *next <= through);
            let meant = page.messages.into_iter().filter(|message| message.sequence <= through);
            let meant = meant.filter(|message| self.waits_for_breaker(message, capabilities, due));
            let mut ends = stream::iter(meant.map(|message| self.bring(message, due))).buffer_unordered(AT_ONCE);
            while let Some(end) = ends.next().await {
                match end? {
                    End::Brought => all.brought += 1,
                    End::Moved => all.moved += 1,
                    End::Refused(id) => all.refused.push(id),
                }
            }
        }
        all.held = self.held_for_breaker(capabilities).await?;
        Ok(all)
    }

    fn waits_for_breaker(&self, message: &StoredMessage, of: &BTreeSet<Capability>, due: Timestamp) -> bool {
        // What is not headers cannot be published again.
        let Some(waiting) = self.scheduled(message).filter(|_| message.is_readable) else { return false };
        waiting.snoozed_for.as_deref() == Some(codes::CIRCUIT_OPEN)
            && waiting.capability.is_some_and(|capability| of.contains(&capability))
            && waiting.due.is_some_and(|then| then > due)
    }

    async fn bring(&self, message: StoredMessage, due: Timestamp) -> Result<End, Error> {
        let Some(Subject::Later(id)) = Subject::parse(self.namespace(), &message.subject) else {
            return Ok(End::Moved);
        };
        let Some(target) = message.headers.get(header::NATS_SCHEDULE_TARGET).map(str::to_owned) else {
            return Ok(End::Refused(id));
        };
        let sooner = scheduled_at(once_more(message), due, &target);
        match self.publisher().publish_within(&sooner, STORED_WITHIN).await {
            Ok(_) => Ok(End::Brought),
            Err(error) if error.kind() == Kind::WrongSequence => Ok(End::Moved),
            Err(error) if error.disposition() == Disposition::Reject => Ok(End::Refused(id)),
            Err(error) => Err(error.into()),
        }
    }

    /// Unique requests that were put off: the broker holds them back itself, and takes no word about them before.
    async fn held_for_breaker(&self, of: &BTreeSet<Capability>) -> Result<Vec<RequestId>, Error> {
        let bucket = self.bucket(&self.names().state);
        let entries = match bucket.list(mark::TRIES_FILTER).await {
            Ok(entries) => entries,
            Err(error) => return Err(self.explained(error, &Self::bucket_stream(bucket.name())).await),
        };
        let mut held = Vec::new();
        for entry in entries {
            let tries = entry.value.as_deref().and_then(|value| serde_json::from_slice::<UniqueTries>(value).ok());
            let is_meant = tries.is_some_and(|tries| tries.snoozed_for.as_deref() == Some(codes::CIRCUIT_OPEN));
            let Some((stream, sequence)) = mark::parse_tries_key(&entry.key).filter(|_| is_meant) else { continue };
            let message = self.reader().by_sequence(stream, sequence).await.map_err(Error::from)?;
            let subject = message.and_then(|message| Subject::parse(self.namespace(), &message.subject));
            if let Some(Subject::Unique { capability, .. }) = subject
                && of.contains(&capability)
            {
                held.push(RequestId::of_unique_sequence(sequence));
            }
            if held.len() >= HELD_MAX {
                break;
            }
        }
        Ok(held)
    }
}
