//! Being steered: the verbs that whoever operates the fleet says to a running agent, each answered with what it did.
//!
//! What is said over core NATS is a request of somebody who waits, so that nothing is met with silence: what is unknown
//! or makes no sense is an error to the sender.

use std::{sync::Arc, time::Duration};

use broker::{Message, Outgoing, Subscription, task};
use protocol::{
    Failure, codes,
    control::{CancelNotice, ControlAnswer, Effect, NoArgument, SetLog, SetSlots},
    limits,
    registry::State,
    subject::{Verb, filter},
};
use serde::de::DeserializeOwned;

use crate::{error::Error, machinery::Machinery, presence::Presence};

/// How long the registry entry may take to say what was done, before the answer goes without it.
const TOLD_WITHIN: Duration = Duration::from_secs(1);

/// How long an answer may take to leave before the drain begins that it speaks of.
const FLUSHED_WITHIN: Duration = Duration::from_secs(1);

/// What is said to this agent, and what is said to all.
#[derive(Debug)]
pub(crate) struct Control {
    own: Subscription,
    all: Subscription,
}

/// What is left to do when the answer has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    Nothing,
    Tell,
    Drain,
    Restart,
}

impl Control {
    /// Begins to listen: what is said from now on is heard.
    pub(crate) async fn begin(machinery: &Machinery) -> Result<Self, Error> {
        let namespace = &machinery.config.namespace;
        let own = machinery.connection.subscribe(filter::control(namespace, Some(&machinery.surroundings.instance)));
        let all = machinery.connection.subscribe(filter::control(namespace, None));
        Ok(Self { own: own.await?, all: all.await? })
    }

    /// Does what is said, one after the other, for ever.
    pub(crate) async fn heed(mut self, machinery: Arc<Machinery>, presence: Arc<Presence>) {
        loop {
            let message = tokio::select! {
                message = self.own.next() => message,
                message = self.all.next() => message,
            };
            let Some(message) = message else { return };
            let token = message.subject.rsplit('.').next().unwrap_or_default();
            let verb = Verb::parse(token);
            // The endpoint of the micro service answers this one.
            if verb == Some(Verb::Inspect) && !message.subject.ends_with(".all.inspect") && presence.is_service() {
                continue;
            }
            if verb == Some(Verb::Inspect) {
                answer(&machinery, &message, &presence.inspection()).await;
                continue;
            }
            let (done, then) = match verb {
                Some(verb) => match machinery.steer(verb, &message.body) {
                    Ok((effect, then)) => (Ok(effect), then),
                    Err(failure) => (Err(failure), Then::Nothing),
                },
                None => (Err(unknown(token)), Then::Nothing),
            };
            if then == Then::Tell {
                // Whoever looks when the answer is there finds it in the registry.
                let _ = tokio::time::timeout(TOLD_WITHIN, presence.tell()).await;
            }
            log(token, &done);
            let state = if matches!(then, Then::Drain | Then::Restart) { State::Draining } else { machinery.state() };
            let (effect, refusal) = match done {
                Ok(effect) => (Some(effect), None),
                Err(failure) => (None, Some(failure)),
            };
            let surroundings = &machinery.surroundings;
            let (instance, kind) = (surroundings.instance.clone(), surroundings.kind.clone());
            answer(&machinery, &message, &ControlAnswer { instance, kind, state, effect, refusal }).await;
            match then {
                Then::Drain => machinery.shutdown.begin(),
                Then::Restart => machinery.shutdown.begin_again(),
                Then::Nothing | Then::Tell => {}
            }
        }
    }
}

impl Machinery {
    /// Where it is in its life.
    pub(crate) fn state(&self) -> State {
        match (self.shutdown.has_begun(), self.pause.is_set()) {
            (true, _) => State::Draining,
            (false, true) => State::Paused,
            (false, false) => State::Ready,
        }
    }

    /// Does what a verb says, except what has to wait until it is answered.
    fn steer(self: &Arc<Self>, verb: Verb, body: &[u8]) -> Result<(Effect, Then), Failure> {
        let in_hand = self.hands.count();
        match verb {
            Verb::Cancel => {
                let notice: CancelNotice = argument(verb, body)?;
                let running = self.cancels.hear(notice.ids, std::time::Instant::now());
                running.iter().for_each(|id| self.prove_cancelled(id));
                Ok((Effect::Cancelled { running: running.len() }, Then::Nothing))
            }
            Verb::Drain => {
                let NoArgument {} = argument(verb, body)?;
                Ok((Effect::Draining { in_hand }, Then::Drain))
            }
            Verb::Restart => {
                let NoArgument {} = argument(verb, body)?;
                self.stays(verb)?;
                Ok((Effect::Restarting { in_hand }, Then::Restart))
            }
            Verb::Pause => {
                let NoArgument {} = argument(verb, body)?;
                self.stays(verb)?;
                self.pause.set(true);
                Ok((Effect::Paused { in_hand }, Then::Tell))
            }
            Verb::Resume => {
                let NoArgument {} = argument(verb, body)?;
                self.stays(verb)?;
                self.pause.set(false);
                Ok((Effect::Resumed, Then::Tell))
            }
            Verb::SetSlots => {
                let SetSlots { slots } = argument(verb, body)?;
                if !(1..=limits::SLOTS_MAX).contains(&slots) {
                    let message = format!("slots is {slots}; 1 to {} are allowed", limits::SLOTS_MAX);
                    return Err(Failure::new(codes::INVALID_INPUT, message));
                }
                let before = self.slots.resize(slots);
                Ok((Effect::Slots { before, now: slots, busy: self.slots.busy() }, Then::Tell))
            }
            Verb::SetLog => {
                let SetLog { level } = argument(verb, body)?;
                let (before, now) = self.logs.set_level(&level).map_err(|error| match error {
                    process::logging::LevelError::Invalid(message) => Failure::new(codes::INVALID_INPUT, message),
                    process::logging::LevelError::Foreign => Failure::new(
                        codes::UNSUPPORTED,
                        "this agent's program keeps its log itself; run it with process::run, or set its own level",
                    ),
                })?;
                Ok((Effect::Log { before, now }, Then::Nothing))
            }
            Verb::Inspect => Err(unknown(verb.token())),
        }
    }

    /// An agent that is about to end is neither paused nor started again.
    fn stays(&self, verb: Verb) -> Result<(), Failure> {
        if !self.shutdown.has_begun() {
            return Ok(());
        }
        let message = format!("it ends what it has and goes, so it does not {} any more", verb.token());
        Err(Failure::new(codes::DRAINING, message))
    }
}

/// An empty body is an empty object.
fn argument<T: DeserializeOwned>(verb: Verb, body: &[u8]) -> Result<T, Failure> {
    let body = if body.is_empty() { b"{}" } else { body };
    serde_json::from_slice(body).map_err(|error| {
        let expected = match verb {
            Verb::Cancel => r#"{"ids": ["req_…"]}"#,
            Verb::SetSlots => r#"{"slots": 4}"#,
            Verb::SetLog => r#"{"level": "debug"}"#,
            _ => "nothing",
        };
        Failure::new(codes::INVALID_INPUT, format!("{} takes {expected}: {error}", verb.token()))
    })
}

fn unknown(token: &str) -> Failure {
    let known = Verb::ALL.map(Verb::token).join(", ");
    Failure::new(
        codes::UNKNOWN_VERB,
        format!("agents do not know `{}`; they know {known}", limits::truncate(token, 60)),
    )
}

fn log(token: &str, done: &Result<Effect, Failure>) {
    match done {
        // A cancel is told to all, and concerns few.
        Ok(Effect::Cancelled { running }) => tracing::debug!(running, "heard of a cancel"),
        Ok(effect) => tracing::info!(verb = token, effect = ?effect, "steered"),
        Err(failure) => tracing::warn!(verb = token, %failure, "not steered"),
    }
}

/// Answers whoever waits for it, and sees that it has left.
async fn answer<T: serde::Serialize>(machinery: &Machinery, message: &Message, answer: &T) {
    let Some(reply) = &message.reply else { return };
    let body = serde_json::to_vec(answer).unwrap_or_default();
    let sent = async {
        machinery.connection.publish_core(Outgoing::new(reply.clone(), body)).await?;
        machinery.connection.flush().await
    };
    match tokio::time::timeout(FLUSHED_WITHIN, sent).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "not answered"),
        Err(_) => tracing::debug!("not answered in time"),
    }
}

/// Listens and heeds for as long as the task is kept.
pub(crate) fn start(control: Control, machinery: &Arc<Machinery>, presence: &Arc<Presence>) -> task::Owned<()> {
    task::spawn("control", control.heed(Arc::clone(machinery), Arc::clone(presence)))
}
