//! Holding messages: a live worker extends their ack deadline, and knows when it could not.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use broker::{Connection, Delivery};
use futures_util::{StreamExt, stream};

/// Extensions that are asked for at once.
const EXTENDING_MAX: usize = 256;

/// Every message in this worker's hands.
#[derive(Debug)]
pub(crate) struct Holds {
    deadline: Duration,
    interval: Duration,
    next: AtomicU64,
    held: Mutex<HashMap<u64, Arc<Held>>>,
}

#[derive(Debug)]
struct Held {
    delivery: Arc<Delivery>,
    since: Mutex<Instant>,
}

/// One message in hand, until this is dropped.
#[derive(Debug)]
pub(crate) struct Hold {
    holds: Arc<Holds>,
    key: u64,
    held: Arc<Held>,
}

impl Holds {
    pub(crate) fn new(deadline: Duration, interval: Duration) -> Arc<Self> {
        Arc::new(Self { deadline, interval, next: AtomicU64::new(0), held: Mutex::default() })
    }

    /// Takes a message in hand from the moment it was received.
    pub(crate) fn begin(self: &Arc<Self>, delivery: &Arc<Delivery>) -> Hold {
        let key = self.next.fetch_add(1, Ordering::Relaxed);
        let held = Arc::new(Held { delivery: Arc::clone(delivery), since: Mutex::new(delivery.received) });
        self.held.lock().unwrap_or_else(PoisonError::into_inner).insert(key, Arc::clone(&held));
        Hold { holds: Arc::clone(self), key, held }
    }

    /// Extends what is held, for ever.
    pub(crate) async fn extend_forever(&self, connection: &Connection) {
        let mut ticks = tokio::time::interval(self.interval / 3);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let due = self.due(Instant::now());
            stream::iter(due)
                .for_each_concurrent(EXTENDING_MAX, |held| async move {
                    let asked = Instant::now();
                    match held.delivery.extend(connection, self.interval / 2).await {
                        Ok(()) => held.extended(asked, self.deadline),
                        Err(error) => {
                            tracing::debug!(sequence = held.delivery.sequence, %error, "deadline not extended");
                        }
                    }
                })
                .await;
        }
    }

    /// What was not extended for an interval, less the time that looking takes. What is lost is left alone: the broker
    /// would extend it for whoever has it now.
    fn due(&self, now: Instant) -> Vec<Arc<Held>> {
        let due = self.interval - self.interval / 3..self.deadline;
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = |held: &&Arc<Held>| due.contains(&now.saturating_duration_since(held.since()));
        held.values().filter(is_due).cloned().collect()
    }
}

impl Held {
    fn since(&self) -> Instant {
        *self.since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The broker says that it moved the deadline. It says so too when another worker has the message by now, so that
    /// counts only where the answer is here before the old deadline; the new one counts from when the broker heard of
    /// it, which is not before it was asked.
    fn extended(&self, asked: Instant, deadline: Duration) {
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        if since.elapsed() < deadline {
            *since = asked;
        }
    }
}

impl Hold {
    /// Whether another worker may have the message by now, which no extension undoes: then this one may store a result,
    /// but neither give it back, nor retry it, nor declare it dead.
    pub(crate) fn is_lost(&self) -> bool {
        self.held.since().elapsed() >= self.holds.deadline
    }

    /// Ready when the message is lost.
    pub(crate) async fn lost(&self) {
        while !self.is_lost() {
            tokio::time::sleep_until((self.held.since() + self.holds.deadline).into()).await;
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.holds.held.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}
