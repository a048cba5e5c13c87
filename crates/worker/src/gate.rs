//! Beginning an attempt: many at once, or one alone.
//!
//! A message under which two workers have died runs alone: what is running ends first and nothing else begins
//! meanwhile, so that a death is the message's own and no neighbour is blamed.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

/// Admits attempts. Waiting is fair: one that wants to be alone holds back those that come after it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gate {
    lock: Arc<RwLock<()>>,
    alone: Arc<AtomicUsize>,
}

/// Leave to run until it is dropped.
#[derive(Debug)]
pub(crate) enum Leave {
    /// Beside others.
    Shared(#[allow(dead_code, reason = "held for its drop")] OwnedRwLockReadGuard<()>),
    /// Alone.
    Alone(#[allow(dead_code, reason = "held for its drop")] (OwnedRwLockWriteGuard<()>, Closing)),
}

/// Somebody runs alone, or waits for it, as long as this lives.
#[derive(Debug)]
pub(crate) struct Closing(Arc<AtomicUsize>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Gate {
    /// Waits until the attempt may begin.
    pub(crate) async fn enter(&self, alone: bool) -> Leave {
        if !alone {
            return Leave::Shared(Arc::clone(&self.lock).read_owned().await);
        }
        self.alone.fetch_add(1, Ordering::AcqRel);
        let closing = Closing(Arc::clone(&self.alone));
        Leave::Alone((Arc::clone(&self.lock).write_owned().await, closing))
    }

    /// Whether somebody runs alone, or waits for it: then nothing is pulled that could not begin.
    pub(crate) fn is_closed(&self) -> bool {
        self.alone.load(Ordering::Acquire) > 0
    }
}
