//! Makes the broker agree with the topology table: shows the difference, makes it, checks it. It never deletes and
//! never recreates a stream; a consumer is made anew only by [`recreate_consumer`], which loses no message.

use std::time::Duration;

use protocol::{
    Namespace, byte_size,
    topology::{self, Drift, Settings, Stream},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::{
    Connection, api,
    error::{Error, Kind},
    retry::{Waits, end_of},
};

mod config;
mod consumers;
pub mod inspect;
mod mend;
mod messages;
mod steer;

use consumers::ConsumerInfo;
pub use consumers::{
    ConsumerState, consumer_names, consumer_state, consumer_states, ensure_consumer, ensure_consumer_from,
};
pub use mend::{recreate_consumer, update_consumer};
pub use messages::{Counted, counted, delete_message, purge, subject_counts};
pub use steer::{limit_consumer, pause_consumer, resume_consumer, unpin_consumer};

/// How long one stream may go without a leader while it is made or changed.
const ANSWERED_WITHIN: Duration = Duration::from_secs(30);

/// What has to be done to one stream or bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "action")]
pub enum Change {
    /// It is as it should be.
    None {
        /// The stream.
        stream: String,
    },
    /// It is not there.
    Create {
        /// The stream.
        stream: String,
    },
    /// Some fields differ.
    Update {
        /// The stream.
        stream: String,
        /// What differs.
        drift: Vec<Drift>,
    },
}

/// How a stream stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamState {
    /// The stream as it is.
    pub stream: Stream,
    /// Messages in it.
    pub messages: u64,
    /// Sequence of the last one.
    pub last_sequence: u64,
    /// Name of the server that leads it, on a cluster.
    pub leader: Option<String>,
}

#[derive(Deserialize)]
struct StreamInfo {
    config: Value,
    state: StreamInfoState,
    cluster: Option<ClusterInfo>,
}

#[derive(Deserialize)]
struct StreamInfoState {
    messages: u64,
    last_seq: u64,
}

#[derive(Deserialize)]
struct ClusterInfo {
    leader: Option<String>,
}

/// What would be done, without doing it.
///
/// # Errors
/// What the API says.
pub async fn plan(connection: &Connection, namespace: &Namespace, settings: &Settings) -> Result<Vec<Change>, Error> {
    let mut changes = Vec::new();
    for expected in topology::streams(namespace, settings) {
        changes.push(plan_one(connection, &expected).await?);
    }
    Ok(changes)
}

/// Creates what is missing and updates what differs; says what it did.
///
/// # Errors
/// What the API says; a field that the server does not change (retention, for one) is named by it.
pub async fn apply(connection: &Connection, namespace: &Namespace, settings: &Settings) -> Result<Vec<Change>, Error> {
    let mut changes = Vec::new();
    for expected in topology::streams(namespace, settings) {
        let change = plan_one(connection, &expected).await?;
        match &change {
            Change::None { .. } => {}
            Change::Create { stream } => {
                let wanted = config::of_stream(&expected, None);
                let made: Result<Value, Error> = persist(connection, &format!("STREAM.CREATE.{stream}"), &wanted).await;
                // Somebody else may have made it since; what differs then is shown by the next plan.
                match made {
                    Ok(_) => {}
                    Err(error) if error.kind() == Kind::Exists => {}
                    Err(error) => return Err(refused(&expected, error)),
                }
            }
            Change::Update { stream, .. } => {
                let existing = patient_info(connection, stream).await?.config;
                let wanted = config::of_stream(&expected, Some(existing));
                let updated: Result<Value, Error> =
                    persist(connection, &format!("STREAM.UPDATE.{stream}"), &wanted).await;
                updated.map_err(|error| refused(&expected, error))?;
            }
        }
        changes.push(change);
    }
    Ok(changes)
}

/// A bound in bytes is also a reservation, which a small store may not have room for.
fn refused(expected: &Stream, error: Error) -> Error {
    match expected.max_bytes {
        Some(bytes) if error.kind() == Kind::StoreFull => Error::new(
            Kind::StoreFull,
            format!(
                "{} reserves {}, which the server's store does not have free: give the server more (max_file_store), or \
                 the stream fewer (`sortie topology apply --logs-bytes-max 8MB`): {error}",
                expected.name,
                byte_size::format(bytes)
            ),
        ),
        _ => error.during(&expected.name),
    }
}

async fn plan_one(connection: &Connection, expected: &Stream) -> Result<Change, Error> {
    let stream = expected.name.clone();
    let found = match patient_info(connection, &stream).await {
        Ok(info) => config::to_stream(&info.config),
        Err(error) if error.kind() == Kind::NotFound => return Ok(Change::Create { stream }),
        Err(error) => return Err(error),
    };
    let drift = topology::drift_of_stream(expected, &found);
    Ok(if drift.is_empty() { Change::None { stream } } else { Change::Update { stream, drift } })
}

/// How a stream stands.
///
/// # Errors
/// `NotFound`, or what the API says.
pub async fn stream_state(connection: &Connection, stream: &str) -> Result<StreamState, Error> {
    let info = stream_info(connection, stream).await?;
    Ok(StreamState {
        stream: config::to_stream(&info.config),
        messages: info.state.messages,
        last_sequence: info.state.last_seq,
        leader: info.cluster.and_then(|cluster| cluster.leader),
    })
}

/// Waits until the streams are there, for processes that start before somebody applied the topology.
///
/// # Errors
/// `NotFound` with what to do, when they are not there in time.
pub async fn wait_for_stream(connection: &Connection, stream: &str, within: Duration) -> Result<StreamState, Error> {
    let until = end_of(within);
    loop {
        match stream_state(connection, stream).await {
            Ok(state) => return Ok(state),
            Err(_) if std::time::Instant::now() < until => tokio::time::sleep(Duration::from_millis(100)).await,
            Err(error) if error.kind() == Kind::NotFound => {
                let message = format!("stream {stream} is not there; make the streams with `sortie topology apply`");
                return Err(Error::new(Kind::NotFound, message));
            }
            Err(error) => return Err(error),
        }
    }
}

async fn stream_info(connection: &Connection, stream: &str) -> Result<StreamInfo, Error> {
    api::ask_empty(connection, &format!("STREAM.INFO.{stream}")).await
}

async fn patient_info(connection: &Connection, stream: &str) -> Result<StreamInfo, Error> {
    persist(connection, &format!("STREAM.INFO.{stream}"), &json!({})).await
}

/// Asks what may be asked twice until it is answered. A stream has no leader while its copies are made, and then nobody
/// answers for it.
async fn persist<A: DeserializeOwned>(connection: &Connection, what: &str, question: &Value) -> Result<A, Error> {
    persist_within(connection, what, question, ANSWERED_WITHIN).await
}

async fn persist_within<A: DeserializeOwned>(
    connection: &Connection,
    what: &str,
    question: &Value,
    within: Duration,
) -> Result<A, Error> {
    let until = end_of(within);
    let mut waits = Waits::new(Duration::from_millis(50), Duration::from_secs(1));
    loop {
        match api::ask(connection, what, question).await {
            Err(error) if is_election(&error) && std::time::Instant::now() < until => {
                tokio::time::sleep(waits.next()).await;
            }
            answered => return answered,
        }
    }
}

/// Nobody answered, or who did is no leader (10009) or knows none (10008).
fn is_election(error: &Error) -> bool {
    matches!(error.kind(), Kind::TimedOut | Kind::Api(10008 | 10009))
}
