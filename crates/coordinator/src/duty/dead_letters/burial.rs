//! What is done with one message that was given up: outcome, dead letter, and only then out of the queue.

use broker::{Disposition, Error, Settled, StoredMessage, topology};
use protocol::{
    DeadLetter, Failure, InstanceId, Namespace, Origin, Outcome, Request, RequestId, RunFact, RunId, Status, Subject,
    codes, event, failure,
    mark::{Mark, mark_key},
    request::Invalid,
    run::sub_run_of,
    subject::{self, stored_step_outcome},
    time::Timestamp,
    topology::Source,
};

use crate::{post::Post, queues::Queue};

/// Takes given up messages out of their queue.
pub(crate) struct Burial {
    post: Post,
}

/// What a dead letter of the last resort is made of.
struct Case<'a> {
    queue: &'a Queue,
    message: &'a StoredMessage,
    read: Result<Request, Invalid>,
    killed: Vec<InstanceId>,
    now: Timestamp,
}

impl Burial {
    pub(crate) fn new(post: &Post) -> Self {
        Self { post: post.clone() }
    }

    /// Stores the `failed` outcome, unless another outcome was first; the dead letter, if the request failed; and deletes
    /// the message. Each step is harmless when it was done before.
    pub(super) async fn bury(&self, queue: &Queue, message: StoredMessage) -> Result<(), Error> {
        let stream = &queue.consumer.stream;
        // A replica may still show what is gone.
        if !self.post.reader.is_at_leader(stream, message.sequence).await? {
            return Ok(());
        }
        let case = self.case(queue, &message).await?;
        let later = Subject::Later(case.id().clone()).render(self.post.namespace());
        if self.post.reader.has(&self.post.names.requests, &later).await? {
            // It was acknowledged, and has another attempt to come, which decides.
            return Ok(());
        }
        if self.has_begun_as_a_run(case.id()).await? {
            // A request that a workflow serves is acknowledged when its run has begun, which decides. A unique one keeps its key for
            // as long as the run lasts.
            if queue.source != Source::Unique {
                topology::delete_message(&self.post.connection, stream, message.sequence).await?;
            }
            return Ok(());
        }
        let decided = match self.post.record_outcome(&case.outcome()).await? {
            Settled::Stored(_) => case.outcome(),
            Settled::Superseded => match self.stored_outcome(case.id()).await? {
                Some(outcome) => outcome,
                // The replica that was asked does not have it yet: the next look asks again.
                None => return Ok(()),
            },
        };
        self.take_out(&case, &decided).await
    }

    /// Takes a message out of its queue whose outcome is stored: it was acknowledged, and came back.
    pub(super) async fn clear(&self, queue: &Queue, message: StoredMessage) -> Result<(), Error> {
        if !self.post.reader.is_at_leader(&queue.consumer.stream, message.sequence).await? {
            return Ok(());
        }
        let case = self.case(queue, &message).await?;
        match self.stored_outcome(case.id()).await? {
            Some(decided) => self.take_out(&case, &decided).await,
            None => Ok(()),
        }
    }

    async fn has_begun_as_a_run(&self, id: &RequestId) -> Result<bool, Error> {
        let run = match id.origin() {
            Origin::Step { .. } => sub_run_of(id),
            _ => match RunId::parse(id.as_str()) {
                Ok(run) => run,
                Err(_) => return Ok(false),
            },
        };
        let first = subject::stored_run_fact(self.post.namespace(), None, &run, &RunFact::Started);
        self.post.reader.has(&self.post.names.runs, &first).await
    }

    async fn take_out(&self, case: &Case<'_>, decided: &Outcome) -> Result<(), Error> {
        let Case { queue, message, .. } = case;
        self.publish_letter(case, decided).await?;
        topology::delete_message(&self.post.connection, &queue.consumer.stream, message.sequence).await?;
        tracing::warn!(
            request.id = %case.id(),
            capability = %queue.capability,
            sequence = message.sequence,
            outcome = %decided.status,
            "took out of the queue what the broker had given up"
        );
        self.post.metrics.dead_letters.inc();
        Ok(())
    }

    /// Stores the dead letter of a message whose outcome is `decided`, if it leaves one. Whoever stored the outcome may
    /// have died before that.
    pub(crate) async fn complete(
        &self,
        queue: &Queue,
        message: &StoredMessage,
        decided: &Outcome,
    ) -> Result<(), Error> {
        if decided.status != Status::Failed {
            return Ok(());
        }
        self.publish_letter(&self.case(queue, message).await?, decided).await
    }

    async fn case<'a>(&self, queue: &'a Queue, message: &'a StoredMessage) -> Result<Case<'a>, Error> {
        Ok(Case {
            read: Request::read(&message.headers, queue.id_of_sequence(message.sequence)),
            killed: self.killed(&queue.consumer.stream, message.sequence).await?,
            now: self.post.clock.now(),
            message,
            queue,
        })
    }

    async fn publish_letter(&self, case: &Case<'_>, decided: &Outcome) -> Result<(), Error> {
        let Some(letter) = case.letter(decided) else { return Ok(()) };
        let subject = Subject::Dead { capability: letter.capability.clone(), id: letter.id.clone() };
        let outgoing = broker::Outgoing::new(subject.render(self.post.namespace()), case.message.body.clone());
        let headers = letter.headers(&case.message.headers);
        let outgoing = self.post.payloads.lighten(outgoing.with_headers(headers)).await?.expecting(0);
        self.post.recorder.record(&outgoing).await?;
        let topic = format!("{}.{}", event::REQUEST_DEAD, letter.id);
        let told = self.post.event(&topic, letter.id.as_str(), &letter).expecting(0);
        self.post.recorder.record(&told).await.map(|_| ())
    }

    /// The outcome that was first. None where the replica that was asked does not have it yet.
    pub(crate) async fn stored_outcome(&self, id: &RequestId) -> Result<Option<Outcome>, Error> {
        let (stream, subject) = outcome_place(&self.post, id);
        let found = self.post.reader.last_of_each(&stream, &[subject]).await?;
        let Some(message) = found.last() else { return Ok(None) };
        let outcome = Outcome::read(id.clone(), &message.headers, &message.body);
        Ok(Some(self.with_failure(outcome).await?))
    }

    /// The outcome with its failure, where that lives in an object: the dead letter tells it.
    async fn with_failure(&self, mut outcome: Outcome) -> Result<Outcome, Error> {
        if outcome.status == Status::Failed
            && let Some(object) = outcome.payload_ref.take()
        {
            match self.post.payloads.get(&object).await {
                Ok(body) => outcome.body = body.to_vec(),
                Err(error) if error.disposition() == Disposition::Retry => return Err(error),
                // The letter is owed all the same, and then says at least this.
                Err(error) => outcome.body = error.to_string().into_bytes(),
            }
        }
        Ok(outcome)
    }

    /// The workers that died with the message.
    async fn killed(&self, stream: &str, sequence: u64) -> Result<Vec<InstanceId>, Error> {
        let entry = self.post.state.get(&mark_key(stream, sequence)).await?;
        let mark: Option<Mark> = entry.and_then(|entry| serde_json::from_slice(&entry.value?).ok());
        Ok(mark.map(|mark| mark.takers).unwrap_or_default())
    }
}

/// Where the outcome of a request is read.
fn outcome_place(post: &Post, id: &RequestId) -> (String, String) {
    let namespace: &Namespace = post.namespace();
    match id.origin() {
        Origin::Step { run, step, item } => {
            (post.names.runs.clone(), stored_step_outcome(namespace, &run, &step, item))
        }
        _ => (post.names.outcomes.clone(), Subject::outcome_of(id).render(namespace)),
    }
}

impl Case<'_> {
    /// A message whose headers lie is a request all the same, under the id of its sequence.
    fn id(&self) -> &RequestId {
        match &self.read {
            Ok(request) => &request.id,
            Err(invalid) => &invalid.id,
        }
    }

    fn attempt(&self) -> u32 {
        self.read.as_ref().map_or(1, |request| request.attempt)
    }

    fn outcome(&self) -> Outcome {
        let mut outcome = Outcome::not_completed(self.id().clone(), Status::Failed, &self.failure());
        outcome.capability = Some(self.queue.capability.clone());
        outcome.attempt = self.attempt();
        outcome.trace = self.read.as_ref().map(|request| request.trace.clone()).unwrap_or_default();
        outcome
    }

    fn failure(&self) -> Failure {
        let message = "the broker gave the message up after too many deliveries without an outcome";
        let mut failure = match &self.read {
            // No worker could have read it.
            Err(invalid) if !self.message.is_readable => invalid.failure.clone(),
            _ => Failure::new(codes::DELIVERIES_EXHAUSTED, message),
        };
        if let Ok(request) = &self.read {
            failure.attempts.clone_from(&request.failures);
        }
        let record = failure.record(self.attempt(), None, None, self.now);
        failure::remember(&mut failure.attempts, record);
        failure
    }

    /// The dead letter, if the request failed and is its own master: a step's failure belongs to its run.
    fn letter(&self, decided: &Outcome) -> Option<DeadLetter> {
        if decided.status != Status::Failed || matches!(self.id().origin(), Origin::Step { .. }) {
            return None;
        }
        Some(DeadLetter {
            id: self.id().clone(),
            capability: self.queue.capability.clone(),
            lane: self.queue.lane(),
            failure: decided.failure().unwrap_or_else(|| self.failure()),
            attempt: decided.attempt,
            instance: decided.instance.clone(),
            version: None,
            killed: self.killed.clone(),
            published_at: Some(self.message.time),
            dead_at: self.now,
        })
    }
}

#[cfg(test)]
mod tests {
    use protocol::{ContentType, Headers, Lane, header, topology::Source};

    use super::*;
    use crate::queues::tests::queue;

    fn message() -> StoredMessage {
        StoredMessage {
            subject: "fleet.urgent.echo".to_owned(),
            sequence: 4,
            time: Timestamp::default(),
            headers: Headers::new(),
            is_readable: true,
            body: "{}".into(),
        }
    }

    fn letter_after(id: &str, decided: Status) -> Option<DeadLetter> {
        let queue = queue("echo", Source::Lane(Lane::Urgent), 1, 0, 0);
        let id = RequestId::parse(id).unwrap();
        let message = message();
        let case = Case {
            queue: &queue,
            message: &message,
            read: Ok(Request::new(id.clone())),
            killed: Vec::new(),
            now: Timestamp::default(),
        };
        let outcome = match decided {
            Status::Completed => Outcome::completed(id, ContentType::Json, Vec::new()),
            status => Outcome::not_completed(id, status, &Failure::new(codes::TIMEOUT, "slow")),
        };
        case.letter(&outcome)
    }

    #[test]
    fn only_a_failed_request_of_its_own_leaves_a_dead_letter() {
        for (id, decided, code) in [
            ("a", Status::Failed, Some(codes::TIMEOUT)),
            ("seq-4", Status::Failed, Some(codes::TIMEOUT)),
            ("a", Status::Completed, None),
            ("a", Status::Expired, None),
            ("a", Status::Cancelled, None),
            ("run~step~0", Status::Failed, None),
        ] {
            let letter = letter_after(id, decided);
            assert_eq!(letter.as_ref().map(|letter| letter.failure.code.as_str()), code, "{id} {decided}");
            assert!(letter.is_none_or(|letter| letter.lane == Lane::Urgent));
        }
    }

    #[test]
    fn headers_that_lie_give_the_id_by_sequence_and_those_that_are_none_the_code() {
        for (name, is_readable, id, code) in [
            ("order-1", true, "order-1", codes::DELIVERIES_EXHAUSTED),
            ("no id", true, "seq-4", codes::DELIVERIES_EXHAUSTED),
            ("a\rb", false, "seq-4", codes::INVALID_HEADER),
        ] {
            let queue = queue("echo", Source::Lane(Lane::Normal), 1, 0, 0);
            let mut message = message();
            message.headers.set(header::REQUEST_ID, name);
            message.is_readable = is_readable;
            let case = Case {
                read: Request::read(&message.headers, RequestId::of_sequence(4)),
                queue: &queue,
                message: &message,
                killed: Vec::new(),
                now: Timestamp::default(),
            };
            assert_eq!((case.id().as_str(), case.failure().code.as_str()), (id, code));
        }
    }
}
