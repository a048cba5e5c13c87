//! What the broker says of itself, its streams and its consumers, for whoever examines it: more than a program needs to
//! work with them.

use std::time::{Duration, Instant};

use chrono::TimeDelta;
use protocol::{
    service::Attendance,
    time::{self, Timestamp},
    topology::{Consumer, Stream},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{config, consumers::listed, persist_within};
use crate::{
    Connection, api,
    error::{Error, Kind},
};

/// How long the server may take to say whom it takes us for, and what only some accounts may ask.
const ASIDE_WITHIN: Duration = Duration::from_secs(2);

/// Subjects that one answer tells at most.
const SUBJECTS_TOLD: usize = 100_000;

/// Answers that are read where a list has no end.
const LISTS_MAX: usize = 4;

impl ConsumerFacts {
    /// What it tells of those who pull from it.
    pub fn attendance(&self) -> Attendance {
        Attendance {
            pulls: self.waiting,
            in_hand: self.ack_pending,
            last_moved: self.last_active,
            ack_deadline: self.consumer.ack_wait,
        }
    }
}

/// The server that this connection is with.
#[derive(Clone, Debug, Serialize)]
pub struct ServerFacts {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its cluster; none where it is alone.
    pub cluster: Option<String>,
}

/// What the account holds of the store, in bytes, and may hold.
#[derive(Clone, Debug, Serialize)]
pub struct AccountFacts {
    /// Stored in files.
    pub stored: u64,
    /// What may be stored in files; none where only the server has a bound, which it does not tell here.
    pub stored_max: Option<u64>,
    /// The level of the JetStream API: 4 is that of 2.14.
    pub api_level: u64,
}

/// Whom the server takes us for.
#[derive(Clone, Debug, Default, Serialize)]
pub struct UserFacts {
    /// The user; empty where there are none.
    pub user: String,
    /// Its account.
    pub account: String,
    /// What it may publish; none where there is no such list.
    pub publish_allowed: Option<Vec<String>>,
    /// What it may not publish.
    pub publish_denied: Vec<String>,
}

/// What only the system account may ask, and the monitoring port tells.
#[derive(Clone, Debug, Serialize)]
pub struct StoreFacts {
    /// How often what is stored is flushed to the disk; zero means before each acknowledgement.
    pub sync_interval: Option<Duration>,
    /// What the server stores, in bytes.
    pub stored: u64,
    /// What it may store, in bytes.
    pub stored_max: Option<u64>,
    /// Consumers that a stream admits where it says nothing; none where the server does not say.
    pub consumers_max: Option<i64>,
}

/// A copy of a stream, beside the one of its leader.
#[derive(Clone, Debug, Serialize)]
pub struct CopyFacts {
    /// The server that has it.
    pub server: String,
    /// Whether it has what the leader has.
    pub is_current: bool,
    /// Whether its server cannot be seen.
    pub is_offline: bool,
    /// Operations that it is behind.
    pub lag: u64,
}

/// A stream as it is.
#[derive(Clone, Debug, Serialize)]
pub struct StreamFacts {
    /// Its configuration.
    pub stream: Stream,
    /// Messages in it.
    pub messages: u64,
    /// What they take, in bytes.
    pub bytes: u64,
    /// When its oldest message was stored; none where it is empty.
    pub first_at: Option<Timestamp>,
    /// Sequence of its last message.
    pub last_sequence: u64,
    /// Consumers that it has.
    pub consumers: u64,
    /// The server that leads it, on a cluster.
    pub leader: Option<String>,
    /// Its other copies.
    pub copies: Vec<CopyFacts>,
    /// How far the clock of the server that leads it is ahead of this machine's; negative where it is behind.
    #[serde(skip)]
    pub clock_ahead: TimeDelta,
    /// How long its answer took: what `clock_ahead` may be wrong by.
    pub answered_in: Duration,
}

/// A consumer as it is.
#[derive(Clone, Debug, Serialize)]
pub struct ConsumerFacts {
    /// Its configuration.
    pub consumer: Consumer,
    /// What it has not yet delivered.
    pub pending: u64,
    /// What is delivered and not yet acknowledged.
    pub ack_pending: u64,
    /// Of those, what was delivered more than once.
    pub redelivered: u64,
    /// Pulls that wait.
    pub waiting: u64,
    /// The last stream sequence that was delivered.
    pub delivered: u64,
    /// Everything of its subjects up to this stream sequence is acknowledged, or given up.
    pub ack_floor: u64,
    /// When it delivered last, or somebody extended the deadline of what is in hand.
    pub last_active: Option<Timestamp>,
    /// Until when it is paused, where it is.
    pub paused_until: Option<Timestamp>,
    /// Where it stands is in the server's memory alone, and is forgotten when the server ends; its messages are not.
    pub is_in_memory: bool,
}

/// The server that this connection is with.
pub fn server(connection: &Connection) -> ServerFacts {
    let info = connection.client().server_info();
    ServerFacts { name: info.server_name, version: info.version, cluster: info.cluster }
}

/// What the account holds and may hold.
///
/// # Errors
/// `NoResponders` where JetStream is off, else what the API says.
pub async fn account(connection: &Connection) -> Result<AccountFacts, Error> {
    #[derive(Deserialize)]
    struct Info {
        storage: u64,
        limits: Option<Limits>,
        api: Option<Api>,
    }
    #[derive(Deserialize)]
    struct Limits {
        #[serde(default)]
        max_storage: i64,
    }
    #[derive(Deserialize)]
    struct Api {
        #[serde(default)]
        level: u64,
    }
    let info: Info = api::ask_empty(connection, "INFO").await?;
    let stored_max = info.limits.and_then(|limits| u64::try_from(limits.max_storage).ok()).filter(|bytes| *bytes > 0);
    Ok(AccountFacts { stored: info.storage, stored_max, api_level: info.api.map_or(0, |api| api.level) })
}

/// Whom the server takes us for, and what that one may publish.
///
/// # Errors
/// What asking says.
pub async fn user(connection: &Connection) -> Result<UserFacts, Error> {
    let asked = connection.request("$SYS.REQ.USER.INFO".to_owned(), None, Default::default(), ASIDE_WITHIN);
    let answer: Value = serde_json::from_slice(&asked.await?.body)
        .map_err(|error| Error::new(Kind::Invalid, format!("an answer that cannot be read: {error}")))?;
    let data = &answer["data"];
    let text = |key: &str| data[key].as_str().unwrap_or_default().to_owned();
    let list = |value: &Value| {
        let subjects = value.as_array()?.iter().filter_map(Value::as_str).map(str::to_owned);
        Some(subjects.collect::<Vec<_>>())
    };
    let publish = &data["permissions"]["publish"];
    Ok(UserFacts {
        user: text("user"),
        account: text("account"),
        publish_allowed: list(&publish["allow"]),
        publish_denied: list(&publish["deny"]).unwrap_or_default(),
    })
}

/// What the server says of its store to the system account.
///
/// # Errors
/// `NoResponders` to every other account.
pub async fn store(connection: &Connection) -> Result<StoreFacts, Error> {
    let question = json!({ "config": true }).to_string().into();
    let asked = connection.request("$SYS.REQ.SERVER.PING.JSZ".to_owned(), None, question, ASIDE_WITHIN).await?;
    let answer: Value = serde_json::from_slice(&asked.body)
        .map_err(|error| Error::new(Kind::Invalid, format!("an answer that cannot be read: {error}")))?;
    Ok(StoreFacts::read(&answer["data"]))
}

impl StoreFacts {
    /// Reads what the server's monitoring tells at `/jsz?config=true`.
    pub fn read(told: &Value) -> Self {
        let config = &told["config"];
        let sync_interval = match config["sync_always"].as_bool() {
            Some(true) => Some(Duration::ZERO),
            _ => config["sync_interval"].as_u64().map(Duration::from_nanos),
        };
        Self {
            sync_interval,
            stored: told["storage"].as_u64().unwrap_or(0),
            stored_max: config["max_storage"].as_u64().filter(|bytes| *bytes > 0),
            consumers_max: told["limits"]["default_max_consumers"].as_i64(),
        }
    }
}

#[derive(Deserialize)]
struct StreamAnswer {
    config: Value,
    state: StateAnswer,
    cluster: Option<ClusterAnswer>,
    ts: Option<Timestamp>,
}

#[derive(Deserialize)]
struct StateAnswer {
    messages: u64,
    bytes: u64,
    first_ts: Option<Timestamp>,
    last_seq: u64,
    #[serde(default)]
    consumer_count: u64,
}

#[derive(Deserialize)]
struct ClusterAnswer {
    leader: Option<String>,
    #[serde(default)]
    replicas: Vec<CopyAnswer>,
}

#[derive(Deserialize)]
struct CopyAnswer {
    name: String,
    #[serde(default)]
    current: bool,
    #[serde(default)]
    offline: bool,
    #[serde(default)]
    lag: u64,
}

/// How a stream stands. It has no leader for some seconds when a server goes: this asks until `within` has passed.
///
/// # Errors
/// `NotFound`; `TimedOut` when nobody answers for it all the time; else what the API says.
pub async fn stream(connection: &Connection, name: &str, within: Duration) -> Result<StreamFacts, Error> {
    let asked = Instant::now();
    let answer: StreamAnswer = persist_within(connection, &format!("STREAM.INFO.{name}"), &json!({}), within).await?;
    let answered_in = asked.elapsed();
    let now = time::now();
    // Half of the round trip is taken as the way back.
    let back = TimeDelta::from_std(answered_in / 2).unwrap_or_default();
    let cluster = answer.cluster.unwrap_or(ClusterAnswer { leader: None, replicas: Vec::new() });
    let copies = cluster.replicas.into_iter().map(|copy| CopyFacts {
        server: copy.name,
        is_current: copy.current,
        is_offline: copy.offline,
        lag: copy.lag,
    });
    Ok(StreamFacts {
        stream: config::to_stream(&answer.config),
        messages: answer.state.messages,
        bytes: answer.state.bytes,
        first_at: answer.state.first_ts.filter(|_| answer.state.messages > 0),
        last_sequence: answer.state.last_seq,
        consumers: answer.state.consumer_count,
        leader: cluster.leader,
        copies: copies.collect(),
        clock_ahead: answer.ts.map_or(TimeDelta::zero(), |ts| ts + back - now),
        answered_in,
    })
}

/// The streams of the account that are kept in files, with what all their copies take in bytes, 256 an answer and at most
/// four answers; also those that are no fleet's.
///
/// # Errors
/// What the API says.
pub async fn stored_streams(connection: &Connection) -> Result<Vec<(String, u64)>, Error> {
    #[derive(Deserialize)]
    struct List {
        total: usize,
        streams: Option<Vec<StreamAnswer>>,
    }
    let (mut all, mut seen) = (Vec::new(), 0);
    for _ in 0..LISTS_MAX {
        let list: List = api::ask(connection, "STREAM.LIST", &json!({ "offset": seen })).await?;
        let some = list.streams.unwrap_or_default();
        seen += some.len();
        let is_end = some.is_empty() || seen >= list.total;
        for stream in some.into_iter().filter(|stream| stream.config["storage"] == "file") {
            let copies = stream.config["num_replicas"].as_u64().unwrap_or(1).max(1);
            let name = stream.config["name"].as_str().unwrap_or_default().to_owned();
            all.push((name, stream.state.bytes.saturating_mul(copies)));
        }
        if is_end {
            break;
        }
    }
    Ok(all)
}

/// How every consumer of a stream stands, 256 an answer.
///
/// # Errors
/// What the API says.
pub async fn consumers(connection: &Connection, stream: &str) -> Result<Vec<ConsumerFacts>, Error> {
    let answers: Vec<ConsumerAnswer> = listed(connection, &format!("CONSUMER.LIST.{stream}")).await?;
    Ok(answers.into_iter().map(consumer).collect())
}

/// Subjects of a stream that hold more than one message.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Repeated {
    /// Messages beyond one a subject.
    pub surplus: u64,
    /// The subjects and how many messages each holds, at most as many as were asked for.
    pub subjects: Vec<(String, u64)>,
}

/// Which subjects of a stream hold more than one message. One question where none does, as the leader counts both messages
/// and subjects; else every subject is looked at, 100,000 an answer.
///
/// # Errors
/// `NotFound`, or what the API says.
pub async fn repeated_subjects(
    connection: &Connection,
    stream: &str,
    filter: &str,
    count_max: usize,
) -> Result<Repeated, Error> {
    #[derive(Deserialize)]
    struct Info {
        state: State,
    }
    #[derive(Deserialize)]
    struct State {
        messages: u64,
        #[serde(default)]
        num_subjects: u64,
        #[serde(default)]
        subjects: std::collections::BTreeMap<String, u64>,
    }
    let what = format!("STREAM.INFO.{stream}");
    let info: Info = api::ask(connection, &what, &json!({})).await?;
    let surplus = info.state.messages.saturating_sub(info.state.num_subjects);
    let mut repeated = Repeated { surplus, subjects: Vec::new() };
    let mut offset = 0;
    while surplus > 0 && repeated.subjects.len() < count_max {
        let info: Info = api::ask(connection, &what, &json!({ "subjects_filter": filter, "offset": offset })).await?;
        offset += info.state.subjects.len();
        let is_end = info.state.subjects.is_empty() || !info.state.subjects.len().is_multiple_of(SUBJECTS_TOLD);
        let room = count_max - repeated.subjects.len();
        repeated.subjects.extend(info.state.subjects.into_iter().filter(|(_, count)| *count > 1).take(room));
        if is_end {
            break;
        }
    }
    Ok(repeated)
}

#[derive(Deserialize)]
struct ConsumerAnswer {
    stream_name: String,
    config: Value,
    delivered: SequenceAnswer,
    ack_floor: SequenceAnswer,
    num_ack_pending: u64,
    num_redelivered: u64,
    num_waiting: u64,
    num_pending: u64,
    #[serde(default)]
    paused: bool,
}

#[derive(Deserialize)]
struct SequenceAnswer {
    stream_seq: u64,
    last_active: Option<Timestamp>,
}

fn consumer(answer: ConsumerAnswer) -> ConsumerFacts {
    let until = answer.config["pause_until"].as_str().and_then(|text| time::parse(text).ok());
    ConsumerFacts {
        consumer: config::to_consumer(&answer.stream_name, &answer.config),
        pending: answer.num_pending,
        ack_pending: answer.num_ack_pending,
        redelivered: answer.num_redelivered,
        waiting: answer.num_waiting,
        delivered: answer.delivered.stream_seq,
        ack_floor: answer.ack_floor.stream_seq,
        last_active: answer.delivered.last_active,
        paused_until: until.filter(|_| answer.paused),
        is_in_memory: answer.config["mem_storage"] == true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_monitoring_tells_of_the_store_is_read() {
        let told = |config: Value| StoreFacts::read(&json!({ "storage": 7, "config": config }));
        let usual = told(json!({ "sync_interval": 120_000_000_000_u64, "max_storage": 100 }));
        assert_eq!((usual.sync_interval, usual.stored_max), (Some(Duration::from_secs(120)), Some(100)));
        let always = told(json!({ "sync_interval": 120_000_000_000_u64, "sync_always": true }));
        assert_eq!((always.sync_interval, always.stored), (Some(Duration::ZERO), 7));
        assert_eq!(told(Value::Null).sync_interval, None);
    }
}
