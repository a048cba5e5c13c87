//! What this worker has in its hands, for whoever asks: requests that have begun and whose end is not stored yet.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use protocol::{
    Capability, Request,
    control::{IN_HAND_MAX, InHand},
    time::Timestamp,
};

/// The requests in hand, in the order in which they began.
#[derive(Debug, Default)]
pub(crate) struct Hands {
    next: AtomicU64,
    held: Mutex<BTreeMap<u64, InHand>>,
}

/// One of them, until this is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    hands: Arc<Hands>,
    key: u64,
}

impl Hands {
    /// Takes a request in hand.
    pub(crate) fn take(self: &Arc<Self>, request: &Request, capability: &Capability, since: Timestamp) -> Held {
        let key = self.next.fetch_add(1, Ordering::Relaxed);
        let taken = InHand { id: request.id.clone(), capability: capability.clone(), attempt: request.attempt, since };
        self.held.lock().unwrap_or_else(PoisonError::into_inner).insert(key, taken);
        Held { hands: Arc::clone(self), key }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// The oldest of them, as many as an answer may hold.
    pub(crate) fn list(&self) -> Vec<InHand> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).values().take(IN_HAND_MAX).cloned().collect()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.hands.held.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use protocol::{RequestId, time};

    use super::*;

    #[test]
    fn what_is_in_hand_is_listed_oldest_first_until_it_is_let_go() {
        let hands = Arc::new(Hands::default());
        let capability = Capability::parse("tea").unwrap();
        let take = |id: &str| hands.take(&Request::new(RequestId::parse(id).unwrap()), &capability, time::now());
        let (first, _second, _third) = (take("c"), take("b"), take("a"));
        let ids = || hands.list().iter().map(|held| held.id.to_string()).collect::<Vec<_>>();
        assert_eq!(ids(), ["c", "b", "a"]);
        drop(first);
        assert_eq!(ids(), ["b", "a"]);
    }
}
