//! Steering running agents, and asking them.

use std::time::Duration;

use bytes::Bytes;
use protocol::{
    InstanceId, Subject,
    control::{ControlAnswer, Inspection, SetLog, SetSlots},
    subject::Verb,
};
use serde::de::DeserializeOwned;

use crate::{Client, Error, ErrorKind};

/// What is wished of a running agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Steering {
    /// It pulls no more, ends what it has and exits with 0. It loses nothing and burns no attempt.
    Drain,
    /// The same, but it exits with 75, for its supervisor to start it again.
    Restart,
    /// It pulls no more, ends what it has and stays.
    Pause,
    /// It pulls again.
    Resume,
    /// It has this many slots, from 1 to 1,000.
    SetSlots(usize),
    /// It logs this: a level, levels by module, or `default` for what it started with.
    SetLog(String),
}

impl Steering {
    /// The verb that says it.
    pub fn verb(&self) -> Verb {
        match self {
            Self::Drain => Verb::Drain,
            Self::Restart => Verb::Restart,
            Self::Pause => Verb::Pause,
            Self::Resume => Verb::Resume,
            Self::SetSlots(_) => Verb::SetSlots,
            Self::SetLog(_) => Verb::SetLog,
        }
    }

    fn body(&self) -> Bytes {
        let body = match self {
            Self::SetSlots(slots) => serde_json::to_vec(&SetSlots { slots: *slots }),
            Self::SetLog(level) => serde_json::to_vec(&SetLog { level: level.clone() }),
            _ => return Bytes::new(),
        };
        body.unwrap_or_default().into()
    }
}

impl Client {
    /// Steers one agent, and gives its answer: what it did, or why it refused.
    ///
    /// # Errors
    /// `NotFound` when no agent of this id is connected, `TimedOut` when it does not answer within this time: it may have
    /// done it all the same; `Unreadable` when it answers something else.
    pub async fn steer(
        &self,
        instance: &InstanceId,
        steering: &Steering,
        within: Duration,
    ) -> Result<ControlAnswer, Error> {
        self.tell(instance, steering.verb(), steering.body(), within).await
    }

    /// What an agent is and has in its hands at this moment, as it says itself.
    ///
    /// # Errors
    /// `NotFound` when no agent of this id is connected, `TimedOut` when it does not answer within this time,
    /// `Unreadable` when it answers something else.
    pub async fn inspect(&self, instance: &InstanceId, within: Duration) -> Result<Inspection, Error> {
        self.tell(instance, Verb::Inspect, Bytes::new(), within).await
    }

    async fn tell<T: DeserializeOwned>(
        &self,
        instance: &InstanceId,
        verb: Verb,
        body: Bytes,
        within: Duration,
    ) -> Result<T, Error> {
        let subject = Subject::Control { instance: Some(instance.clone()), verb }.render(self.namespace());
        let answer = self.connection().request(subject, None, body, within).await;
        let answer = answer.map_err(|error| match error.kind() {
            broker::Kind::NoResponders => Error::new(
                ErrorKind::NotFound,
                format!("agent {instance} is not connected: it is gone, or was never there; see `sortie agents list`"),
            ),
            _ => Error::from(error).during(&format!("agent {instance}")),
        })?;
        serde_json::from_slice(&answer.body).map_err(|error| {
            let message = format!("agent {instance} answers to {} what cannot be read: {error}", verb.token());
            Error::new(ErrorKind::Unreadable, message)
        })
    }
}
