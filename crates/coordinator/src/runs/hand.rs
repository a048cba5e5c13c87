//! What a partition has been delivered and has not acknowledged: extended by one task, acknowledged by another.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use broker::{Connection, Delivery};

/// The deliveries of one partition, by their sequence in the stream.
#[derive(Debug, Default)]
pub(super) struct Hand {
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    deliveries: BTreeMap<u64, (Arc<Delivery>, Instant)>,
    bytes: usize,
}

impl Hand {
    /// Takes one in hand. False: it is there already and came again, so its deadline had passed; from now on it is the
    /// newer delivery that is extended and acknowledged.
    pub(super) fn take(&self, delivery: &Arc<Delivery>) -> bool {
        let mut held = self.held();
        held.bytes += delivery.message.body.len();
        let before = held.deliveries.insert(delivery.sequence, (Arc::clone(delivery), delivery.received));
        if let Some((before, _)) = &before {
            held.bytes -= before.message.body.len();
        }
        before.is_none()
    }

    /// How many there are, and what they take together, in bytes.
    pub(super) fn load(&self) -> (usize, usize) {
        let held = self.held();
        (held.deliveries.len(), held.bytes)
    }

    /// Whether this one is in hand.
    #[cfg(test)]
    pub(super) fn has(&self, sequence: u64) -> bool {
        self.held().deliveries.contains_key(&sequence)
    }

    /// Lets go of everything: it is another's.
    pub(super) fn clear(&self) {
        *self.held() = Held::default();
    }

    /// Moves the deadline of what has not been extended for this long.
    pub(super) async fn extend(&self, connection: &Connection, every: Duration) {
        let now = Instant::now();
        let due: Vec<Arc<Delivery>> = {
            let mut held = self.held();
            let due = held.deliveries.values_mut().filter(|(_, at)| now.saturating_duration_since(*at) >= every);
            due.map(|(delivery, at)| {
                *at = now;
                Arc::clone(delivery)
            })
            .collect()
        };
        for delivery in due {
            delivery.extend_unconfirmed(connection).await;
        }
    }

    /// Acknowledges what is done.
    pub(super) async fn ack(&self, connection: &Connection, done: &[Arc<Delivery>]) {
        for delivery in done {
            let newest = self.remove(delivery.sequence);
            newest.as_ref().unwrap_or(delivery).ack(connection).await;
        }
    }

    fn remove(&self, sequence: u64) -> Option<Arc<Delivery>> {
        let mut held = self.held();
        let (delivery, _) = held.deliveries.remove(&sequence)?;
        held.bytes -= delivery.message.body.len();
        Some(delivery)
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
