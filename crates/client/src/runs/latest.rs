//! The runs that ended last, from the end of what is kept of them.

use broker::StoredMessage;
use protocol::{RunId, RunSummary, Status, WorkflowName, header, run::ended_topic, subject, time::Timestamp};
use serde::Serialize;

use super::{RunFilter, list::ended};
use crate::{Client, Error};

/// Summaries that one read asks for.
const PAGE: usize = 50;

/// A run that has ended, and when.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PastRun {
    /// The run.
    pub run: RunId,
    /// The workflow.
    pub workflow: WorkflowName,
    /// How it ended.
    pub status: Status,
    /// When it began; none where its summary is so large that it is held elsewhere.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Timestamp,
}

impl Client {
    /// The runs that ended last and whose summaries are kept, the latest first, at most `count_max`.
    ///
    /// # Errors
    /// `StreamsMissing`, and what reading says.
    pub async fn latest_runs(&self, wanted: &RunFilter, count_max: usize) -> Result<Vec<PastRun>, Error> {
        let stream = &self.names().events;
        let place = subject::event(self.namespace(), &ended_topic(wanted.workflow.as_ref(), wanted.status, None));
        let messages = match self.last_messages(stream, &place, count_max).await {
            Ok(messages) => messages,
            Err(error) => return Err(self.explained(error, stream).await),
        };
        Ok(messages.iter().rev().filter_map(past).collect())
    }

    /// The last messages under a filter, in order.
    async fn last_messages(
        &self,
        stream: &str,
        filter: &str,
        count_max: usize,
    ) -> Result<Vec<StoredMessage>, broker::Error> {
        let wanted = count_max as u64;
        let mut from = 1;
        if self.reader().count(stream, filter).await? > wanted {
            // The broker reads forward only, so the place is looked for: as many are at `from` and above, and fewer at
            // `above`.
            let mut above = broker::topology::stream_state(self.connection(), stream).await?.last_sequence + 1;
            while above - from > 1 {
                let middle = from + (above - from) / 2;
                let page = self.reader().page(stream, filter, middle, 1).await?;
                let count = page.messages.len() as u64 + page.remaining.unwrap_or(0);
                if count >= wanted {
                    // Nothing lies between the middle and the message that was found there.
                    from = page.messages.first().map_or(middle, |message| message.sequence).min(above - 1);
                } else {
                    above = middle;
                }
                if count == wanted {
                    break;
                }
            }
        }
        let mut messages = Vec::new();
        let mut next = Some(from);
        while let Some(sequence) = next {
            let page = self.reader().page(stream, filter, sequence, PAGE).await?;
            next = page.next;
            messages.extend(page.messages);
            // More may end meanwhile than can be shown.
            if messages.len() >= 2 * count_max.max(PAGE) {
                break;
            }
        }
        let surplus = messages.len().saturating_sub(count_max);
        Ok(messages.split_off(surplus))
    }
}

fn past(message: &StoredMessage) -> Option<PastRun> {
    let place = ended(&message.subject)?;
    let held = message.headers.get(header::PAYLOAD_REF).is_some();
    let summary = (!held).then(|| serde_json::from_slice::<RunSummary>(&message.body).ok()).flatten();
    Some(PastRun {
        run: place.run,
        workflow: place.workflow,
        status: place.status,
        started_at: summary.as_ref().map(|summary| summary.started_at),
        ended_at: summary.map_or(message.time, |summary| summary.ended_at),
    })
}
