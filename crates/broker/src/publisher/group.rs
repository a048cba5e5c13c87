//! Group commit: what many tasks publish into one stream at the same moment goes as one atomic batch.
//!
//! A server that flushes its disk for every message (`sync_interval: always`) flushes it once for a batch, however large it
//! is: 11,700 messages a second in batches of 256, where one by one it took 485 (nats-server 2.15.1, the same disk within the
//! same minute). A server that does not flush takes five times as long for a message of a batch as for one alone. Only its
//! operator knows which one it is: he says so by `sortie topology apply --group-commit true`, and the stream keeps it.
//!
//! A batch is stored whole or not at all. Where one message of it is refused (somebody was first on its subject, it is there
//! already, too many batches are open) each goes alone, and meets its own answer.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU8, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::{StreamExt, stream};
use protocol::{Namespace, header, topology::Names};
use serde::Deserialize;
use tokio::sync::oneshot;
use uuid::Uuid;

use super::{ACK_TIMEOUT, Stored, publish_alone};
use crate::{
    Connection, Outgoing, api,
    error::{Error, Kind},
    task, topology,
};

/// Publishes of one stream on their way at once before it is looked whether the stream is one for batches: who publishes
/// less gains nothing by them.
const LOOK_AT: usize = 8;

/// Batches of one stream on their way at once: one gathers while the other is flushed. The broker admits 50 of a stream,
/// whoever sends them.
const OPEN_MAX: usize = 2;

/// Messages of a batch. The broker admits 1,000.
const BATCH_MAX: usize = 500;

/// Bytes of the bodies of a batch, about: the broker gathers them before it stores any.
const BATCH_BYTES_MAX: usize = 4 << 20;

/// Fewer go alone: a batch costs the broker four flushes, whatever is in it.
const BATCH_MIN: usize = 5;

/// A larger body goes alone: its flush is the smaller part of it.
const BODY_MAX: usize = 64 << 10;

/// What is known of a stream.
const UNKNOWN: u8 = 0;
const LOOKING: u8 = 1;
const ALONE: u8 = 2;
const GROUPED: u8 = 3;

/// The streams of a fleet that may be published to in batches.
#[derive(Debug)]
pub(super) struct Groups(Vec<Arc<Group>>);

/// One of them.
pub(super) struct Group {
    connection: Connection,
    stream: String,
    /// What its subjects begin with.
    prefixes: Vec<String>,
    knowledge: AtomicU8,
    /// Publishes that are on their way alone.
    alone: AtomicUsize,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    waiting: Vec<Entry>,
    /// Batches on their way.
    open: usize,
}

struct Entry {
    outgoing: Outgoing,
    settled: oneshot::Sender<Result<Stored, Error>>,
}

/// The broker's answer to the last message of a batch.
#[derive(Deserialize)]
struct Committed {
    stream: String,
    #[serde(rename = "seq")]
    last: u64,
    #[serde(default)]
    count: usize,
}

impl fmt::Debug for Group {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Group").field("stream", &self.stream).finish_non_exhaustive()
    }
}

impl Groups {
    /// Those of requests and of outcomes.
    pub(super) fn of(connection: &Connection, namespace: &Namespace) -> Self {
        let names = Names::of(namespace);
        let group = |stream: &str, kinds: &[&str]| {
            Arc::new(Group {
                connection: connection.clone(),
                stream: stream.to_owned(),
                prefixes: kinds.iter().map(|kind| format!("{namespace}.{kind}.")).collect(),
                knowledge: AtomicU8::new(UNKNOWN),
                alone: AtomicUsize::new(0),
                queue: Mutex::default(),
            })
        };
        Self(vec![group(&names.requests, &["request", "urgent", "bulk"]), group(&names.outcomes, &["outcome"])])
    }

    /// The group of a message; none for what goes alone whatever the stream is.
    pub(super) fn group_of(&self, outgoing: &Outgoing) -> Option<&Arc<Group>> {
        let can_be_grouped = |name: &str| {
            let is_brokers = name
                .get(..header::NATS_PREFIX.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(header::NATS_PREFIX));
            !is_brokers || [header::NATS_MSG_ID, header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE].contains(&name)
        };
        let group =
            self.0.iter().find(|group| group.prefixes.iter().any(|prefix| outgoing.subject.starts_with(prefix)))?;
        let fits = outgoing.body.len() <= BODY_MAX && outgoing.headers.iter().all(|(name, _)| can_be_grouped(name));
        fits.then_some(group)
    }
}

impl Group {
    /// Publishes it, in a batch where the stream is one for batches, and else alone.
    ///
    /// # Errors
    /// What the broker says of this message; after `TimedOut` it may be stored all the same.
    pub(super) async fn publish(self: &Arc<Self>, outgoing: &Outgoing, timeout: Duration) -> Result<Stored, Error> {
        match self.knowledge.load(Ordering::Relaxed) {
            GROUPED => self.gathered(outgoing).await,
            ALONE => publish_alone(&self.connection, outgoing, timeout).await,
            _ => {
                let _on_its_way = OnItsWay::begin(self);
                publish_alone(&self.connection, outgoing, timeout).await
            }
        }
    }

    /// Looks once what the stream is, beside what is on its way.
    fn look(self: &Arc<Self>) {
        let began = self.knowledge.compare_exchange(UNKNOWN, LOOKING, Ordering::AcqRel, Ordering::Relaxed);
        if began.is_err() {
            return;
        }
        let group = Arc::clone(self);
        let looking = task::spawn("group-commit-look", async move {
            let found = match topology::stream_state(&group.connection, &group.stream).await {
                Ok(state) if state.stream.group_commit => GROUPED,
                Ok(_) => ALONE,
                // Who may not look publishes as everybody can.
                Err(error) if error.kind() == Kind::Forbidden => ALONE,
                Err(_) => UNKNOWN,
            };
            group.knowledge.store(found, Ordering::Release);
        });
        looking.detach();
    }

    /// Waits for the batch that it goes with. No time-out of its own: what waits here is not sent yet, and a batch is
    /// answered or given up.
    async fn gathered(self: &Arc<Self>, outgoing: &Outgoing) -> Result<Stored, Error> {
        let (settled, answer) = oneshot::channel();
        let begins = {
            let mut queue = self.locked();
            queue.waiting.push(Entry { outgoing: outgoing.clone(), settled });
            let begins = queue.open < OPEN_MAX;
            queue.open += usize::from(begins);
            begins
        };
        if begins {
            let group = Arc::clone(self);
            task::spawn("group-commit", async move { group.commit_all().await }).detach();
        }
        let gone = |_| Error::new(Kind::TimedOut, "the batch was given up");
        answer.await.map_err(gone)?
    }

    /// Sends what waits, batch after batch, until nothing does.
    async fn commit_all(&self) {
        while let Some(entries) = self.take() {
            self.commit(entries).await;
        }
    }

    fn take(&self) -> Option<Vec<Entry>> {
        let mut queue = self.locked();
        queue.waiting.retain(|entry| !entry.settled.is_closed());
        let mut bytes = 0;
        let fits = |entry: &&Entry| {
            bytes += entry.outgoing.body.len();
            bytes <= BATCH_BYTES_MAX
        };
        let count = queue.waiting.iter().take(BATCH_MAX).take_while(fits).count();
        if count == 0 {
            queue.open -= 1;
            return None;
        }
        Some(queue.waiting.drain(..count).collect())
    }

    async fn commit(&self, entries: Vec<Entry>) {
        if entries.len() < BATCH_MIN {
            return self.each_alone(entries).await;
        }
        match self.send(&entries).await {
            Ok(Committed { stream, last, count }) if count == entries.len() => {
                // A batch is stored in one piece, in its order.
                let first = last + 1 - count as u64;
                for (sequence, entry) in (first..).zip(entries) {
                    let stored = Stored { stream: stream.clone(), sequence, duplicate: false };
                    // Whoever does not wait any more knows that it may be stored.
                    let _ = entry.settled.send(Ok(stored));
                }
            }
            Ok(_) => fail(entries, &Error::new(Kind::TimedOut, "a batch was answered as another one")),
            Err(error) if is_unsettled(&error) => fail(entries, &error),
            Err(error) => {
                tracing::debug!(%error, stream = self.stream, messages = entries.len(), "batch refused: each goes alone");
                self.each_alone(entries).await;
            }
        }
    }

    /// Sends them as one batch; the answer is that to the last of them.
    async fn send(&self, entries: &[Entry]) -> Result<Committed, Error> {
        let id = Uuid::now_v7().simple().to_string();
        let last = entries.len() - 1;
        for (index, entry) in entries.iter().enumerate() {
            let mut outgoing = entry.outgoing.clone();
            outgoing.headers.push(header::NATS_BATCH_ID, &id);
            outgoing.headers.push(header::NATS_BATCH_SEQUENCE, (index + 1).to_string());
            if index < last {
                self.connection.publish_core(outgoing).await?;
            } else {
                outgoing.headers.push(header::NATS_BATCH_COMMIT, "1");
                let Outgoing { subject, headers, body } = outgoing;
                let answer = self.connection.request(subject, Some(&headers), body, ACK_TIMEOUT).await?;
                return api::parse(&answer.body);
            }
        }
        Err(Error::new(Kind::Invalid, "a batch of nothing"))
    }

    async fn each_alone(&self, entries: Vec<Entry>) {
        stream::iter(entries)
            .for_each_concurrent(None, |entry| async move {
                let settled = publish_alone(&self.connection, &entry.outgoing, ACK_TIMEOUT).await;
                let _ = entry.settled.send(settled);
            })
            .await;
    }

    fn locked(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether nothing is known of what became of the batch: none of it may be sent again before whoever published knows.
fn is_unsettled(error: &Error) -> bool {
    matches!(error.kind(), Kind::TimedOut | Kind::Unreachable | Kind::NoResponders)
}

fn fail(entries: Vec<Entry>, error: &Error) {
    for entry in entries {
        let _ = entry.settled.send(Err(error.clone()));
    }
}

/// Counts a publish that goes alone before it is known what its stream is.
struct OnItsWay<'a>(&'a Group);

impl<'a> OnItsWay<'a> {
    fn begin(group: &'a Arc<Group>) -> Self {
        if group.alone.fetch_add(1, Ordering::Relaxed) + 1 >= LOOK_AT {
            group.look();
        }
        Self(group)
    }
}

impl Drop for OnItsWay<'_> {
    fn drop(&mut self) {
        self.0.alone.fetch_sub(1, Ordering::Relaxed);
    }
}
