//! Cancellation: what runs is told, and what was heard is remembered for a while, because the message of a cancelled
//! request may be on its way.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use protocol::RequestId;
use tokio_util::sync::CancellationToken;

/// How long a cancellation that was heard is remembered.
const REMEMBERED: Duration = Duration::from_secs(10);

/// Cancellations remembered at once; past it the oldest are forgotten, and only a look for the outcome is missed.
const REMEMBERED_MAX: usize = 100_000;

/// Running attempts by request, and cancellations that were heard.
#[derive(Debug, Default)]
pub(crate) struct Cancels {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    running: HashMap<RequestId, Running>,
    heard: HashMap<RequestId, Instant>,
}

/// The attempts of one request that run here: two, where it was published twice.
#[derive(Debug, Default)]
struct Running {
    attempts: usize,
    token: CancellationToken,
}

impl Inner {
    fn was_heard(&self, id: &RequestId) -> bool {
        !self.heard.is_empty() && self.heard.get(id).is_some_and(|at| at.elapsed() < REMEMBERED)
    }
}

impl Cancels {
    /// An attempt begins; the token is cancelled with the request.
    pub(crate) fn begin(&self, id: &RequestId) -> CancellationToken {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let was_heard = inner.was_heard(id);
        let running = inner.running.entry(id.clone()).or_default();
        running.attempts += 1;
        if was_heard {
            running.token.cancel();
        }
        running.token.child_token()
    }

    /// An attempt has ended.
    pub(crate) fn end(&self, id: &RequestId) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = inner.running.get_mut(id) {
            running.attempts -= 1;
            if running.attempts == 0 {
                inner.running.remove(id);
            }
        }
    }

    /// Nothing stored confirms what was heard. Whoever remembers it would stop the request again and again, until the
    /// broker gives it up.
    pub(crate) fn forget(&self, id: &RequestId) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.heard.remove(id);
        if let Some(running) = inner.running.get_mut(id) {
            running.token = CancellationToken::new();
        }
    }

    /// A cancellation was heard.
    pub(crate) fn hear(&self, ids: Vec<RequestId>, now: Instant) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.heard.retain(|_, at| now.saturating_duration_since(*at) < REMEMBERED);
        for id in ids {
            if let Some(running) = inner.running.get(&id) {
                running.token.cancel();
            }
            if inner.heard.len() < REMEMBERED_MAX {
                inner.heard.insert(id, now);
            }
        }
    }

    /// Whether its cancellation was heard lately.
    pub(crate) fn was_heard(&self, id: &RequestId) -> bool {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).was_heard(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs_is_told_and_what_comes_later_too() {
        let (cancels, id) = (Cancels::default(), RequestId::parse("a").unwrap());
        let token = cancels.begin(&id);
        cancels.hear(vec![id.clone()], Instant::now());
        assert!(token.is_cancelled() && cancels.was_heard(&id));
        cancels.end(&id);
        let late = cancels.begin(&id);
        assert!(late.is_cancelled());
        cancels.forget(&id);
        assert!(!cancels.begin(&id).is_cancelled() && !cancels.was_heard(&id));
    }

    #[test]
    fn the_end_of_one_attempt_leaves_the_other_within_hearing() {
        let (cancels, id) = (Cancels::default(), RequestId::parse("a").unwrap());
        let (_first, second) = (cancels.begin(&id), cancels.begin(&id));
        cancels.end(&id);
        cancels.hear(vec![id.clone()], Instant::now());
        assert!(second.is_cancelled());
        cancels.end(&id);
        assert!(cancels.inner.lock().unwrap().running.is_empty());
    }
}
