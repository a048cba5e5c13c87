//! Consumers: made where they are not there, never changed here, and how they stand.

use protocol::{
    service::Attendance,
    time::{self, Timestamp},
    topology::{self, Consumer, Drift},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::config;
use crate::{
    Connection, api,
    error::{Error, Kind},
};

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

#[derive(Deserialize)]
pub(super) struct ConsumerInfo {
    stream_name: String,
    pub(super) config: Value,
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
    listed(connection, &format!("CONSUMER.NAMES.{stream}")).await
}

/// All that the API tells of a stream's consumers, answer by answer.
pub(super) async fn listed<T: DeserializeOwned>(connection: &Connection, what: &str) -> Result<Vec<T>, Error> {
    #[derive(Deserialize)]
    struct List<T> {
        total: usize,
        consumers: Option<Vec<T>>,
    }
    let mut all = Vec::new();
    loop {
        let list: List<T> = api::ask(connection, what, &json!({ "offset": all.len() })).await?;
        let some = list.consumers.unwrap_or_default();
        let is_end = some.is_empty();
        all.extend(some);
        if is_end || all.len() >= list.total {
            return Ok(all);
        }
    }
}
