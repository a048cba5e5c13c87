//! Carrying out what an attempt's end means. The order in which things are stored is the promise: the outcome first,
//! which decides; then the dead letter; then the acknowledgement.

use std::{sync::Arc, time::Duration};

use broker::{Kind, Outgoing, PayloadStore, Reader, Settled, is_schedule, scheduled_at};
use bytes::Bytes;
use protocol::{
    Capability, DeadLetter, Failure, InstanceId, Outcome, Request, Status, Subject, codes, duration, event, failure,
    header, limits,
    mark::UniqueTries,
    subject,
    time::Timestamp,
    topology::{Names, Source},
};

use crate::{
    Reply,
    attempt_end::{AttemptEnd, Next, Situation, decide},
    metrics::End,
    pipeline::Job,
};

/// After how long a message that is given back is delivered again. Without a delay it would come back at once, also to
/// this worker.
const HAND_BACK_DELAY: Duration = Duration::from_millis(50);

/// After how long a message whose end the broker refuses to store is tried again; twice as long each time, because a
/// permission that was mistaken is mended by people, and deliveries are bounded.
const REFUSED_DELAY: Duration = Duration::from_secs(5);
const REFUSED_DELAY_MAX: Duration = Duration::from_secs(300);

/// Why a request is given up instead of tried again.
const NO_ROOM: &str = "the request's headers leave no room for those of another attempt";

/// The request's headers leave no room for those of another attempt.
struct NoRoom;

impl Job {
    /// Decides and carries out.
    pub(crate) async fn conclude(&mut self, request: &Request, end: AttemptEnd) {
        let policy = request.policy(&self.served().config.retry);
        let next = decide(
            end,
            &Situation {
                attempt: request.attempt,
                policy: &policy,
                give_up_codes: &self.served().config.give_up_codes,
                deadline: request.deadline,
                now: self.machinery.clock.now(),
                chance: chance(),
            },
        );
        match next {
            Next::Complete(reply) => self.complete(request, reply).await,
            Next::Expire => Box::pin(self.expire(request)).await,
            Next::GiveUp(failure) => Box::pin(self.give_up(request, failure, &[])).await,
            Next::Retry { failure, delay } => Box::pin(self.retry(request, &failure, delay)).await,
            Next::Snooze { delay, code } => Box::pin(self.snooze(request, delay, code)).await,
            Next::HandOver { to } => Box::pin(self.hand_over(request, to)).await,
            Next::Drop => Box::pin(self.drop_cancelled(request)).await,
            Next::HandBack => Box::pin(self.hand_back()).await,
        }
    }

    /// For what failed before the handler could be run.
    pub(crate) async fn conclude_failure(&mut self, request: &Request, failure: Failure) {
        self.conclude(request, AttemptEnd::Failed(failure)).await;
    }

    async fn complete(&mut self, request: &Request, reply: Reply) {
        let outcome = Outcome::completed(request.id.clone(), reply.content_type, reply.body);
        if self.store(request, outcome).await.is_some() {
            self.ack().await;
            self.count(End::Completed);
        }
    }

    pub(crate) async fn expire(&mut self, request: &Request) {
        if self.store(request, Outcome::expired(request.id.clone())).await.is_some() {
            self.ack().await;
            self.count(End::Expired);
        }
    }

    /// Stores the failed outcome, then the dead letter, then acknowledges.
    pub(crate) async fn give_up(&mut self, request: &Request, failure: Failure, killed: &[InstanceId]) {
        if self.hold.is_lost() {
            return self.lost();
        }
        let failure = self.with_attempts(request, failure);
        let outcome = Outcome::not_completed(request.id.clone(), Status::Failed, &failure);
        let Some(settled) = self.store(request, outcome).await else { return };
        if settled == Settled::Superseded {
            // It may be our own try, or somebody else's word: what is stored decides about the dead letter.
            let machinery = Arc::clone(&self.machinery);
            let found = self.insist("outcome lookup", || machinery.lookup.outcome(&request.id)).await;
            return match found {
                Some(Some(outcome)) => self.superseded(request, &outcome).await,
                Some(None) => Box::pin(self.hand_back()).await,
                None => {}
            };
        }
        if request.reply_to.is_none() && self.bury(request, &failure, killed).await.is_none() {
            return;
        }
        self.ack().await;
        self.count(End::GivenUp);
    }

    /// Publishes until it is settled, but not when another worker may have the message: what a retry or a failure says
    /// may be long overtaken then. None if it was not settled.
    async fn settle_while_held(&self, outgoing: Outgoing) -> Option<Settled> {
        let machinery = &self.machinery;
        let name = PayloadStore::new_name();
        let settled = async {
            let lighten = || machinery.payloads.lighten_as(&name, outgoing.clone());
            let lightened = self.insist("large body", lighten).await?;
            match machinery.publisher.settle(&lightened).await {
                Ok(settled) => {
                    machinery.refused.forget(&lightened.subject);
                    Some(settled)
                }
                Err(error) => {
                    self.refused(&lightened.subject, &error).await;
                    None
                }
            }
        };
        tokio::select! {
            settled = settled => settled,
            () = self.hold.lost() => {
                self.lost();
                None
            }
        }
    }

    /// Stores the dead letter, once; none if it could not be.
    pub(crate) async fn bury(&self, request: &Request, failure: &Failure, killed: &[InstanceId]) -> Option<()> {
        let machinery = &self.machinery;
        let capability = self.served().capability.clone();
        let letter = DeadLetter {
            id: request.id.clone(),
            capability: capability.clone(),
            lane: self.route().lane(),
            failure: failure.clone(),
            attempt: request.attempt,
            instance: Some(machinery.surroundings.instance.clone()),
            version: Some(machinery.config.version.clone()),
            killed: killed.to_vec(),
            published_at: Some(self.delivery.published_at),
            dead_at: machinery.clock.now(),
        };
        let namespace = &machinery.config.namespace;
        let at = Subject::Dead { capability, id: request.id.clone() }.render(namespace);
        let headers = letter.headers(&self.delivery.message.headers);
        let outgoing = Outgoing::new(at, self.delivery.message.body.clone()).with_headers(headers).expecting(0);
        self.settle_while_held(outgoing).await?;
        tracing::warn!(request.id = %request.id, capability = %letter.capability, attempt = request.attempt, %failure, "gave up");
        self.tell_dead(request, &letter).await;
        Some(())
    }

    /// The event is a courtesy beside the stored dead letter: it is tried for a moment.
    async fn tell_dead(&self, request: &Request, letter: &DeadLetter) {
        let topic = format!("{}.{}", event::REQUEST_DEAD, request.id);
        let source = format!("/{}/{}", self.machinery.config.namespace, self.machinery.surroundings.kind);
        let headers = event::headers(request.id.as_str(), &source, &topic, letter.dead_at);
        let body = serde_json::to_vec(letter).unwrap_or_default();
        let outgoing = Outgoing::new(subject::event(&self.machinery.config.namespace, &topic), body)
            .with_headers(headers)
            .expecting(0);
        if let Err(error) = self.machinery.publisher.publish_within(&outgoing, Duration::from_secs(2)).await {
            tracing::debug!(%error, "event not stored");
        }
    }

    /// Another attempt: a schedule, so that the wait holds no slot; unique work waits in place and keeps its key.
    async fn retry(&mut self, request: &Request, failure: &Failure, delay: Duration) {
        let mut next = request.clone();
        next.attempt += 1;
        next.snoozed_for = None;
        self.remember(&mut next.failures, request, failure);
        tracing::info!(request.id = %request.id, attempt = request.attempt, %failure, delay_ms = delay.as_millis(), "retrying");
        if self.put_off(next, delay, End::Retried).await.is_err() {
            let mut failure = failure.clone();
            failure.causes.push(NO_ROOM.to_owned());
            self.give_up(request, failure, &[]).await;
        }
    }

    async fn snooze(&mut self, request: &Request, delay: Duration, code: String) {
        let mut next = request.clone();
        next.snoozes += 1;
        next.snoozed_for = Some(code);
        if self.put_off(next, delay, End::Snoozed).await.is_err() {
            self.give_up(request, Failure::new(codes::INVALID_HEADER, NO_ROOM), &[]).await;
        }
    }

    /// Another capability does it, by way of a schedule that is due at once: only what comes from a schedule may carry
    /// the id of a sequence. The worker that does it applies its own policy, unless the request has one.
    async fn hand_over(&mut self, request: &Request, to: Capability) {
        if self.hold.is_lost() {
            return self.lost();
        }
        let mut next = request.clone();
        next.snoozed_for = None;
        next.came_from.push(self.served().capability.clone());
        let due = self.machinery.clock.now();
        let message_id = format!("{}:{}.{}@{to}", next.id, next.attempt, next.snoozes);
        let outgoing = self.scheduled(&next, due, to, message_id);
        if outgoing.headers.check().is_err() {
            let failure = Failure::new(codes::INVALID_HEADER, NO_ROOM);
            return self.give_up(request, failure, &[]).await;
        }
        if self.store_what_comes(outgoing).await {
            self.ack().await;
            self.count(End::HandedOver);
        }
    }

    async fn put_off(&mut self, mut next: Request, delay: Duration, end: End) -> Result<(), NoRoom> {
        if self.hold.is_lost() {
            self.lost();
            return Ok(());
        }
        let delay = delay.clamp(limits::SCHEDULE_DELAY_MIN, duration::DURATION_MAX);
        if self.route().source == Source::Unique {
            self.wait_in_place(next, delay, end).await;
            return Ok(());
        }
        // Whoever runs the next attempt may declare something else: what held for the first holds for all.
        let policy = next.policy(&self.served().config.retry);
        next.attempts_max = Some(policy.attempts_max);
        next.backoff = Some(policy.backoff);
        next.timeout = Some(next.timeout.unwrap_or(self.served().config.timeout));
        let due = self.machinery.clock.now() + chrono::TimeDelta::from_std(delay).unwrap_or_default();
        let capability = self.served().capability.clone();
        let message_id = format!("{}:{}.{}", next.id, next.attempt, next.snoozes);
        let mut outgoing = self.scheduled(&next, due, capability.clone(), message_id.clone());
        if outgoing.headers.check().is_err() {
            next.failures.clear();
            outgoing = self.scheduled(&next, due, capability, message_id);
            outgoing.headers.check().map_err(|_| NoRoom)?;
        }
        if self.store_what_comes(outgoing).await {
            self.ack().await;
            self.count(end);
        }
        Ok(())
    }

    /// Stores a schedule of this request, and says whether it has one now, or had, so that its message may go.
    ///
    /// That the broker has seen the id of a schedule says that it was stored once, and not that anything came of it: of two
    /// attempts that an old delivery has begun side by side, one may have taken the place of the other's. So then it is stored
    /// under no id. What fired already is tried once more for it, and may be.
    async fn store_what_comes(&self, mut outgoing: Outgoing) -> bool {
        match self.settle_while_held(outgoing.clone()).await {
            Some(Settled::Stored(stored)) if stored.duplicate => {
                outgoing.headers.retain(|name| !name.eq_ignore_ascii_case(header::NATS_MSG_ID));
                self.settle_while_held(outgoing).await.is_some()
            }
            Some(Settled::Superseded) => self.takes_the_place(outgoing).await,
            settled => settled.is_some(),
        }
    }

    /// What waits there is this request, too, and then it has what it needs. But what is no schedule never fires: whoever stored it
    /// there forgot the header, or means harm.
    async fn takes_the_place(&self, mut outgoing: Outgoing) -> bool {
        let machinery = &self.machinery;
        let (reader, stream) = (Reader::new(&machinery.connection), Names::of(&machinery.config.namespace).requests);
        match reader.last_as_leader_reads(&stream, &outgoing.subject).await {
            Ok(Some(there)) if !is_schedule(&there.headers) => {
                let subject = &outgoing.subject;
                tracing::warn!(subject, sequence = there.sequence, "what lies there is no schedule, and is replaced");
                outgoing.headers.retain(|name| !name.eq_ignore_ascii_case(header::NATS_MSG_ID));
                self.settle_while_held(outgoing.expecting(there.sequence)).await.is_some()
            }
            Ok(_) => true,
            Err(error) => {
                tracing::warn!(%error, "not looked what lies where a schedule belongs: the message comes again");
                // Who may not look takes it for one.
                error.kind() == Kind::Forbidden
            }
        }
    }

    fn scheduled(&self, next: &Request, due: Timestamp, capability: Capability, message_id: String) -> Outgoing {
        let namespace = &self.machinery.config.namespace;
        // What another version of us wrote is handed on, too.
        let mut headers = self.delivery.message.headers.handed_on();
        next.write(&mut headers);
        let target = Subject::Request { lane: self.route().lane(), capability };
        let waiting =
            Outgoing::new(Subject::Later(next.id.clone()).render(namespace), self.delivery.message.body.clone())
                .with_headers(headers)
                .with_message_id(message_id)
                // What waits there already is this request, too, and maybe further: it is not replaced by an older attempt of
                // it, such as one that came back when the server was started again.
                .expecting(0);
        scheduled_at(waiting, due, &target.render(namespace))
    }

    async fn wait_in_place(&mut self, next: Request, delay: Duration, end: End) {
        let machinery = Arc::clone(&self.machinery);
        let tries = UniqueTries {
            attempt: next.attempt,
            snoozes: next.snoozes,
            snoozed_for: next.snoozed_for,
            failures: next.failures,
        };
        let kept = self.insist("tries", || machinery.marks.remember_tries(&self.delivery, &tries, delay)).await;
        if kept.is_none() || !self.take_back_mark().await || self.hold.is_lost() {
            return;
        }
        self.delivery.nak(&machinery.connection, delay).await;
        self.count(end);
    }

    /// It was told to end because it is cancelled; the word of a core message alone lets nothing go.
    async fn drop_cancelled(&mut self, request: &Request) {
        let machinery = Arc::clone(&self.machinery);
        match self.insist("outcome lookup", || machinery.lookup.outcome(&request.id)).await {
            Some(Some(_)) => {
                self.ack().await;
                self.count(End::Cancelled);
            }
            Some(None) => {
                machinery.cancels.forget(&request.id);
                self.hand_back().await;
            }
            None => {}
        }
    }

    /// Gives the message to another worker, as it came.
    pub(crate) async fn hand_back(&mut self) {
        if self.hold.is_lost() {
            return self.lost();
        }
        if !self.take_back_mark().await || self.hold.is_lost() {
            return;
        }
        self.delivery.nak(&self.machinery.connection, HAND_BACK_DELAY).await;
        self.count(End::HandedBack);
    }

    /// Another worker may have the message.
    fn lost(&self) {
        self.count(End::Lost);
    }

    /// Takes it out of the queue; nobody asks for its marks any more.
    pub(crate) async fn ack(&mut self) {
        self.is_marked = false;
        self.delivery.ack(&self.machinery.connection).await;
    }

    /// This worker is alive, so whatever it could not end it does not leave a mark on, as if it had died.
    pub(crate) async fn leave_alive(&mut self) {
        self.is_marked = false;
        if let Err(error) = self.machinery.marks.take_back(&self.delivery).await {
            tracing::debug!(%error, "poison mark not taken back");
        }
    }

    pub(crate) async fn take_back_mark(&mut self) -> bool {
        if !self.is_marked {
            return true;
        }
        let machinery = Arc::clone(&self.machinery);
        let taken = self.insist("poison mark", || machinery.marks.take_back(&self.delivery)).await;
        self.is_marked = taken.is_none();
        taken.is_some()
    }

    /// Stores an outcome at its one place; none if the broker refuses it for good.
    async fn store(&self, request: &Request, mut outcome: Outcome) -> Option<Settled> {
        let machinery = &self.machinery;
        outcome.capability = Some(self.served().capability.clone());
        outcome.attempt = request.attempt;
        outcome.instance = Some(machinery.surroundings.instance.clone());
        outcome.trace = request.trace.clone();
        let inline_max = limits::BODY_INLINE_BYTES_MAX.min(machinery.connection.payload_bytes_max() / 2);
        if outcome.body.len() > inline_max {
            let (name, body) = (PayloadStore::new_name(), Bytes::from(std::mem::take(&mut outcome.body)));
            Box::pin(self.insist("large result", || machinery.payloads.put_as(&name, &body))).await?;
            outcome.payload_ref = Some(name);
        }
        let at = Subject::outcome_of(&request.id).render(&machinery.config.namespace);
        let is_result = outcome.status == Status::Completed;
        let headers = outcome.headers();
        let outgoing = Outgoing::new(at, outcome.body).with_headers(headers).expecting(0);
        if !is_result {
            return Box::pin(self.settle_while_held(outgoing)).await;
        }
        // A result counts whoever has the message by now: the work is done.
        match machinery.publisher.settle(&outgoing).await {
            Ok(settled) => {
                machinery.refused.forget(&outgoing.subject);
                Some(settled)
            }
            Err(error) => {
                Box::pin(self.refused(&outgoing.subject, &error)).await;
                None
            }
        }
    }

    /// The broker will not take it, whatever is tried: say so, to whoever looks at the registry too, and let the message
    /// come again later.
    async fn refused(&self, subject: &str, error: &broker::Error) {
        self.machinery.refused.note(subject, error);
        let capability = &self.served().capability;
        tracing::error!(%error, %capability, sequence = self.delivery.sequence, "the broker refuses what must be stored");
        if !self.hold.is_lost() {
            let times = 1_u32 << self.delivery.delivered.saturating_sub(1).min(10);
            let delay = (REFUSED_DELAY * times).min(REFUSED_DELAY_MAX);
            self.delivery.nak(&self.machinery.connection, delay).await;
        }
    }

    fn with_attempts(&self, request: &Request, mut last: Failure) -> Failure {
        let mut attempts = request.failures.clone();
        // What was refused before any attempt has no attempt to tell of.
        if ![codes::INVALID_HEADER, codes::POISON].contains(&last.code.as_str()) {
            self.remember(&mut attempts, request, &last);
        }
        last.attempts = attempts;
        last
    }

    fn remember(&self, attempts: &mut Vec<protocol::AttemptRecord>, request: &Request, last: &Failure) {
        let machinery = &self.machinery;
        let instance = Some(machinery.surroundings.instance.clone());
        let record = last.record(request.attempt, instance, Some(&machinery.config.version), machinery.clock.now());
        failure::remember(attempts, record);
    }
}

/// The one door to chance: it spreads retries.
#[allow(clippy::disallowed_methods, reason = "this is the door that the ban points to")]
fn chance() -> f64 {
    rand::random()
}
