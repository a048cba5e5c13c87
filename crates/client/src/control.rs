//! Telling running agents, and asking them.

use std::time::Duration;

use bytes::Bytes;
use protocol::{InstanceId, Subject, control::Inspection, subject::Verb};

use crate::{Client, Error, ErrorKind};

impl Client {
    /// What an agent is and has in its hands at this moment, as it says itself.
    ///
    /// # Errors
    /// `NotFound` when no agent of this id is connected, `TimedOut` when it does not answer within this time,
    /// `Unreadable` when it answers something else.
    pub async fn inspect(&self, instance: &InstanceId, within: Duration) -> Result<Inspection, Error> {
        let answer = self.tell(instance, Verb::Inspect, Bytes::new(), within).await?;
        serde_json::from_slice(&answer).map_err(|error| {
            Error::new(ErrorKind::Unreadable, format!("agent {instance} answers what is no inspection: {error}"))
        })
    }

    /// Sends one agent a verb, and gives its answer as it is.
    async fn tell(&self, instance: &InstanceId, verb: Verb, body: Bytes, within: Duration) -> Result<Bytes, Error> {
        let subject = Subject::Control { instance: Some(instance.clone()), verb }.render(self.namespace());
        let answer = self.connection().request(subject, None, body, within).await;
        answer.map(|message| message.body).map_err(|error| match error.kind() {
            broker::Kind::NoResponders => Error::new(
                ErrorKind::NotFound,
                format!("agent {instance} is not connected: it is gone, or was never there"),
            ),
            _ => error.into(),
        })
    }
}
