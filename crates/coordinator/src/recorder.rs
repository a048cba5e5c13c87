//! What a coordinator publishes, and what the broker's refusals to store tell it.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use broker::{Error, Kind, Outgoing, Publisher, Settled};
use tokio::sync::Notify;

use crate::Metrics;

/// How long one publish is tried. What is not settled by then is found again by the next look.
const SETTLED_WITHIN: Duration = Duration::from_secs(10);

/// Outages that are remembered until they were looked at.
const OUTAGES_MAX: usize = 16;

/// Publishes what must be stored.
#[derive(Clone, Debug)]
pub(crate) struct Recorder {
    publisher: Publisher,
    store: Store,
}

/// Whether the broker stores what it is given.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    seen: Arc<Mutex<Seen>>,
    room: Arc<Notify>,
    metrics: Metrics,
}

/// What was seen of the store.
#[derive(Debug, Default)]
struct Seen {
    stored_at: Option<Instant>,
    /// The first and the last refusal since.
    refused: Option<(Instant, Instant)>,
    outages: Vec<Outage>,
}

/// A time in which the broker refused to store, as it was seen from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Outage {
    /// When something was stored last before it: somewhere between here and the first refusal it began.
    pub(crate) stored_before: Instant,
    /// The first refusal.
    pub(crate) first: Instant,
    /// The last refusal.
    pub(crate) last: Instant,
    /// When something was stored again.
    pub(crate) room: Instant,
}

impl Recorder {
    pub(crate) fn new(publisher: Publisher, store: Store) -> Self {
        Self { publisher, store }
    }

    /// Publishes until it is settled.
    ///
    /// # Errors
    /// `StoreFull` at once; else what came last when ten seconds were over.
    pub(crate) async fn record(&self, outgoing: &Outgoing) -> Result<Settled, Error> {
        let end = self.publisher.publish_within(outgoing, SETTLED_WITHIN).await;
        self.store.note(end.as_ref().err());
        match end {
            Ok(stored) => Ok(Settled::Stored(stored)),
            Err(error) if error.kind() == Kind::WrongSequence => Ok(Settled::Superseded),
            Err(error) => Err(error),
        }
    }
}

impl Store {
    pub(crate) fn new(metrics: Metrics) -> Self {
        Self { seen: Arc::default(), room: Arc::default(), metrics }
    }

    /// Takes note of how a publish ended; other errors than a full store say nothing about it.
    pub(crate) fn note(&self, error: Option<&Error>) {
        let now = Instant::now();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        match error.map(Error::kind) {
            None => {
                let stored_before = seen.stored_at.replace(now);
                if let Some((first, last)) = seen.refused.take() {
                    tracing::info!("the broker stores again");
                    self.metrics.store_refused.set(0.0);
                    seen.outages.truncate(OUTAGES_MAX - 1);
                    let stored_before = stored_before.unwrap_or(first);
                    seen.outages.push(Outage { stored_before, first, last, room: now });
                    self.room.notify_one();
                }
            }
            Some(Kind::StoreFull) => {
                if seen.refused.is_none() {
                    tracing::warn!(
                        "the broker's store is full: schedules that fall due now do not fire until there is room"
                    );
                    self.metrics.store_refused.set(1.0);
                }
                seen.refused = Some((seen.refused.map_or(now, |(first, _)| first), now));
            }
            Some(_) => {}
        }
    }

    /// Whether the last publish was refused because the store is full.
    pub(crate) fn is_refused(&self) -> bool {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).refused.is_some()
    }

    /// The outages that are over and were not looked at, oldest first.
    pub(crate) fn outages(&self) -> Vec<Outage> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).outages.clone()
    }

    /// Forgets outages that were looked at.
    pub(crate) fn forget(&self, outages: &[Outage]) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).outages.retain(|outage| !outages.contains(outage));
    }

    /// Rings once after there is room again.
    pub(crate) fn room(&self) -> Arc<Notify> {
        Arc::clone(&self.room)
    }
}
