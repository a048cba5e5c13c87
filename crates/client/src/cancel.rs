//! Cancelling: the outcome first, which wins or loses the race like any other, then the hints that stop the work early.

mod many;

use std::time::Duration;

use broker::{Kind, Outgoing, StoredMessage};
use protocol::{
    Capability, Failure, Origin, Outcome, Request, RequestId, RunId, Status, Subject, codes,
    control::CancelNotice,
    header,
    subject::Verb,
    topology::{self, Source},
};

pub use self::many::{CancelFilter, CancelTally};
use crate::{Client, Error, ErrorKind};

/// How long the publish of the outcome is tried, and how long an outcome that is certainly there is looked for at a
/// replica that may be behind.
const SETTLE_WITHIN: Duration = Duration::from_secs(20);
const READ_WITHIN: Duration = Duration::from_secs(5);

/// How a cancel ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Cancellation {
    /// Its outcome is `cancelled`, by this or by an earlier cancel.
    Cancelled,
    /// It was done before: this is its outcome, and it stays.
    AlreadyDone(Outcome),
    /// It is a run, and is told to end: its outcome is `cancelled` when what runs of it has ended and what is to be undone is
    /// undone.
    RunTold,
}

/// Where a request that has not begun may lie.
#[derive(Debug, Default)]
struct Place {
    /// The subject of a unique request, with its sequence.
    unique: Option<(String, u64)>,
    capability: Option<Capability>,
}

impl Client {
    /// Cancels a request, queued, waiting or running. What runs is told to stop; what it did until then may have taken
    /// effect.
    ///
    /// The key of unique work is free at once when no worker has it, so that no two of one key run beside each other:
    /// else the worker that has it frees it when it has stopped, or, where it waits for a retry or its worker is gone, the
    /// one that is given it next.
    ///
    /// An id chosen by a client tells nothing of whether it was ever submitted: such a request cannot be told from one
    /// that is queued, and is cancelled in advance.
    ///
    /// # Errors
    /// `NotFound` for a `seq-` or `useq-` id that was never issued, or whose message has an id of its own; `Invalid` for
    /// a step of a run, which is cancelled with its run; `TimedOut` when it is not certain: cancel again; `StoreFull` where
    /// the broker has no room for the outcome that a cancel is.
    pub async fn cancel(&self, id: &RequestId) -> Result<Cancellation, Error> {
        let run = match id.origin() {
            Origin::Step { .. } => None,
            _ => RunId::parse(id.as_str()).ok(),
        };
        if let Some(run) = &run
            && self.is_run_surely_alive(run).await?
        {
            self.cancel_run(run, None).await?;
            return Ok(Cancellation::RunTold);
        }
        let place = self.place(id).await?;
        let cancelled = self.cancel_at(id, place).await?;
        // Its start may have been taken meanwhile. Steps of a run that has an outcome are not done, and it would wait for
        // them for ever.
        if let Some(run) = &run
            && cancelled == Cancellation::Cancelled
            && self.is_run_surely_alive(run).await?
        {
            self.tell_run_to_end(run).await?;
        }
        Ok(cancelled)
    }

    /// The same for one that lies there.
    async fn cancel_at(&self, id: &RequestId, place: Place) -> Result<Cancellation, Error> {
        let failure = Failure::new(codes::CANCELLED, "cancelled on request");
        let mut outcome = Outcome::not_completed(id.clone(), Status::Cancelled, &failure);
        outcome.capability.clone_from(&place.capability);
        let subject = Subject::outcome_of(id).render(self.namespace());
        let outgoing = Outgoing::new(subject, outcome.body.clone()).with_headers(outcome.headers()).expecting(0);
        let is_first = match self.publisher().publish_within(&outgoing, SETTLE_WITHIN).await {
            Ok(_) => true,
            Err(error) => match error.kind() {
                Kind::WrongSequence => false,
                Kind::TimedOut => {
                    let message =
                        format!("request {id} may be cancelled: the broker did not say so in time; cancel it again");
                    return Err(Error::new(ErrorKind::TimedOut, message).about(id));
                }
                Kind::StoreFull => return Err(Error::no_room_to_cancel(&error).about(id)),
                _ => return Err(Error::from(error).about(id)),
            },
        };
        if !is_first {
            let first = self.certain_outcome(id).await?;
            // Whoever cancelled before may have gone no further than this, so the rest is done again.
            if first.status != Status::Cancelled {
                return Ok(Cancellation::AlreadyDone(first));
            }
        }
        self.tell_cancelled(id).await?;
        let later = Subject::Later(id.clone()).render(self.namespace());
        self.purge(&self.names().requests, &later, None).await?;
        if let Some((subject, sequence)) = place.unique
            && self.is_in_no_hands(place.capability.as_ref(), sequence).await?
        {
            self.purge(&self.names().unique, &subject, Some(sequence + 1)).await?;
        }
        Ok(Cancellation::Cancelled)
    }

    /// Whether no worker has this unique request. Its outcome is stored and workers have been told, so that whoever is
    /// given it after this look knows that it is cancelled.
    async fn is_in_no_hands(&self, capability: Option<&Capability>, sequence: u64) -> Result<bool, Error> {
        let Some(capability) = capability else { return Ok(true) };
        // Its name is the same for any number of replicas.
        let consumer = topology::worker_consumer(self.namespace(), capability, Source::Unique, 1);
        match broker::topology::consumer_state(self.connection(), &consumer.stream, &consumer.name).await {
            Ok(state) => Ok(state.ack_pending == 0 || sequence > state.delivered),
            // Workers make it before they ask for anything.
            Err(error) if error.kind() == broker::Kind::NotFound => Ok(true),
            Err(error) => Err(Error::from(error).during("it is cancelled, but may still stand in the queue")),
        }
    }

    async fn place(&self, id: &RequestId) -> Result<Place, Error> {
        let names = self.names();
        match id.origin() {
            Origin::Step { run, .. } => {
                let message = format!("{id} is a step of run {run}: cancel the run");
                Err(Error::invalid(message).about(id))
            }
            Origin::Client => {
                let subject = Subject::Later(id.clone()).render(self.namespace());
                let waiting = self.reader().last(&names.requests, &subject).await;
                let waiting = match waiting {
                    Ok(waiting) => waiting,
                    Err(error) => return Err(self.explained(error, &names.requests).await),
                };
                let target =
                    waiting.and_then(|message| self.capability_of(message.headers.get(header::NATS_SCHEDULE_TARGET)?));
                Ok(Place { unique: None, capability: target })
            }
            Origin::Sequence(sequence) => {
                let found = self.issued(id, &names.requests, sequence).await?;
                let capability = found.and_then(|message| self.capability_of(&message.subject));
                Ok(Place { unique: None, capability })
            }
            Origin::UniqueSequence(sequence) => {
                let found = self.issued(id, &names.unique, sequence).await?;
                let capability = found.as_ref().and_then(|message| self.capability_of(&message.subject));
                Ok(Place { unique: found.map(|message| (message.subject, sequence)), capability })
            }
        }
    }

    /// The message behind an id by sequence, if it is still queued. The sequences of a stream are issued in order, so
    /// one beyond the last was never issued.
    pub(crate) async fn issued(
        &self,
        id: &RequestId,
        stream: &str,
        sequence: u64,
    ) -> Result<Option<StoredMessage>, Error> {
        let never = |why: &str| Error::new(ErrorKind::NotFound, format!("there is no request {id}: {why}")).about(id);
        let state = broker::topology::stream_state(self.connection(), stream).await;
        let state = state.map_err(|error| match error.kind() {
            broker::Kind::NotFound => Error::streams_missing(stream),
            _ => error.into(),
        })?;
        if sequence == 0 || sequence > state.last_sequence {
            return Err(never("it was never issued"));
        }
        let Some(message) = self.reader().by_sequence(stream, sequence).await? else { return Ok(None) };
        match Request::read(&message.headers, id.clone()) {
            Ok(request) if request.id != *id => Err(never(&format!("that message is request {}", request.id))),
            _ => Ok(Some(message)),
        }
    }

    fn capability_of(&self, subject: &str) -> Option<Capability> {
        match Subject::parse(self.namespace(), subject)? {
            Subject::Request { capability, .. } | Subject::Unique { capability, .. } => Some(capability),
            _ => None,
        }
    }

    /// The outcome that the broker said is there.
    async fn certain_outcome(&self, id: &RequestId) -> Result<Outcome, Error> {
        self.wait(id, READ_WITHIN).await
    }

    async fn tell_cancelled(&self, id: &RequestId) -> Result<(), Error> {
        let subject = Subject::Control { instance: None, verb: Verb::Cancel }.render(self.namespace());
        let notice = CancelNotice { ids: vec![id.clone()] };
        let body = serde_json::to_vec(&notice).map_err(|error| Error::invalid(error.to_string()))?;
        self.connection().publish_core(Outgoing::new(subject, body)).await?;
        Ok(self.connection().flush().await?)
    }

    async fn purge(&self, stream: &str, subject: &str, below: Option<u64>) -> Result<(), Error> {
        match broker::topology::purge(self.connection(), stream, subject, below).await {
            Ok(_) => Ok(()),
            Err(error) => Err(Error::from(error).during("it is cancelled, but still stands in the queue")),
        }
    }
}
