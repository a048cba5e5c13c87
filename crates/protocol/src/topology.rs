//! The topology: every stream, bucket and consumer of a fleet as one table of plain data.
//!
//! A bucket is a stream too, written out here because two settings that leases and marks need (message TTL on single
//! keys, a bound on consumers) cannot be said through the clients' bucket API.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{Capability, Lane, Namespace};

mod coordinators;
mod drift;
mod names;
mod retention;
mod runs;
mod shape;

pub use coordinators::{Shared, advisories_consumer, fires_consumer, shared_by_coordinators, triggers_consumer};
pub use drift::{Drift, drift_of_consumer, drift_of_pause, drift_of_stream};
pub use names::Names;
pub use retention::{Shortened, shortened};
pub use runs::{RUN_PARTITIONS, RunPace, run_consumer, run_pace, starts_consumer};
pub use shape::{Consumer, Discard, Mapping, Pinned, Retention, Stream};

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Consumers that a request stream admits. Servers from 2.15 on stop at 1,000 where a stream says nothing.
pub const CONSUMERS_MAX: i32 = 4_000;

/// The key in a stream's metadata that says, by `true`, that publishes to it go in batches.
pub const GROUP_COMMIT: &str = "sortie-group-commit";

/// What an operator may choose about the topology.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Copies of every stream: 1 or 3. Defaults to 1.
    pub replicas: usize,
    /// Whether many requests, or outcomes, that are published at the same moment go as one batch: for servers that flush
    /// their disk for every message (`sync_interval: always`). Defaults to no.
    pub group_commit: bool,
    /// How long outcomes are kept, and with that how long "exactly one" can be proved. Defaults to 24 h.
    #[serde(with = "crate::duration::text")]
    pub outcomes_kept: Duration,
    /// How long dead letters are kept. Defaults to 30 days.
    #[serde(with = "crate::duration::text")]
    pub dead_kept: Duration,
    /// How long events are kept. Defaults to 7 days.
    #[serde(with = "crate::duration::text")]
    pub events_kept: Duration,
    /// How long shipped log lines are kept. Defaults to 3 days.
    #[serde(with = "crate::duration::text")]
    pub logs_kept: Duration,
    /// How many bytes of log lines are kept, the oldest deleted first. The broker reserves as much of its store when it
    /// makes the stream. Defaults to 1 GiB.
    pub logs_bytes_max: u64,
    /// How long the audit trail is kept. Defaults to 365 days.
    #[serde(with = "crate::duration::text")]
    pub audit_kept: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            replicas: 1,
            group_commit: false,
            outcomes_kept: DAY,
            dead_kept: 30 * DAY,
            events_kept: 7 * DAY,
            logs_kept: 3 * DAY,
            logs_bytes_max: 1 << 30,
            audit_kept: 365 * DAY,
        }
    }
}

/// The stream behind a bucket.
pub fn bucket_stream(bucket: &str) -> String {
    format!("KV_{bucket}")
}

/// The subject of a key in a bucket.
pub fn bucket_subject(bucket: &str, key: &str) -> String {
    format!("$KV.{bucket}.{key}")
}

/// The stream behind an object store.
pub fn object_stream(bucket: &str) -> String {
    format!("OBJ_{bucket}")
}

/// Every stream and bucket of a fleet.
pub fn streams(namespace: &Namespace, settings: &Settings) -> Vec<Stream> {
    let names = Names::of(namespace);
    let new = |name: &String, description: &str, subjects: Vec<String>| {
        Stream::new(name.clone(), description, subjects, settings.replicas)
    };
    let under = |token: &str| vec![format!("{namespace}.{token}")];
    let work_subjects = ["request.*", "urgent.*", "bulk.*", "later.*", "cron.*", "fire.*", "start.*"];
    let advised = [&names.requests, &names.unique, &names.runs];
    let mut all = vec![
        Stream {
            retention: Retention::WorkQueue,
            max_consumers: CONSUMERS_MAX,
            allow_schedules: true,
            allow_rollup: true,
            allow_atomic_publish: true,
            group_commit: settings.group_commit,
            ..new(
                &names.requests,
                "Work, and the schedules that become work",
                work_subjects.map(|tail| format!("{namespace}.{tail}")).to_vec(),
            )
        },
        Stream {
            retention: Retention::WorkQueue,
            max_consumers: CONSUMERS_MAX,
            discard: Discard::New,
            discard_new_per_subject: true,
            max_messages_per_subject: Some(1),
            ..new(&names.unique, "Work of which one at most is queued or running per key", under("unique.*.*"))
        },
        Stream {
            max_age: Some(settings.outcomes_kept),
            allow_atomic_publish: true,
            group_commit: settings.group_commit,
            republish: Some(Mapping {
                source: format!("{namespace}.outcome.*"),
                destination: format!("{namespace}.told.{{{{wildcard(1)}}}}"),
            }),
            ..new(&names.outcomes, "The one outcome of each request", under("outcome.*"))
        },
        Stream {
            max_consumers: CONSUMERS_MAX,
            allow_schedules: true,
            allow_rollup: true,
            allow_atomic_publish: true,
            subject_transform: Some(Mapping {
                source: format!("{namespace}.run.*.>"),
                destination: format!("{namespace}.run.{{{{partition({RUN_PARTITIONS},1)}}}}.{{{{wildcard(1)}}}}.>"),
            }),
            ..new(
                &names.runs,
                "The logs of the runs that are alive, and their timers",
                // A schedule that is stored, or fires, takes out what lies at its subject, and the broker does that as a
                // purge. No consumer may have timers under its filter: see `broker::topology::purge`.
                ["run.*.>", "timer.*.*"].map(|tail| format!("{namespace}.{tail}")).to_vec(),
            )
        },
        Stream { max_age: Some(settings.events_kept), ..new(&names.events, "What happened", under("event.>")) },
        Stream {
            max_age: Some(settings.dead_kept),
            ..new(
                &names.dead,
                "Requests that were given up, and which of them were sent again",
                // A mark lies where its letter does, and is younger: it is there for as long as the letter is.
                ["dead.*.*", "replayed.*.*.*"].map(|tail| format!("{namespace}.{tail}")).to_vec(),
            )
        },
        Stream {
            max_age: Some(settings.logs_kept),
            max_bytes: Some(settings.logs_bytes_max),
            ..new(&names.logs, "Log lines that agents ship", under("log.*.*"))
        },
        Stream { max_age: Some(settings.audit_kept), ..new(&names.audit, "Who changed what", under("audit.*.*")) },
        Stream {
            max_age: Some(7 * DAY),
            ..new(
                &names.advisories,
                "What the broker gave up on",
                advised.map(|stream| format!("$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.{stream}.>")).to_vec(),
            )
        },
    ];
    all.extend(buckets(&names, settings.replicas));
    for stream in &mut all {
        // The broker refuses a window that is longer than what the stream keeps.
        stream.duplicate_window =
            stream.max_age.map_or(stream.duplicate_window, |age| age.min(stream.duplicate_window));
    }
    all
}

fn buckets(names: &Names, replicas: usize) -> Vec<Stream> {
    let bucket = |name: &String, description: &str, history: u64| Stream {
        discard: Discard::New,
        max_messages_per_subject: Some(history),
        allow_rollup: true,
        deny_delete: true,
        ..Stream::new(bucket_stream(name), description, vec![bucket_subject(name, ">")], replicas)
    };
    // A marker's TTL is a floor for every TTL in a bucket with more than one revision per key: history stays 1.
    let with_ttl = |stream: Stream| Stream { allow_message_ttl: true, delete_marker_ttl: Some(5 * SECOND), ..stream };
    let objects = &names.payloads;
    vec![
        with_ttl(bucket(&names.agents, "The agents that are alive", 1)),
        bucket(&names.config, "Configuration", 64),
        bucket(&names.workflows, "Workflow definitions", 64),
        bucket(&names.desired, "What operators wish", 10),
        with_ttl(bucket(&names.locks, "Leases of periodic duties", 1)),
        with_ttl(bucket(&names.state, "Marks, tries, schemas and handlers' own state", 1)),
        Stream {
            discard: Discard::New,
            allow_rollup: true,
            ..Stream::new(
                object_stream(objects),
                "Bodies over 512 KiB",
                vec![format!("$O.{objects}.C.>"), format!("$O.{objects}.M.>")],
                replicas,
            )
        },
    ]
}

/// The ack deadline of workers and how often a live one extends it. On three nodes extensions are lost while a leader
/// is elected, which takes up to 9 s: the deadline must outlast that, two intervals and two seconds.
pub fn ack_deadline(replicas: usize) -> (Duration, Duration) {
    match replicas {
        0 | 1 => (10 * SECOND, 3 * SECOND),
        _ => (20 * SECOND, 4 * SECOND),
    }
}

/// What a worker of a capability reads from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    /// A lane of the request stream.
    Lane(Lane),
    /// Unique work, which weighs as the normal lane.
    Unique,
}

impl Source {
    /// All sources of a capability, first to last.
    pub const ALL: [Self; 4] =
        [Self::Lane(Lane::Urgent), Self::Lane(Lane::Normal), Self::Unique, Self::Lane(Lane::Bulk)];

    /// What people call it: `urgent`, `normal`, `bulk` or `unique`.
    pub fn token(self) -> &'static str {
        match self {
            Self::Lane(Lane::Urgent) => "urgent",
            Self::Lane(Lane::Normal) => "normal",
            Self::Lane(Lane::Bulk) => "bulk",
            Self::Unique => "unique",
        }
    }

    /// The inverse of [`Source::token`].
    pub fn parse(token: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|source| source.token() == token)
    }

    /// Its share of a worker's pulls while all have work.
    pub fn weight(self) -> u32 {
        match self {
            Self::Lane(lane) => lane.weight(),
            Self::Unique => Lane::Normal.weight(),
        }
    }
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.token())
    }
}

impl Serialize for Source {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.token())
    }
}

/// The consumer of one source of a capability: the same for everybody who makes it.
pub fn worker_consumer(namespace: &Namespace, capability: &Capability, source: Source, replicas: usize) -> Consumer {
    let names = Names::of(namespace);
    let (stream, suffix, filter) = match source {
        Source::Lane(lane) => {
            let suffix = match lane {
                Lane::Urgent => "_urgent",
                Lane::Normal => "",
                Lane::Bulk => "_bulk",
            };
            (names.requests, suffix, format!("{namespace}.{}.{capability}", lane.token()))
        }
        Source::Unique => (names.unique, "_unique", format!("{namespace}.unique.{capability}.*")),
    };
    Consumer {
        stream,
        name: format!("{capability}{suffix}"),
        filter,
        ack_wait: ack_deadline(replicas).0,
        // The broker counts hand-backs as deliveries, so its bound is a backstop only; at a unique key it would block
        // the key for ever.
        max_deliver: match source {
            Source::Lane(_) => Some(100),
            Source::Unique => None,
        },
        max_ack_pending: 10_000,
        max_waiting: 4_096,
        pinned: None,
    }
}

/// The inverse of [`worker_consumer`]: whose consumer it is, by name and filter.
pub fn queue_of_consumer(namespace: &Namespace, consumer: &Consumer) -> Option<(Capability, Source)> {
    let (capability, source) = match consumer.name.split_once('_') {
        None => (consumer.name.as_str(), Source::Lane(Lane::Normal)),
        Some((capability, "urgent")) => (capability, Source::Lane(Lane::Urgent)),
        Some((capability, "bulk")) => (capability, Source::Lane(Lane::Bulk)),
        Some((capability, "unique")) => (capability, Source::Unique),
        Some(_) => return None,
    };
    let capability = Capability::parse(capability).ok()?;
    let expected = worker_consumer(namespace, &capability, source, 1);
    (expected.stream == consumer.stream && expected.filter == consumer.filter).then_some((capability, source))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_that_hold_promises_have_no_limits() {
        for stream in
            streams(&Namespace::default(), &Settings::default()).iter().filter(|stream| stream.holds_promises())
        {
            assert_eq!((stream.max_age, stream.max_bytes, stream.max_messages), (None, None, None), "{}", stream.name);
            assert!(!stream.allow_message_ttl, "{}", stream.name);
        }
    }

    #[test]
    fn a_window_is_no_longer_than_what_is_kept() {
        let settings = Settings { outcomes_kept: 60 * SECOND, ..Settings::default() };
        let windows: Vec<Duration> =
            streams(&Namespace::default(), &settings).iter().map(|stream| stream.duplicate_window).collect();
        assert_eq!(&windows[..4], [120, 120, 60, 120].map(Duration::from_secs));
    }

    #[test]
    fn buckets_with_ttl_keep_one_revision() {
        for stream in streams(&Namespace::default(), &Settings::default()) {
            assert!(!stream.allow_message_ttl || stream.max_messages_per_subject == Some(1), "{}", stream.name);
        }
    }

    #[test]
    fn the_deadline_outlasts_an_election() {
        let (deadline, interval) = ack_deadline(3);
        assert!(deadline >= 9 * SECOND + 2 * interval + 2 * SECOND);
    }

    #[test]
    fn consumers_of_one_capability_do_not_overlap() {
        let capability = Capability::parse("echo").unwrap();
        let consumers = Source::ALL.map(|source| worker_consumer(&Namespace::default(), &capability, source, 1));
        for (consumer, source) in consumers.iter().zip(Source::ALL) {
            assert_eq!(queue_of_consumer(&Namespace::default(), consumer), Some((capability.clone(), source)));
            assert_eq!(Source::parse(source.token()), Some(source));
        }
        let strange = Consumer { filter: "fleet.request.other".to_owned(), ..consumers[1].clone() };
        assert_eq!(queue_of_consumer(&Namespace::default(), &strange), None);
        let filters: Vec<&str> = consumers.iter().map(|consumer| consumer.filter.as_str()).collect();
        assert_eq!(filters, ["fleet.urgent.echo", "fleet.request.echo", "fleet.unique.echo.*", "fleet.bulk.echo"]);
    }
}
