//! One message from its delivery to its acknowledgement, in this order: is its outcome there already? is it poison?
//! decode; has it expired? run; store what came of it; acknowledge.

use std::{future::Future, sync::Arc, time::Duration};

use broker::{Delivery, StoredMessage};
use bytes::Bytes;
use protocol::{
    Failure, Outcome, Request, Status, codes, header, limits,
    mark::{Mark, UniqueTries},
    topology::Source,
};

use crate::{
    hold::Hold,
    machinery::{Machinery, Route, Served},
    metrics::End,
    slots::Slot,
};

/// A message older than this is looked up before it is run: a delivery can arrive after another worker acknowledged the
/// message, when the node that sent it had been stopped.
const FRESH_AGE_MAX: Duration = Duration::from_secs(1);

/// One message in hand.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) machinery: Arc<Machinery>,
    pub(crate) route: usize,
    pub(crate) delivery: Arc<Delivery>,
    pub(crate) hold: Hold,
    pub(crate) slot: Slot,
    /// Whether this worker's poison mark is on it.
    pub(crate) is_marked: bool,
}

/// What a look before the run says.
enum Before {
    Run { alone: bool },
    Poison(Mark),
    Done(StoredMessage),
}

impl Job {
    pub(crate) fn new(machinery: &Arc<Machinery>, route: usize, delivery: Delivery, slot: Slot) -> Self {
        let delivery = Arc::new(delivery);
        let hold = machinery.holds.begin(&delivery);
        Self { machinery: Arc::clone(machinery), route, delivery, hold, slot, is_marked: false }
    }

    pub(crate) fn route(&self) -> &Route {
        &self.machinery.routes[self.route]
    }

    pub(crate) fn served(&self) -> &Served {
        &self.machinery.served[self.route().served]
    }

    /// Counts how it ended.
    pub(crate) fn count(&self, end: End) {
        self.machinery.metrics.ended(self.served().capability.as_str(), end);
    }

    /// The whole way.
    pub(crate) async fn process(mut self) {
        let fallback = Machinery::fallback_id(self.route(), &self.delivery);
        let (mut request, refusal) = match Request::read(&self.delivery.message.headers, fallback) {
            Ok(request) => (request, None),
            Err(invalid) => (Request::new(invalid.id), Some(invalid.failure)),
        };
        let mut alone = false;
        if !self.is_fresh(&request) {
            let Some(before) = self.look_before(&mut request).await else { return };
            match before {
                Before::Done(outcome) => return self.superseded(&request, &outcome).await,
                Before::Poison(mark) => return self.poisoned(&request, &mark).await,
                Before::Run { alone: is_alone } => alone = is_alone,
            }
        }
        if let Some(failure) = refusal {
            return self.give_up(&request, failure, &[]).await;
        }
        if self.is_expired(&request) {
            return self.expire(&request).await;
        }
        let body = match self.body(&request).await {
            Ok(Some(body)) => body,
            Ok(None) => return,
            Err(failure) => return self.conclude_failure(&request, failure).await,
        };
        let machinery = Arc::clone(&self.machinery);
        let leave = tokio::select! {
            leave = machinery.gate.enter(alone) => leave,
            () = machinery.shutdown.begun() => return self.hand_back().await,
        };
        machinery.metrics.begun(self.served().capability.as_str(), machinery.age(&self.delivery));
        let end = self.attempt(&request, body).await;
        drop(leave);
        self.slot.handler_ended();
        self.conclude(&request, end).await;
    }

    /// Whether it certainly was never run before: then nothing needs to be looked up. A message with a `Nats-Msg-Id` may
    /// be a second publish of a request that is done.
    fn is_fresh(&self, request: &Request) -> bool {
        let headers = &self.delivery.message.headers;
        self.delivery.delivered == 1
            && request.attempt == 1
            && request.snoozes == 0
            && headers.get(header::NATS_SCHEDULER).is_none()
            && headers.get(header::NATS_MSG_ID).is_none()
            && self.machinery.age(&self.delivery) < FRESH_AGE_MAX
            && !self.machinery.cancels.was_heard(&request.id)
    }

    /// Looks for the outcome, and marks what was delivered before; none if another worker has the message by now.
    async fn look_before(&mut self, request: &mut Request) -> Option<Before> {
        let machinery = Arc::clone(&self.machinery);
        let found = self.insist("outcome lookup", || machinery.lookup.outcome(&request.id)).await?;
        if let Some(outcome) = found {
            return Some(Before::Done(outcome));
        }
        if self.delivery.delivered == 1 {
            return Some(Before::Run { alone: false });
        }
        machinery.metrics.redelivered(self.served().capability.as_str());
        if self.route().source == Source::Unique {
            let tries = self.insist("tries", || machinery.marks.tries(&self.delivery)).await?;
            apply_tries(request, tries);
        }
        let mark = self.insist("poison mark", || machinery.marks.put(&self.delivery)).await?;
        self.is_marked = true;
        let marks = u32::try_from(mark.takers.len()).unwrap_or(u32::MAX);
        if marks >= limits::POISON_MARKS {
            return Some(Before::Poison(mark));
        }
        Some(Before::Run { alone: marks + 1 == limits::POISON_MARKS })
    }

    async fn poisoned(mut self, request: &Request, mark: &Mark) {
        let (_, killed) = mark.takers.split_last().unwrap_or((&self.machinery.surroundings.instance, &[]));
        let failure = Failure::new(
            codes::POISON,
            format!(
                "{} workers died with this message in their hands, the last one with nothing beside it",
                killed.len() + 1
            ),
        );
        self.give_up(request, failure, killed).await;
    }

    /// Its outcome is there: whoever finds a failed one writes the dead letter, in case its author died in between.
    pub(crate) async fn superseded(&mut self, request: &Request, found: &StoredMessage) {
        let outcome = Outcome::read(request.id.clone(), &found.headers, &found.body);
        if outcome.status == Status::Failed && request.reply_to.is_none() {
            let failure = outcome.failure().unwrap_or_else(|| Failure::new(codes::HANDLER_FAILED, "unknown"));
            if self.hold.is_lost() {
                return self.count(End::Lost);
            }
            if self.bury(request, &failure, &[]).await.is_none() {
                return;
            }
        }
        self.delivery.ack(&self.machinery.connection).await;
        self.count(End::Superseded);
    }

    /// The body, from the object store where it travels by reference; none if another worker has the message by now.
    async fn body(&self, request: &Request) -> Result<Option<Bytes>, Failure> {
        let Some(object) = &request.payload_ref else { return Ok(Some(self.delivery.message.body.clone())) };
        let mut tries = 0;
        loop {
            let failure = match self.machinery.payloads.get(object).await {
                Ok(body) => return Ok(Some(body)),
                Err(error) if error.kind() == broker::Kind::TooLarge => {
                    return Err(Failure::new(codes::PAYLOAD_TOO_LARGE, error.to_string()));
                }
                Err(error) => Failure::new(codes::PAYLOAD_MISSING, error.to_string()),
            };
            tries += 1;
            if self.hold.is_lost() {
                return Ok(None);
            }
            // A replica may be behind for a moment.
            if tries == 3 {
                return Err(failure);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    fn is_expired(&self, request: &Request) -> bool {
        request.deadline.is_some_and(|deadline| self.machinery.clock.now() >= deadline)
    }

    /// Asks the broker until it answers; none once another worker may have the message.
    pub(crate) async fn insist<T, F, Fut>(&self, what: &str, ask: F) -> Option<T>
    where
        F: Fn() -> Fut + Send,
        Fut: Future<Output = Result<T, broker::Error>> + Send,
    {
        let mut wait = Duration::from_millis(20);
        loop {
            match ask().await {
                Ok(answer) => return Some(answer),
                Err(error) => {
                    tracing::debug!(%error, what, sequence = self.delivery.sequence, "asking again");
                    if self.hold.is_lost() {
                        self.count(End::Lost);
                        return None;
                    }
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(Duration::from_secs(1));
                }
            }
        }
    }
}

fn apply_tries(request: &mut Request, tries: Option<UniqueTries>) {
    if let Some(tries) = tries {
        request.attempt = tries.attempt.max(1);
        request.snoozes = tries.snoozes;
        request.failures = tries.failures;
    }
}
