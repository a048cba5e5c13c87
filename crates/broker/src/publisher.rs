//! Every publish that must be stored goes through here.
//!
//! Only an acknowledgement, or the refusal that the last sequence is another one, settles a publish. On a replicated
//! stream a publish that meets another one still being replicated is refused with 10164 or 10158, and that other one may
//! never be stored (its leader can die): so this, like a time-out or a missing leader, means: try again.

mod group;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use protocol::Namespace;
use serde::Deserialize;
use tokio::sync::Semaphore;

use crate::{
    Connection, Outgoing, api,
    error::{Disposition, Error, Kind},
    retry::{Waits, end_of},
};
use group::Groups;

/// Publishes of one process that wait for their acknowledgement at once: enough to fill a stream's pipeline, few enough
/// to bound memory.
const IN_FLIGHT_MAX: usize = 4_096;

/// How long one acknowledgement is waited for.
const ACK_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the first one is waited for where trying again is harmless; twice as long each time after it. What a leader
/// has in hand when it leaves is never answered, and a worker's slots wait for it; a broker that is only slow is given
/// longer with every try.
const ACK_TIMEOUT_FIRST: Duration = Duration::from_secs(1);

/// What the broker says of a stored message.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Stored {
    /// The stream.
    pub stream: String,
    /// Its sequence there.
    #[serde(rename = "seq")]
    pub sequence: u64,
    /// Whether it was there already, by its `Nats-Msg-Id`.
    #[serde(default)]
    pub duplicate: bool,
}

/// Whether it may be published, asked directly before each try; none where it always may.
type May<'a> = Option<&'a (dyn Fn() -> bool + Sync)>;

/// How a publish ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settled {
    /// It is stored.
    Stored(Stored),
    /// Another message was first on this subject. It may be an earlier try of the same publish.
    Superseded,
}

/// Publishes and waits for the acknowledgement.
#[derive(Clone, Debug)]
pub struct Publisher {
    connection: Connection,
    in_flight: Arc<Semaphore>,
    groups: Option<Arc<Groups>>,
}

impl Publisher {
    /// One for a connection; clones share its bound of what is in flight.
    pub fn new(connection: &Connection) -> Self {
        Self { connection: connection.clone(), in_flight: Arc::new(Semaphore::new(IN_FLIGHT_MAX)), groups: None }
    }

    /// The same, which publishes requests and outcomes in batches where the streams of this fleet are set to be published to
    /// so, and enough of them are on their way at once.
    #[must_use]
    pub fn in_groups(self, namespace: &Namespace) -> Self {
        let groups = Some(Arc::new(Groups::of(&self.connection, namespace)));
        Self { groups, ..self }
    }

    /// One try.
    ///
    /// # Errors
    /// What the broker says; after `TimedOut` the message may be stored all the same.
    pub async fn publish(&self, outgoing: &Outgoing) -> Result<Stored, Error> {
        self.publish_once(outgoing, ACK_TIMEOUT, None).await
    }

    async fn publish_once(&self, outgoing: &Outgoing, timeout: Duration, may: May<'_>) -> Result<Stored, Error> {
        outgoing.headers.check().map_err(|fault| Error::new(Kind::TooLarge, fault))?;
        let Ok(_permit) = self.in_flight.acquire().await else {
            return Err(Error::new(Kind::Unreachable, "the connection is closed"));
        };
        match (may, self.groups.as_ref().and_then(|groups| groups.group_of(outgoing))) {
            (None, Some(group)) => group.publish(outgoing, timeout).await,
            // Nothing is waited for between here and the publish.
            (Some(may), _) if !may() => Err(Error::new(Kind::Fenced, "it is another's to publish this")),
            _ => publish_alone(&self.connection, outgoing, timeout).await,
        }
    }

    /// Tries until it is settled, without an end of its own: whoever calls drops the future when it no longer matters.
    ///
    /// # Errors
    /// Only what would be refused again: too large, forbidden, a full subject, a malformed message, a stream that takes
    /// nothing of the kind.
    pub async fn settle(&self, outgoing: &Outgoing) -> Result<Settled, Error> {
        self.settle_if(outgoing, None).await
    }

    /// The same for as long as `may` says so, which is asked directly before every try.
    ///
    /// # Errors
    /// Those of [`settle`](Self::settle), and `Fenced` when `may` said no. What was tried before may be stored.
    pub async fn settle_while(&self, outgoing: &Outgoing, may: &(dyn Fn() -> bool + Sync)) -> Result<Settled, Error> {
        self.settle_if(outgoing, Some(may)).await
    }

    async fn settle_if(&self, outgoing: &Outgoing, may: May<'_>) -> Result<Settled, Error> {
        let mut waits = Waits::new(Duration::from_millis(5), Duration::from_secs(2));
        let mut tried = 0_u64;
        let mut timeout = ACK_TIMEOUT_FIRST;
        loop {
            match self.publish_once(outgoing, timeout, may).await {
                Ok(stored) => return Ok(Settled::Stored(stored)),
                Err(error) if error.kind() == Kind::WrongSequence => return Ok(Settled::Superseded),
                Err(error) if error.disposition() != Disposition::Retry => return Err(error),
                Err(error) => {
                    tried += 1;
                    if tried.is_power_of_two() && tried > 2 {
                        tracing::warn!(subject = outgoing.subject, tried, %error, "publish not settled, trying again");
                    }
                    timeout = (timeout * 2).min(ACK_TIMEOUT);
                    tokio::time::sleep(waits.next()).await;
                }
            }
        }
    }

    /// Tries until it is stored or `within` has passed.
    ///
    /// # Errors
    /// What cannot be mended by trying again, at once; else the last error when the time is over. A message that is
    /// refused after a time-out because its subject is taken may be this one.
    pub async fn publish_within(&self, outgoing: &Outgoing, within: Duration) -> Result<Stored, Error> {
        let until = end_of(within);
        let mut waits = Waits::new(Duration::from_millis(5), Duration::from_secs(1));
        loop {
            match self.publish(outgoing).await {
                Ok(stored) => return Ok(stored),
                Err(error) if error.disposition() != Disposition::Retry || Instant::now() >= until => {
                    return Err(error);
                }
                // A full store does not empty within seconds, and a caller can do something about it.
                Err(error) if error.kind() == Kind::StoreFull => return Err(error),
                Err(_) => tokio::time::sleep(waits.next()).await,
            }
        }
    }
}

/// Publishes it and waits for what the broker says of it.
async fn publish_alone(connection: &Connection, outgoing: &Outgoing, timeout: Duration) -> Result<Stored, Error> {
    let Outgoing { subject, headers, body } = outgoing;
    let answer = connection.request(subject.clone(), Some(headers), body.clone(), timeout).await;
    let answer = answer.map_err(|error| match error.kind() {
        Kind::NoResponders => {
            Error::new(Kind::NoResponders, format!("no stream takes {subject}; `sortie topology apply` makes them"))
        }
        _ => error.during(subject),
    })?;
    api::parse(&answer.body)
}
