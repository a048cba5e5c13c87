//! One message from its delivery to its acknowledgement, in this order: is its outcome there already? is it poison?
//! decode; has it expired? run; store what came of it; acknowledge.

use std::{future::Future, sync::Arc, time::Duration};

use broker::{Delivery, Disposition, Kind, Outgoing, StoredMessage};
use bytes::Bytes;
use protocol::{
    Failure, InstanceId, Origin, Outcome, Request, RequestId, RunFact, RunId, Status, Subject, codes, header, limits,
    mark::UniqueTries, time, topology::Source,
};

use crate::{
    gate::Leave,
    hold::Hold,
    machinery::{Machinery, Route, Served},
    metrics::End,
    slots::Slot,
};

/// A message older than this is looked up before it is run: a delivery can arrive after another worker acknowledged the
/// message, when the node that sent it had been stopped.
const FRESH_AGE_MAX: Duration = Duration::from_secs(1);

/// How often, and how far apart, an object is asked for that a replica may not have yet.
const OBJECT_TRIES: u32 = 5;
const OBJECT_WAIT: Duration = Duration::from_millis(200);

/// How long a message waits behind one that is to run alone, before another worker may have it.
const BEHIND_MAX: Duration = Duration::from_secs(1);

/// How long a run is told to end.
const TOLD_WITHIN: Duration = Duration::from_secs(2);

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
    /// Whether its first delivery, which nobody marks, is known to have ended alive.
    began_alive: bool,
}

/// What a look before the run says.
enum Before {
    Run { alone: bool },
    Poison(Vec<InstanceId>),
    Done(StoredMessage),
}

enum Verdict {
    BesideOthers,
    Alone,
    Poison,
}

impl Job {
    pub(crate) fn new(machinery: &Arc<Machinery>, route: usize, delivery: Delivery, slot: Slot) -> Self {
        let delivery = Arc::new(delivery);
        let hold = machinery.holds.begin(&delivery);
        Self { machinery: Arc::clone(machinery), route, delivery, hold, slot, is_marked: false, began_alive: false }
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
        self.go().await;
        if self.is_marked {
            Box::pin(self.leave_alive()).await;
        }
    }

    /// What is rare is boxed: the way of a fresh request that completes is what every message carries in memory.
    async fn go(&mut self) {
        let fallback = Machinery::fallback_id(self.route(), &self.delivery);
        let (mut request, refusal) = match Request::read(&self.delivery.message.headers, fallback) {
            Ok(request) => (request, None),
            Err(invalid) => (Request::new(invalid.id), Some(invalid.failure)),
        };
        let mut alone = false;
        if !self.is_fresh(&request) {
            let Some(before) = Box::pin(self.look_before(&mut request)).await else { return };
            match before {
                Before::Done(outcome) => return Box::pin(self.superseded(&request, &outcome)).await,
                Before::Poison(killed) => return Box::pin(self.poisoned(&request, &killed)).await,
                Before::Run { alone: is_alone } => alone = is_alone,
            }
        }
        if let Some(failure) = refusal {
            return Box::pin(self.give_up(&request, failure, &[])).await;
        }
        if self.is_expired(&request) {
            return Box::pin(self.expire(&request)).await;
        }
        let _in_hand = self.machinery.hands.take(&request, &self.served().capability, self.machinery.clock.now());
        let Some(leave) = self.begin(&request, alone).await else { return };
        let body = match self.body(&request).await {
            Ok(Some(body)) => body,
            Ok(None) => return self.count(End::Lost),
            Err(failure) => {
                drop(leave);
                return Box::pin(self.conclude_failure(&request, failure)).await;
            }
        };
        // Leave and body may have taken their time.
        if self.is_expired(&request) {
            drop(leave);
            return Box::pin(self.expire(&request)).await;
        }
        self.machinery.metrics.begun(self.served().capability.as_str(), self.machinery.age(&self.delivery));
        let end = self.attempt(&request, body).await;
        drop(leave);
        self.slot.handler_ended();
        self.conclude(&request, end).await;
    }

    /// Waits for leave to begin, and then marks what was delivered before: while it waits, another message may kill the
    /// process, and that death is not its own. None if there is nothing to begin.
    async fn begin(&mut self, request: &Request, mut alone: bool) -> Option<Leave> {
        let machinery = Arc::clone(&self.machinery);
        loop {
            let leave = tokio::select! {
                biased;
                () = machinery.shutdown.begun() => {
                    Box::pin(self.hand_back()).await;
                    return None;
                }
                leave = machinery.gate.enter(alone) => leave,
                () = tokio::time::sleep(BEHIND_MAX), if !alone => {
                    Box::pin(self.hand_back()).await;
                    return None;
                }
            };
            if self.hold.is_lost() {
                self.count(End::Lost);
                return None;
            }
            if self.delivery.delivered == 1 {
                return Some(leave);
            }
            let mark = Box::pin(self.insist("poison mark", || machinery.marks.put(&self.delivery))).await?;
            self.is_marked = true;
            let earlier = mark.takers.split_last().map_or(&[][..], |(_, earlier)| earlier);
            match verdict(self.deaths(earlier)) {
                Verdict::Poison => {
                    drop(leave);
                    Box::pin(self.poisoned(request, earlier)).await;
                    return None;
                }
                // A replica that was behind told of fewer marks than there are.
                Verdict::Alone if !alone => {
                    drop(leave);
                    alone = true;
                    if !Box::pin(self.take_back_mark()).await {
                        return None;
                    }
                }
                Verdict::Alone | Verdict::BesideOthers => return Some(leave),
            }
        }
    }

    /// Whether it certainly was never run before: then nothing needs to be looked up. A message with a `Nats-Msg-Id` may
    /// be a second publish of a request that is done, but for a step's that was published as soon as the step was ready.
    fn is_fresh(&self, request: &Request) -> bool {
        let headers = &self.delivery.message.headers;
        self.delivery.delivered == 1
            && request.attempt == 1
            && request.snoozes == 0
            && headers.get(header::NATS_SCHEDULER).is_none()
            && (headers.get(header::NATS_MSG_ID).is_none() || self.is_first_of_step(request))
            && self.machinery.age(&self.delivery) < FRESH_AGE_MAX
            && !self.machinery.cancels.was_heard(&request.id)
    }

    /// Whether a step's request was stored within a second of the fact that made the step ready. An earlier one of the same id
    /// would be younger than that fact too, and the broker remembers ids for longer: it would have kept this one away.
    fn is_first_of_step(&self, request: &Request) -> bool {
        let ready_at = self.delivery.message.headers.get(header::READY_AT).and_then(|text| time::parse(text).ok());
        let waited = ready_at.and_then(|ready| (self.delivery.published_at - ready).to_std().ok());
        request.reply_to.is_some() && waited.is_some_and(|waited| waited < FRESH_AGE_MAX)
    }

    /// Looks for the outcome, and for the marks of what was delivered before; none if another worker has the message by
    /// now.
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
            self.began_alive = tries.is_some();
            apply_tries(request, tries);
        }
        let mark = self.insist("poison mark", || machinery.marks.get(&self.delivery)).await?;
        Some(match verdict(self.deaths(&mark.takers)) {
            Verdict::Poison => Before::Poison(mark.takers),
            Verdict::Alone => Before::Run { alone: true },
            Verdict::BesideOthers => Before::Run { alone: false },
        })
    }

    /// How many workers were lost with it in their hands: those that had marked it, and the first one, which had not.
    fn deaths(&self, marked: &[InstanceId]) -> usize {
        marked.len() + usize::from(!self.began_alive)
    }

    /// Tells a run to end whose outcome is there, and says whether that was stored. Steps of such a run are not done: one that is
    /// alive, because somebody cancelled a request without knowing that a workflow serves it, would wait for them for ever.
    async fn has_told_to_end(&self, run: &RunId) -> bool {
        let at = Subject::Run { run: run.clone(), fact: RunFact::Cancel }.render(&self.machinery.config.namespace);
        let outgoing = Outgoing::new(at, "").with_message_id(format!("{run}~cancel"));
        match self.machinery.publisher.publish_within(&outgoing, TOLD_WITHIN).await {
            Ok(_) => true,
            Err(error) => {
                tracing::warn!(%run, %error, "a run that has its outcome was not told to end");
                // Who may not tell it cannot do more.
                matches!(error.kind(), Kind::Forbidden) || error.disposition() == Disposition::Reject
            }
        }
    }

    async fn poisoned(&mut self, request: &Request, killed: &[InstanceId]) {
        let failure = Failure::new(
            codes::POISON,
            format!(
                "{} workers died with this message in their hands, the last one with nothing beside it",
                self.deaths(killed)
            ),
        );
        self.give_up(request, failure, killed).await;
    }

    /// Its outcome is there: whoever finds a failed one writes the dead letter, in case its author died in between.
    pub(crate) async fn superseded(&mut self, request: &Request, found: &StoredMessage) {
        let mut outcome = Outcome::read(request.id.clone(), &found.headers, &found.body);
        if outcome.status == Status::Failed && request.reply_to.is_none() {
            if let Some(object) = outcome.payload_ref.take() {
                match Box::pin(self.fetch_body(&object)).await {
                    Ok(Some(body)) => outcome.body = body.to_vec(),
                    // Counted already.
                    Ok(None) => return,
                    // The letter is owed all the same, and then says at least this.
                    Err(failure) => outcome.body = failure.message.into_bytes(),
                }
            }
            let failure = outcome.failure().unwrap_or_else(|| Failure::new(codes::HANDLER_FAILED, "unknown"));
            if self.hold.is_lost() {
                return self.count(End::Lost);
            }
            if self.bury(request, &failure, &[]).await.is_none() {
                return;
            }
        }
        if let Origin::Step { run, .. } = request.id.origin()
            && found.subject == Subject::outcome_of(&RequestId::from(&run)).render(&self.machinery.config.namespace)
            && !self.has_told_to_end(&run).await
        {
            return Box::pin(self.hand_back()).await;
        }
        self.ack().await;
        self.count(End::Superseded);
    }

    /// The body, from the object store where it travels by reference; none if another worker has the message by now.
    async fn body(&self, request: &Request) -> Result<Option<Bytes>, Failure> {
        let Some(object) = &request.payload_ref else { return Ok(Some(self.delivery.message.body.clone())) };
        Box::pin(self.fetch_body(object)).await
    }

    /// Only an object that is not there is a failure of the request: a broker that does not answer is asked again.
    async fn fetch_body(&self, object: &str) -> Result<Option<Bytes>, Failure> {
        for tried in 1.. {
            let got = self.insist("large body", || async {
                match self.machinery.payloads.get(object).await {
                    Err(error) if matches!(error.kind(), broker::Kind::NotFound | broker::Kind::TooLarge) => {
                        Ok(Err(error))
                    }
                    other => other.map(Ok),
                }
            });
            match got.await {
                None => return Ok(None),
                Some(Ok(body)) => return Ok(Some(body)),
                Some(Err(error)) if error.kind() == broker::Kind::TooLarge => {
                    return Err(Failure::new(codes::PAYLOAD_TOO_LARGE, error.to_string()));
                }
                // A replica may be behind for a moment.
                Some(Err(error)) if tried == OBJECT_TRIES => {
                    return Err(Failure::new(codes::PAYLOAD_MISSING, error.to_string()));
                }
                Some(Err(_)) => tokio::time::sleep(OBJECT_WAIT).await,
            }
        }
        Ok(None)
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

/// How a message is begun with which that many workers were lost.
fn verdict(deaths: usize) -> Verdict {
    match limits::POISON_MARKS.saturating_sub(u32::try_from(deaths).unwrap_or(u32::MAX)) {
        0 => Verdict::Poison,
        1 => Verdict::Alone,
        _ => Verdict::BesideOthers,
    }
}

fn apply_tries(request: &mut Request, tries: Option<UniqueTries>) {
    if let Some(tries) = tries {
        request.attempt = tries.attempt.max(1);
        request.snoozes = tries.snoozes;
        request.snoozed_for = tries.snoozed_for;
        request.failures = tries.failures;
    }
}
