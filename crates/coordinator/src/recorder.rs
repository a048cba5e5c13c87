//! What a coordinator publishes, and what the broker's refusals to store tell it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use broker::{Error, Kind, Outgoing, Publisher, Settled};
use tokio::sync::Notify;

use crate::Metrics;

/// How long one publish is tried. What is not settled by then is found again by the next look.
const SETTLED_WITHIN: Duration = Duration::from_secs(10);

/// Publishes what must be stored.
#[derive(Clone, Debug)]
pub(crate) struct Recorder {
    publisher: Publisher,
    store: Store,
}

/// Whether the broker stores what it is given.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    is_refused: Arc<AtomicBool>,
    room: Arc<Notify>,
    metrics: Metrics,
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
        Self { is_refused: Arc::default(), room: Arc::default(), metrics }
    }

    /// Takes note of how a publish ended; other errors than a full store say nothing about it.
    pub(crate) fn note(&self, error: Option<&Error>) {
        match error.map(Error::kind) {
            None => {
                if self.is_refused.swap(false, Ordering::Relaxed) {
                    tracing::info!("the broker stores again");
                    self.metrics.store_refused.set(0.0);
                    self.room.notify_one();
                }
            }
            Some(Kind::StoreFull) => {
                if !self.is_refused.swap(true, Ordering::Relaxed) {
                    tracing::warn!(
                        "the broker's store is full: schedules that fall due now do not fire until there is room"
                    );
                    self.metrics.store_refused.set(1.0);
                }
            }
            Some(_) => {}
        }
    }

    /// Whether the last publish was refused because the store is full.
    pub(crate) fn is_refused(&self) -> bool {
        self.is_refused.load(Ordering::Relaxed)
    }

    /// Rings once after there is room again.
    pub(crate) fn room(&self) -> Arc<Notify> {
        Arc::clone(&self.room)
    }
}
