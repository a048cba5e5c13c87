//! How a request is published, once, whatever has to be tried again for it.
//!
//! A repeated publish under one id is the same request, and exactly one outcome comes of it even if the message is
//! queued twice. `Nats-Msg-Id` only keeps the second message away, and costs the server 0.3 KB of memory for two
//! minutes. So it stands on every publish under an id that somebody gave (he may give it again), on unique work (where
//! it is the only way to tell our own message from a stranger's under the same key) and on schedules; under an id made
//! here, only from the second try on: one that was stored unnoticed costs at worst an attempt that loses the race.

use std::time::Duration;

use broker::{Disposition, Kind, Outgoing, Stored};
use bytes::Bytes;
use chrono::TimeDelta;
use protocol::{
    ContentType, Headers, Lane, Outcome, Request, RequestId, Subject,
    accepted::{Accepted, Asked},
    control::Progress,
    header, limits, retry,
};

use crate::{
    Client, Error, ErrorKind, Receipt,
    receipt::Acceptance,
    request::{Moment, RequestBuilder, Wish},
    wait::Listening,
};

/// How long a publish is tried: longer than a replicated stream goes without a leader.
const PUBLISH_WITHIN: Duration = Duration::from_secs(15);

/// Bytes of a message that are not its body: headers at most, subject, protocol.
const MESSAGE_OVERHEAD: usize = limits::HEADERS_BYTES_MAX + 1024;

impl RequestBuilder<'_> {
    /// Hands the request over to the broker: when this returns a receipt, it is stored.
    ///
    /// Under an id that was given it first looks whether the request has its outcome already; the receipt says so.
    ///
    /// # Errors
    /// `Invalid` and `TooLarge` before anything is sent, `KeyTaken` for unique work, `StreamsMissing`, `StoreFull`,
    /// `Forbidden`. After `TimedOut` the request may be stored: submit it again under [`Error::request`] to be sure.
    pub async fn submit(self) -> Result<Receipt, Error> {
        let Self { client, body, wish } = self;
        wish.check()?;
        let body = encode(body, &wish.content_type)?;
        client.send(&wish, body).await
    }

    /// Submits, and waits for the outcome this long from then on. It listens before it publishes, so that this costs
    /// the broker less than [`submit`](Self::submit) and a wait after it.
    ///
    /// # Errors
    /// Those of [`submit`](Self::submit); `Pending` when there is no outcome in time.
    pub async fn call(self, within: Duration) -> Result<Outcome, Error> {
        let Self { client, body, wish } = self;
        wish.check()?;
        let body = encode(body, &wish.content_type)?;
        if wish.unique.is_some() {
            return Box::pin(async { client.send(&wish, body).await?.outcome(within).await }).await;
        }
        let listening = client.listen(wish.id()).await?;
        let receipt = client.send(&wish, body).await?;
        let id = receipt.id().clone();
        receipt.into_acceptance().heard_by(&client, &id, listening, within).await
    }

    /// The same, and hands over what the request says of its progress meanwhile.
    ///
    /// # Errors
    /// Those of [`call`](Self::call).
    pub async fn follow(self, within: Duration, on_progress: impl FnMut(Progress) + Send) -> Result<Outcome, Error> {
        if self.wish.unique.is_some() {
            return self.submit().await?.follow(within, on_progress).await;
        }
        let follower = self.client.progress(self.wish.id()).await?;
        follower.until(self.call(within), on_progress).await
    }
}

fn encode(body: crate::request::Body<'_>, content_type: &ContentType) -> Result<Bytes, Error> {
    let body = body
        .encode(content_type)
        .map_err(|failure| Error::invalid(format!("the body cannot be encoded: {failure}")))?;
    if body.len() > limits::BODY_BYTES_MAX {
        let message = format!("the body has {} bytes; {} are allowed", body.len(), limits::BODY_BYTES_MAX);
        return Err(Error::new(ErrorKind::TooLarge, message));
    }
    Ok(body)
}

impl Wish {
    /// Everything that can be known to be wrong before anything is sent, all at once.
    fn check(&self) -> Result<(), Error> {
        let mut faults = Vec::new();
        if self.unique.is_some() {
            let excluded =
                [(self.id.is_some(), "an id"), (self.due.is_some(), "a delay"), (self.lane != Lane::Normal, "a lane")];
            faults.extend(
                excluded.iter().filter(|(given, _)| *given).map(|(_, what)| format!("unique work cannot have {what}")),
            );
        }
        if let Some(Err(error)) = self.id.as_ref().map(|id| RequestId::from_client(id.as_str())) {
            faults.push(error.to_string());
        }
        if self.timeout.is_some_and(|timeout| timeout.is_zero() || timeout > limits::TIMEOUT_MAX) {
            faults.push(format!("a timeout is more than nothing and at most {} s", limits::TIMEOUT_MAX.as_secs()));
        }
        if let Some(Err(fault)) = self.attempts.map(|attempts| retry::parse_attempts(&attempts.to_string())) {
            faults.push(format!("attempts: {fault}"));
        }
        let own = self.headers.foreign();
        let refused = self.headers.iter().filter(|(name, _)| own.get(name).is_none());
        faults.extend(refused.map(|(name, _)| format!("header {name} is not yours to set")));
        faults.extend(self.headers.check().err());
        if faults.is_empty() { Ok(()) } else { Err(Error::invalid(faults.join("; "))) }
    }
}

impl Client {
    pub(crate) async fn send(&self, wish: &Wish, body: Bytes) -> Result<Receipt, Error> {
        let (id, is_given) = (wish.id().clone(), wish.id.is_some());
        // What is rare is boxed: a program that has many requests on their way carries the way of each in memory.
        if is_given && let Some(outcome) = Box::pin(self.outcome(&id)).await? {
            return Ok(Receipt::new(self, id, Acceptance::Done(outcome)));
        }
        // The time before it is published: an outcome is kept for at least as long as that counts from here.
        let at = match wish.noted_in {
            Some(_) => Some(Box::pin(self.now()).await?),
            None => None,
        };
        let mut outgoing = self.outgoing(wish, &id, body).await.map_err(|error| error.about(&id))?;
        if is_given || wish.due.is_some() || wish.unique.is_some() {
            outgoing = outgoing.with_message_id(id.as_str());
        }
        let stream = if wish.unique.is_some() { &self.names().unique } else { &self.names().requests };
        let receipt = match self.store(outgoing.clone(), &id, stream).await {
            Ok(stored) if wish.unique.is_some() => {
                let id = RequestId::of_unique_sequence(stored.sequence);
                Receipt::new(self, id, Acceptance::of(stored))
            }
            Ok(stored) => Receipt::new(self, id, Acceptance::of(stored)),
            // Its schedule is there: put there under this id before, perhaps by an earlier try of this publish.
            Err(error) if error.kind() == Kind::WrongSequence => Receipt::new(self, id, Acceptance::Repeated),
            Err(error) if error.kind() == Kind::SubjectFull => {
                return Err(Box::pin(self.key_taken(wish, &outgoing.subject)).await);
            }
            Err(error) => {
                let error = Box::pin(self.explained(error, stream)).await;
                return Err(error.during("not submitted for certain").about(&id));
            }
        };
        if let (Some(file), Some(at)) = (&wish.noted_in, at) {
            file.note(&Accepted {
                id: receipt.id().clone(),
                asked: Asked::Request(wish.capability.clone()),
                stream: stream.clone(),
                sequence: receipt.acceptance().sequence(),
                at,
            })?;
        }
        Ok(receipt)
    }

    async fn outgoing(&self, wish: &Wish, id: &RequestId, body: Bytes) -> Result<Outgoing, Error> {
        let due = self.moment(wish.due).await?;
        let mut request = Request::new(id.clone());
        request.attempts_max = wish.attempts;
        request.backoff = wish.backoff;
        request.timeout = wish.timeout;
        request.deadline = self.moment(wish.deadline).await?;
        request.parent.clone_from(&wish.parent);
        request.replay_of.clone_from(&wish.replay_of);
        request.content_type = wish.content_type.clone();
        request.payload_ref.clone_from(&wish.payload_ref);
        request.trace = wish.trace.clone();
        if let (Some(deadline), Some(due)) = (request.deadline, due)
            && deadline <= due
        {
            return Err(Error::invalid("the deadline is before the time at which the request is due"));
        }
        let inline_max = self.connection().payload_bytes_max().saturating_sub(MESSAGE_OVERHEAD);
        let body = if body.len() > inline_max.min(limits::BODY_INLINE_BYTES_MAX) {
            request.payload_ref = Some(Box::pin(self.payloads().put(&body)).await?);
            Bytes::new()
        } else {
            body
        };
        let mut headers: Headers = wish.headers.clone();
        request.write(&mut headers);
        if let Some(tie) = &wish.cron {
            headers.set(header::CRON, tie.to_string());
        }
        headers.check().map_err(|fault| Error::new(ErrorKind::TooLarge, fault))?;
        Ok(self.addressed(wish, id, due, body, headers))
    }

    fn addressed(
        &self,
        wish: &Wish,
        id: &RequestId,
        due: Option<protocol::time::Timestamp>,
        body: Bytes,
        mut headers: Headers,
    ) -> Outgoing {
        let capability = wish.capability.clone();
        let subject = |subject: Subject| subject.render(self.namespace());
        if let Some(key) = wish.unique.clone() {
            // Its id is its sequence, which is known only when it is stored.
            headers.remove(header::REQUEST_ID);
            return Outgoing::new(subject(Subject::Unique { capability, key }), body).with_headers(headers);
        }
        let lane = subject(Subject::Request { lane: wish.lane, capability });
        match due {
            None => Outgoing::new(lane, body).with_headers(headers),
            Some(due) => {
                let waiting = Outgoing::new(subject(Subject::Later(id.clone())), body).with_headers(headers);
                // Under an id that was given before, a retry may wait at this subject: it must not be replaced.
                broker::scheduled_at(waiting, due, &lane).expecting(0)
            }
        }
    }

    async fn moment(&self, moment: Option<Moment>) -> Result<Option<protocol::time::Timestamp>, Error> {
        match moment {
            None => Ok(None),
            Some(Moment::At(at)) => Ok(Some(at)),
            Some(Moment::After(wait)) => {
                let refused = || Error::invalid("a wait of more than ten years");
                let within = wait.min(protocol::duration::DURATION_MAX) == wait;
                let wait = TimeDelta::from_std(wait).ok().filter(|_| within).ok_or_else(refused)?;
                Ok(Some(Box::pin(self.now()).await? + wait))
            }
        }
    }

    /// The first try as it is, every later one with the id that keeps a second copy away.
    pub(crate) async fn store(
        &self,
        outgoing: Outgoing,
        id: &RequestId,
        stream: &str,
    ) -> Result<Stored, broker::Error> {
        match self.publisher().publish(&outgoing).await {
            Err(error) if error.disposition() == Disposition::Retry && error.kind() != Kind::StoreFull => {
                let is_missing = error.kind() == Kind::NoResponders
                    && matches!(
                        broker::topology::stream_state(self.connection(), stream).await,
                        Err(reason) if reason.kind() == Kind::NotFound
                    );
                if is_missing {
                    return Err(error);
                }
                self.publisher().publish_within(&outgoing.with_message_id(id.as_str()), PUBLISH_WITHIN).await
            }
            settled => settled,
        }
    }

    async fn key_taken(&self, wish: &Wish, subject: &str) -> Error {
        let found = self.reader().last(&self.names().unique, subject).await.ok().flatten();
        let holder = found.map(|message| RequestId::of_unique_sequence(message.sequence));
        let key = wish.unique.as_ref().map(ToString::to_string).unwrap_or_default();
        let by = match &holder {
            Some(holder) => format!("request {holder}, which is queued or running"),
            None => "a request that has just ended; submit again".to_owned(),
        };
        Error::new(ErrorKind::KeyTaken { holder }, format!("key {key} of {} is taken by {by}", wish.capability))
    }
}

impl Acceptance {
    pub(crate) fn sequence(&self) -> Option<u64> {
        match self {
            Self::Stored { sequence } => Some(*sequence),
            Self::Repeated | Self::Done(_) => None,
        }
    }

    pub(crate) fn of(stored: Stored) -> Self {
        if stored.duplicate { Self::Repeated } else { Self::Stored { sequence: stored.sequence } }
    }
}

impl Acceptance {
    /// The outcome of what was listened for since before it was published.
    pub(crate) async fn heard_by(
        self,
        client: &Client,
        id: &RequestId,
        listening: Listening,
        within: Duration,
    ) -> Result<Outcome, Error> {
        match self {
            Self::Done(outcome) => Ok(outcome),
            // Nobody could have answered before it was stored, and since then it was listened.
            Self::Stored { .. } => client.wait_listening(id, listening, false, within).await,
            Self::Repeated => client.wait_listening(id, listening, true, within).await,
        }
    }
}
