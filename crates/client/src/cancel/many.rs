//! Many requests cancelled: all that a filter means, wherever they lie, and nothing that is done.

use std::{collections::HashSet, time::Duration};

use broker::{StoredMessage, topology};
use chrono::TimeDelta;
use futures_util::{StreamExt, stream};
use protocol::{
    Capability, Lane, Origin, Request, RequestId, RunId, Subject, header, subject::filter as subjects, time::Timestamp,
    topology::Source,
};

use super::{Cancellation, Place};
use crate::{Client, Error, ErrorKind};

/// Messages that one read asks for: their bodies come along, and the broker answers with 8 MiB at most.
const PAGE: usize = 250;

/// Requests that are cancelled at once.
const AT_ONCE: usize = 32;

/// Ids that are told as examples.
const EXAMPLES_MAX: usize = 1_000;

/// Which requests are meant: those of which everything holds that is said here. The default means all that is not done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CancelFilter {
    /// For this capability.
    pub capability: Option<Capability>,
    /// In this lane, or unique ones. A retry waits for the lane that it came by.
    pub source: Option<Source>,
    /// That have lain where they are for longer than this.
    pub older_than: Option<Duration>,
}

/// What became of many.
#[derive(Debug, Default)]
pub struct CancelTally {
    /// Requests that were meant and not done when they were looked at.
    pub matched: usize,
    /// The first thousand of them.
    pub examples: Vec<RequestId>,
    /// Those that are cancelled now.
    pub cancelled: usize,
    /// Those that got done in between: nothing was touched.
    pub done: usize,
    /// Steps of runs, which are cancelled with their runs: nothing was touched.
    pub steps: usize,
    /// Those that may not be cancelled, and why.
    pub refused: Vec<(RequestId, Error)>,
}

/// A request that lies in a stream.
struct Queued {
    id: RequestId,
    place: Place,
}

/// Where requests lie: a stream, the subjects there, and from which sequence to which.
struct Range {
    stream: String,
    filter: String,
    from: u64,
    through: u64,
}

impl Client {
    /// Cancels all that a filter means, or only finds them, and tells how far it is after each page. What is asked for while
    /// this goes on may be cancelled or not; what has an outcome is left as it is.
    ///
    /// # Errors
    /// `StreamsMissing`, and what reading says. What was cancelled until then stays so, and the same goes on.
    pub async fn cancel_many(
        &self,
        filter: &CancelFilter,
        is_dry: bool,
        mut on_change: impl FnMut(&CancelTally) + Send,
    ) -> Result<CancelTally, Error> {
        let before = match filter.older_than {
            Some(age) => Some(self.now().await? - TimeDelta::from_std(age).unwrap_or(TimeDelta::MAX)),
            None => None,
        };
        let mut tally = CancelTally::default();
        let mut seen = HashSet::new();
        let requests = self.last_sequence(&self.names().requests).await?;
        let mut ranges = self.lanes(filter, 1, requests);
        ranges.extend(self.unique(filter).await?);
        self.cancel_ranges(ranges, filter, before, is_dry, &mut seen, &mut tally, &mut on_change).await?;
        // What moved meanwhile: by a retry from its lane to the schedules, or by its schedule back into its lane.
        let later = vec![self.waiting(self.last_sequence(&self.names().requests).await?)];
        self.cancel_ranges(later, filter, before, is_dry, &mut seen, &mut tally, &mut on_change).await?;
        let fired = self.lanes(filter, requests + 1, self.last_sequence(&self.names().requests).await?);
        self.cancel_ranges(fired, filter, before, is_dry, &mut seen, &mut tally, &mut on_change).await?;
        Ok(tally)
    }

    #[allow(clippy::too_many_arguments, reason = "one look of three that share all but the first")]
    async fn cancel_ranges(
        &self,
        ranges: Vec<Range>,
        filter: &CancelFilter,
        before: Option<Timestamp>,
        is_dry: bool,
        seen: &mut HashSet<RequestId>,
        tally: &mut CancelTally,
        on_change: &mut (impl FnMut(&CancelTally) + Send),
    ) -> Result<(), Error> {
        for range in ranges {
            let mut from = Some(range.from);
            while let Some(sequence) = from.filter(|from| *from <= range.through) {
                let page = match self.reader().page(&range.stream, &range.filter, sequence, PAGE).await {
                    Ok(page) => page,
                    Err(error) => return Err(self.explained(error, &range.stream).await),
                };
                from = page.next;
                let meant = page.messages.into_iter().filter(|message| {
                    message.sequence <= range.through && before.is_none_or(|before| message.time <= before)
                });
                let mut queued: Vec<Queued> = meant.filter_map(|message| self.queued(message, filter)).collect();
                queued.retain(|queued| seen.insert(queued.id.clone()));
                let queued = self.without_outcome(queued, tally).await?;
                tally.matched += queued.len();
                let room = EXAMPLES_MAX - tally.examples.len();
                tally.examples.extend(queued.iter().take(room).map(|queued| queued.id.clone()));
                if !is_dry {
                    self.cancel_each(queued, tally).await;
                }
                on_change(tally);
            }
        }
        Ok(())
    }

    /// Unique work that a workflow serves lies in its queue for as long as its run lasts.
    async fn cancel_one_of(&self, id: &RequestId, place: Place) -> Result<Cancellation, Error> {
        if place.unique.is_some()
            && let Ok(run) = RunId::parse(id.as_str())
            && self.is_run_surely_alive(&run).await?
        {
            self.cancel_run(&run, None).await?;
            return Ok(Cancellation::RunTold);
        }
        self.cancel_at(id, place).await
    }

    async fn cancel_each(&self, queued: Vec<Queued>, tally: &mut CancelTally) {
        let mut ending = stream::iter(queued)
            .map(|Queued { id, place }| async move {
                let ended = self.cancel_one_of(&id, place).await;
                (id, ended)
            })
            .buffer_unordered(AT_ONCE);
        while let Some((id, ended)) = ending.next().await {
            match ended {
                Ok(Cancellation::Cancelled | Cancellation::RunTold) => tally.cancelled += 1,
                Ok(Cancellation::AlreadyDone(_)) => tally.done += 1,
                // It has an outcome whose large result is gone.
                Err(error) if *error.kind() == ErrorKind::Unreadable => tally.done += 1,
                Err(error) => tally.refused.push((id, error)),
            }
        }
    }

    /// Those that have no outcome, found with one read. What has one still lies there because nobody has taken it since.
    async fn without_outcome(&self, queued: Vec<Queued>, tally: &mut CancelTally) -> Result<Vec<Queued>, Error> {
        let (steps, mut queued): (Vec<Queued>, Vec<Queued>) =
            queued.into_iter().partition(|queued| matches!(queued.id.origin(), Origin::Step { .. }));
        tally.steps += steps.len();
        if queued.is_empty() {
            return Ok(queued);
        }
        let stream = &self.names().outcomes;
        let subject = |queued: &Queued| Subject::Outcome(queued.id.clone()).render(self.namespace());
        let subjects: Vec<String> = queued.iter().map(subject).collect();
        let found = match self.reader().last_of_each(stream, &subjects).await {
            Ok(found) => found,
            Err(error) => return Err(self.explained(error, stream).await),
        };
        let done: HashSet<String> = found.into_iter().map(|message| message.subject).collect();
        queued.retain(|queued| !done.contains(&subject(queued)));
        Ok(queued)
    }

    /// The request in a message, if the filter means it.
    fn queued(&self, message: StoredMessage, filter: &CancelFilter) -> Option<Queued> {
        let fallback = RequestId::of_sequence(message.sequence);
        let (source, capability, fallback, unique) = match Subject::parse(self.namespace(), &message.subject)? {
            Subject::Request { lane, capability } => (Source::Lane(lane), capability, fallback, None),
            Subject::Unique { capability, .. } => {
                let id = RequestId::of_unique_sequence(message.sequence);
                (Source::Unique, capability, id, Some((message.subject.clone(), message.sequence)))
            }
            Subject::Later(id) => {
                let target = message.headers.get(header::NATS_SCHEDULE_TARGET)?;
                let Subject::Request { lane, capability } = Subject::parse(self.namespace(), target)? else {
                    return None;
                };
                (Source::Lane(lane), capability, id, None)
            }
            _ => return None,
        };
        let is_meant = filter.capability.as_ref().is_none_or(|wanted| *wanted == capability)
            && filter.source.is_none_or(|wanted| wanted == source);
        let id = match Subject::parse(self.namespace(), &message.subject) {
            Some(Subject::Later(id)) => id,
            // Under the id of its sequence, where its headers lie.
            _ => Request::read(&message.headers, fallback).map_or_else(|invalid| invalid.id, |request| request.id),
        };
        is_meant.then_some(Queued { id, place: Place { unique, capability: Some(capability) } })
    }

    fn lanes(&self, filter: &CancelFilter, from: u64, through: u64) -> Vec<Range> {
        let lanes = Lane::ALL.into_iter().filter(|lane| match filter.source {
            None => true,
            Some(source) => source == Source::Lane(*lane),
        });
        let stream = &self.names().requests;
        lanes
            .map(|lane| Range {
                stream: stream.clone(),
                filter: subjects::lane(self.namespace(), lane, filter.capability.as_ref()),
                from,
                through,
            })
            .collect()
    }

    fn waiting(&self, through: u64) -> Range {
        Range { stream: self.names().requests.clone(), filter: subjects::later(self.namespace()), from: 1, through }
    }

    async fn unique(&self, filter: &CancelFilter) -> Result<Option<Range>, Error> {
        if filter.source.is_some_and(|source| source != Source::Unique) {
            return Ok(None);
        }
        let stream = self.names().unique.clone();
        let through = self.last_sequence(&stream).await?;
        let filter = subjects::unique(self.namespace(), filter.capability.as_ref());
        Ok(Some(Range { stream, filter, from: 1, through }))
    }

    pub(crate) async fn last_sequence(&self, stream: &str) -> Result<u64, Error> {
        let state = topology::stream_state(self.connection(), stream).await;
        let state = state.map_err(|error| match error.kind() {
            broker::Kind::NotFound => Error::streams_missing(stream),
            _ => error.into(),
        })?;
        Ok(state.last_sequence)
    }
}
