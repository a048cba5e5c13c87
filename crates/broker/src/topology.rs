//! Makes the broker agree with the topology table: shows the difference, makes it, checks it. It never deletes and
//! never recreates a stream; a consumer is made anew only by [`recreate_consumer`], which loses no message.

use std::{collections::BTreeMap, time::Duration};

use protocol::{
    Namespace, byte_size,
    service::Attendance,
    time::{self, Timestamp},
    topology::{self, Consumer, Drift, Settings, Stream},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::{
    Connection, api,
    error::{Error, Kind},
    retry::{Waits, end_of},
};

mod config;
pub mod inspect;
mod mend;
mod steer;

pub use mend::{recreate_consumer, update_consumer};
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

/// How a consumer stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConsumerState {
    /// The consumer as it is.
    pub consumer: Consumer,
    /// What it has not yet delivered.
    pub pending: u64,
    /// What is delivered and not yet acknowledged.
    pub ack_pending: u64,
    /// Of those, what was delivered more than once.
    pub redelivered: u64,
    /// Pulls that wait.
    pub waiting: u64,
    /// Everything of its subjects up to this stream sequence is acknowledged, or given up.
    pub ack_floor: u64,
    /// The last stream sequence that was delivered.
    pub delivered: u64,
    /// Deliveries so far, each redelivery counted.
    pub deliveries: u64,
    /// When it delivered last, or somebody extended the deadline of what is in hand.
    pub last_active: Option<Timestamp>,
    /// Whether it is paused.
    pub is_paused: bool,
    /// Until when, if it is.
    pub paused_until: Option<Timestamp>,
    /// When this was so, on the broker's clock.
    pub at: Timestamp,
}

impl ConsumerState {
    /// What it tells of those who pull from it. The moment of the last delivery is also that of the last extension: the
    /// broker notes both as one.
    pub fn attendance(&self) -> Attendance {
        Attendance {
            pulls: self.waiting,
            in_hand: self.ack_pending,
            last_moved: self.last_active,
            ack_deadline: self.consumer.ack_wait,
        }
    }
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

/// What a stream holds under a filter, by the leader's index of subjects, which needs no file to be read.
#[derive(Clone, Debug)]
pub struct Counted {
    /// How many messages there are of each subject.
    pub subjects: BTreeMap<String, u64>,
    /// The last sequence of the whole stream, just before they were counted.
    pub last_sequence: u64,
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

#[derive(Deserialize)]
struct ConsumerInfo {
    stream_name: String,
    config: Value,
    delivered: SequenceInfo,
    ack_floor: SequenceInfo,
    num_ack_pending: u64,
    #[serde(default)]
    num_redelivered: u64,
    num_waiting: u64,
    num_pending: u64,
    #[serde(default)]
    paused: bool,
    ts: Option<Timestamp>,
}

#[derive(Deserialize)]
struct SequenceInfo {
    consumer_seq: u64,
    stream_seq: u64,
    last_active: Option<Timestamp>,
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

/// How many messages a stream holds of each subject under a filter.
///
/// # Errors
/// `NotFound`, or what the API says.
pub async fn subject_counts(
    connection: &Connection,
    stream: &str,
    filter: &str,
) -> Result<BTreeMap<String, u64>, Error> {
    Ok(counted(connection, stream, filter).await?.subjects)
}

/// The same, with where the stream was then.
///
/// # Errors
/// `NotFound`, or what the API says.
pub async fn counted(connection: &Connection, stream: &str, filter: &str) -> Result<Counted, Error> {
    #[derive(Deserialize)]
    struct Info {
        state: State,
    }
    #[derive(Deserialize)]
    struct State {
        last_seq: u64,
        #[serde(default)]
        subjects: BTreeMap<String, u64>,
    }
    let mut counted = Counted { subjects: BTreeMap::new(), last_sequence: u64::MAX };
    loop {
        let before = counted.subjects.len();
        let question = json!({ "subjects_filter": filter, "offset": before });
        let info: Info = api::ask(connection, &format!("STREAM.INFO.{stream}"), &question).await?;
        counted.last_sequence = counted.last_sequence.min(info.state.last_seq);
        counted.subjects.extend(info.state.subjects);
        if counted.subjects.len() == before || !counted.subjects.len().is_multiple_of(100_000) {
            return Ok(counted);
        }
    }
}

/// Makes a consumer if it is not there, and refuses one that is different. It never changes one.
///
/// # Errors
/// `Exists` with what differs and what to do; else what the API says.
pub async fn ensure_consumer(connection: &Connection, expected: &Consumer) -> Result<(), Error> {
    ensure(connection, expected, &config::of_consumer(expected)).await
}

/// The same for one that is to begin at this sequence of its stream, if it has to be made. One that is there goes on where
/// it is.
///
/// # Errors
/// Those of [`ensure_consumer`].
pub async fn ensure_consumer_from(connection: &Connection, expected: &Consumer, first: u64) -> Result<(), Error> {
    let mut order = config::of_consumer(expected);
    order["config"]["deliver_policy"] = "by_start_sequence".into();
    order["config"]["opt_start_seq"] = first.max(1).into();
    ensure(connection, expected, &order).await
}

async fn ensure(connection: &Connection, expected: &Consumer, order: &Value) -> Result<(), Error> {
    let mut order = order.clone();
    for _ in 0..4 {
        match consumer_state(connection, &expected.stream, &expected.name).await {
            Ok(found) => return refuse_drift(expected, &found.consumer),
            Err(error) if error.kind() == Kind::NotFound => {}
            Err(error) => return Err(error),
        }
        let what = format!("CONSUMER.CREATE.{}.{}.{}", expected.stream, expected.name, expected.filter);
        match api::ask::<_, Value>(connection, &what, &order).await {
            Ok(_) => return Ok(()),
            // Another worker was first; the next turn compares.
            Err(error) if error.kind() == Kind::Exists => {}
            // Measured on 2.15.1: a server that does not flush each message may find the state file of a consumer torn after
            // a loss of power. It then neither recovers that consumer nor makes it anew, for as long as the file is there,
            // and what is queued for it is delivered to nobody. In memory it makes it.
            Err(error) if is_store_unmade(&error) && order["config"]["mem_storage"] != true => {
                tracing::warn!(
                    stream = expected.stream,
                    consumer = expected.name,
                    "the broker cannot read its file of this consumer, so it keeps it in memory; `sortie doctor` says what to do"
                );
                order["config"]["mem_storage"] = true.into();
            }
            Err(error) => return Err(error.during(&format!("consumer {}", expected.name))),
        }
    }
    Err(Error::new(Kind::TimedOut, format!("consumer {} is made and deleted by others", expected.name)))
}

/// 10012 is also the answer to other consumers that cannot be made.
fn is_store_unmade(error: &Error) -> bool {
    error.kind() == Kind::Api(10012) && error.to_string().contains("creating store")
}

fn refuse_drift(expected: &Consumer, found: &Consumer) -> Result<(), Error> {
    let drifts = topology::drift_of_consumer(expected, found);
    if drifts.is_empty() {
        return Ok(());
    }
    let told: Vec<String> = drifts.iter().map(ToString::to_string).collect();
    let mended = match drifts.iter().any(Drift::needs_new_consumer) {
        true => "sortie topology apply --recreate",
        false => "sortie topology apply",
    };
    let message = format!(
        "consumer {} of {} is different: {}; mend it with `{mended}` (its messages stay) and start again",
        expected.name,
        expected.stream,
        told.join(", "),
    );
    Err(Error::new(Kind::Exists, message))
}

/// How a consumer stands.
///
/// # Errors
/// `NotFound`, or what the API says.
pub async fn consumer_state(connection: &Connection, stream: &str, name: &str) -> Result<ConsumerState, Error> {
    let info: ConsumerInfo = api::ask_empty(connection, &format!("CONSUMER.INFO.{stream}.{name}")).await?;
    Ok(state_of(info))
}

/// How every consumer of a stream stands, by name. On a cluster one whose leader does not answer is left out.
///
/// # Errors
/// `NotFound`, or what the API says.
pub async fn consumer_states(connection: &Connection, stream: &str) -> Result<Vec<ConsumerState>, Error> {
    #[derive(Deserialize)]
    struct List {
        total: usize,
        limit: usize,
        consumers: Option<Vec<ConsumerInfo>>,
    }
    let mut all = Vec::new();
    let mut offset = 0;
    loop {
        let question = json!({ "offset": offset });
        let list: List = api::ask(connection, &format!("CONSUMER.LIST.{stream}"), &question).await?;
        all.extend(list.consumers.unwrap_or_default().into_iter().map(state_of));
        offset += list.limit.max(1);
        if offset >= list.total {
            return Ok(all);
        }
    }
}

fn state_of(info: ConsumerInfo) -> ConsumerState {
    // The end of a pause that is over stays in the configuration.
    let until = info.config["pause_until"].as_str().and_then(|text| time::parse(text).ok());
    ConsumerState {
        consumer: config::to_consumer(&info.stream_name, &info.config),
        pending: info.num_pending,
        ack_pending: info.num_ack_pending,
        redelivered: info.num_redelivered,
        waiting: info.num_waiting,
        ack_floor: info.ack_floor.stream_seq,
        delivered: info.delivered.stream_seq,
        deliveries: info.delivered.consumer_seq,
        last_active: info.delivered.last_active,
        is_paused: info.paused,
        paused_until: until.filter(|_| info.paused),
        at: info.ts.unwrap_or_else(time::now),
    }
}

/// Names of a stream's consumers.
///
/// # Errors
/// What the API says.
pub async fn consumer_names(connection: &Connection, stream: &str) -> Result<Vec<String>, Error> {
    #[derive(Deserialize)]
    struct Names {
        total: usize,
        consumers: Option<Vec<String>>,
    }
    let mut all = Vec::new();
    loop {
        let question = json!({ "offset": all.len() });
        let names: Names = api::ask(connection, &format!("CONSUMER.NAMES.{stream}"), &question).await?;
        let some = names.consumers.unwrap_or_default();
        if some.is_empty() {
            return Ok(all);
        }
        all.extend(some);
        if all.len() >= names.total {
            return Ok(all);
        }
    }
}

/// Purges a subject, up to (not including) a sequence if one is given; says how many messages went. A purge leaves what
/// was delivered in its consumer's ack-pending until the deadline: acknowledge those too.
///
/// # Errors
/// What the API says.
pub async fn purge(connection: &Connection, stream: &str, subject: &str, below: Option<u64>) -> Result<u64, Error> {
    #[derive(Deserialize)]
    struct Purged {
        purged: u64,
    }
    let question = match below {
        Some(sequence) => json!({ "filter": subject, "seq": sequence }),
        None => json!({ "filter": subject }),
    };
    Ok(api::ask::<_, Purged>(connection, &format!("STREAM.PURGE.{stream}"), &question).await?.purged)
}

/// Deletes one message by sequence. It takes milliseconds: not for a hot path.
///
/// # Errors
/// What the API says.
pub async fn delete_message(connection: &Connection, stream: &str, sequence: u64) -> Result<(), Error> {
    let question = json!({ "seq": sequence, "no_erase": true });
    api::ask::<_, Value>(connection, &format!("STREAM.MSG.DELETE.{stream}"), &question).await.map(|_| ())
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
