//! A stream and a consumer as plain data.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Consumers that a stream admits unless it says otherwise.
const CONSUMERS_MAX_OTHER: i32 = 1_000;

/// How long an id in `Nats-Msg-Id` is remembered. Each costs the server 0.3 KB of memory.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(120);

/// How a stream lets go of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Retention {
    /// By its limits.
    Limits,
    /// When they are acknowledged.
    WorkQueue,
    /// When every consumer has acknowledged them. None of ours.
    Interest,
}

/// What a stream does at a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Discard {
    /// Make room by deleting the oldest.
    Old,
    /// Refuse the new one.
    New,
}

/// A source subject and what the broker makes of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mapping {
    /// Subjects it applies to.
    pub source: String,
    /// What they become.
    pub destination: String,
}

/// One stream. Zero and −1 are written as none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stream {
    /// Its name.
    pub name: String,
    /// One line for people.
    pub description: String,
    /// What it stores.
    pub subjects: Vec<String>,
    /// Whether it is gone when its server ends. None of ours.
    pub in_memory: bool,
    /// How it lets go.
    pub retention: Retention,
    /// What it does at a limit.
    pub discard: Discard,
    /// Whether the limit per subject refuses too.
    pub discard_new_per_subject: bool,
    /// The longest it keeps anything.
    pub max_age: Option<Duration>,
    /// The most it keeps, in bytes.
    pub max_bytes: Option<u64>,
    /// The most messages it keeps.
    pub max_messages: Option<u64>,
    /// The most messages it keeps of one subject.
    pub max_messages_per_subject: Option<u64>,
    /// Consumers it admits.
    pub max_consumers: i32,
    /// Copies of it.
    pub replicas: usize,
    /// How long an id in `Nats-Msg-Id` is remembered.
    pub duplicate_window: Duration,
    /// Whether messages may be read by direct get.
    pub allow_direct: bool,
    /// Whether it keeps schedules.
    pub allow_schedules: bool,
    /// Whether single messages may have a TTL.
    pub allow_message_ttl: bool,
    /// Whether batches may be stored all or nothing.
    pub allow_atomic_publish: bool,
    /// Whether what is published at the same moment is to go as one batch: on a server that flushes its disk for each.
    pub group_commit: bool,
    /// Whether a publish may replace what its subject holds.
    pub allow_rollup: bool,
    /// Whether single messages may be deleted through the API.
    pub deny_delete: bool,
    /// How long a marker stands where a message expired.
    pub delete_marker_ttl: Option<Duration>,
    /// What it tells of each stored message.
    pub republish: Option<Mapping>,
    /// What it makes of subjects before storing.
    pub subject_transform: Option<Mapping>,
}

impl Stream {
    pub(super) fn new(name: String, description: &str, subjects: Vec<String>, replicas: usize) -> Self {
        Self {
            name,
            description: description.to_owned(),
            subjects,
            in_memory: false,
            retention: Retention::Limits,
            discard: Discard::Old,
            discard_new_per_subject: false,
            max_age: None,
            max_bytes: None,
            max_messages: None,
            max_messages_per_subject: None,
            max_consumers: CONSUMERS_MAX_OTHER,
            replicas,
            duplicate_window: DUPLICATE_WINDOW,
            allow_direct: true,
            allow_schedules: false,
            allow_message_ttl: false,
            allow_atomic_publish: false,
            group_commit: false,
            allow_rollup: false,
            deny_delete: false,
            delete_marker_ttl: None,
            republish: None,
            subject_transform: None,
        }
    }

    /// Whether the stream holds promises: a limit there would make room by deleting what was acknowledged.
    pub fn holds_promises(&self) -> bool {
        self.retention == Retention::WorkQueue || self.subject_transform.is_some()
    }

    /// Whether its age alone says how long the stream keeps what it holds: a bound on count or bytes would delete that
    /// sooner, and silently.
    pub fn is_kept_by_age(&self) -> bool {
        self.max_age.is_some() && self.max_bytes.is_none()
    }
}

/// A durable pull consumer with explicit acknowledgement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Consumer {
    /// The stream it reads.
    pub stream: String,
    /// Its durable name.
    pub name: String,
    /// What it is delivered.
    pub filter: String,
    /// How long a delivery may go without an acknowledgement or an extension.
    pub ack_wait: Duration,
    /// Deliveries of one message before the broker gives it up; none means never.
    pub max_deliver: Option<u32>,
    /// Unacknowledged deliveries at once. Operators change it live: it is no drift.
    pub max_ack_pending: i64,
    /// Pulls that may wait at once.
    pub max_waiting: i64,
    /// Whether one client at a time is given everything; none means that whoever asks is given something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pinned: Option<Pinned>,
}

/// A consumer that the broker pins to one client: to whoever asked first, for as long as that one goes on asking.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pinned {
    /// The name of its one priority group, which every pull says; 16 characters at most.
    pub group: String,
    /// How long the pinned client may go without a pull before another one is pinned.
    pub timeout: Duration,
}
