//! Beginning an attempt: many at once, or one alone.
//!
//! A message under which two workers have died runs alone: what is running ends first and nothing else begins
//! meanwhile, so that a death is the message's own and no neighbour is blamed.

use std::sync::Arc;

use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

/// Admits attempts. Waiting is fair: one that wants to be alone holds back those that come after it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gate(Arc<RwLock<()>>);

/// Leave to run until it is dropped.
#[derive(Debug)]
pub(crate) enum Leave {
    /// Beside others.
    Shared(#[allow(dead_code, reason = "held for its drop")] OwnedRwLockReadGuard<()>),
    /// Alone.
    Alone(#[allow(dead_code, reason = "held for its drop")] OwnedRwLockWriteGuard<()>),
}

impl Gate {
    /// Waits until the attempt may begin.
    pub(crate) async fn enter(&self, alone: bool) -> Leave {
        if alone {
            Leave::Alone(Arc::clone(&self.0).write_owned().await)
        } else {
            Leave::Shared(Arc::clone(&self.0).read_owned().await)
        }
    }
}
