//! Something that handlers wait for until a test lets them go on: by awaiting, or by holding their thread.

use std::{
    sync::{Arc, Condvar, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::watch;

/// A thread is never held longer than this: a test that failed must end.
const HELD_MAX: Duration = Duration::from_secs(60);

/// Closed until it is opened. Clones are the same latch.
#[derive(Clone, Debug)]
pub struct Latch(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    is_open: watch::Sender<bool>,
    for_threads: Mutex<bool>,
    opened: Condvar,
}

impl Default for Latch {
    fn default() -> Self {
        Self::new()
    }
}

impl Latch {
    /// A closed one.
    pub fn new() -> Self {
        let inner =
            Inner { is_open: watch::Sender::new(false), for_threads: Mutex::default(), opened: Condvar::default() };
        Self(Arc::new(inner))
    }

    /// Lets everyone go on, now and later.
    pub fn open(&self) {
        self.0.is_open.send_replace(true);
        *self.0.for_threads.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.0.opened.notify_all();
    }

    /// Waits until it is open.
    pub async fn passed(&self) {
        // It cannot fail: the sender lives as long as this does.
        let _ = self.0.is_open.subscribe().wait_for(|is_open| *is_open).await;
    }

    /// Holds the thread until it is open, as a handler should not.
    pub fn hold_thread(&self) {
        let is_open = self.0.for_threads.lock().unwrap_or_else(PoisonError::into_inner);
        let _held = self.0.opened.wait_timeout_while(is_open, HELD_MAX, |is_open| !*is_open);
    }
}
