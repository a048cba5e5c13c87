//! The one door to spawning: a task has a name and an owner, and ends with it.

use std::future::Future;

use tokio::task::{AbortHandle, JoinHandle};
use tracing::Instrument;

/// A task that is aborted when this is dropped.
#[derive(Debug)]
#[must_use = "the task ends when this is dropped"]
pub struct Owned<T> {
    handle: JoinHandle<T>,
    is_detached: bool,
}

impl<T> Owned<T> {
    /// Waits for its end; none if it panicked or was aborted.
    pub async fn join(mut self) -> Option<T> {
        (&mut self.handle).await.ok()
    }

    /// Whether it ended.
    pub fn is_finished(&self) -> bool {
        self.handle.is_finished()
    }

    /// Lets it go on without an owner: only for what ends by itself.
    pub fn detach(mut self) {
        self.is_detached = true;
    }

    /// Ends it from elsewhere.
    pub fn abort_handle(&self) -> AbortHandle {
        self.handle.abort_handle()
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        if !self.is_detached {
            self.handle.abort();
        }
    }
}

/// Starts a task under a name that its log lines carry.
#[allow(clippy::disallowed_methods, reason = "this is the door that the ban points to")]
pub fn spawn<F>(name: &'static str, future: F) -> Owned<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let span = tracing::debug_span!("task", task = name);
    Owned { handle: tokio::spawn(future.instrument(span)), is_detached: false }
}
