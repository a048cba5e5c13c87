//! Whether a worker is paused: it pulls no more and ends what it has, but it stays.

use tokio::sync::watch;

/// The wish that a worker does not pull.
#[derive(Debug)]
pub(crate) struct Pause {
    is_paused: watch::Sender<bool>,
}

impl Default for Pause {
    fn default() -> Self {
        Self { is_paused: watch::Sender::new(false) }
    }
}

impl Pause {
    /// Pauses or resumes.
    pub(crate) fn set(&self, is_paused: bool) {
        self.is_paused.send_replace(is_paused);
    }

    /// Whether it is paused.
    pub(crate) fn is_set(&self) -> bool {
        *self.is_paused.borrow()
    }

    /// Follows it.
    pub(crate) fn watch(&self) -> watch::Receiver<bool> {
        self.is_paused.subscribe()
    }
}
