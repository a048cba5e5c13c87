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
    running: HashMap<RequestId, CancellationToken>,
    heard: HashMap<RequestId, Instant>,
}

impl Cancels {
    /// An attempt begins; its token is cancelled with the request.
    pub(crate) fn begin(&self, id: &RequestId, token: &CancellationToken) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.heard.contains_key(id) {
            token.cancel();
        }
        inner.running.insert(id.clone(), token.clone());
    }

    /// An attempt has ended.
    pub(crate) fn end(&self, id: &RequestId) {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).running.remove(id);
    }

    /// A cancellation was heard.
    pub(crate) fn hear(&self, ids: Vec<RequestId>, now: Instant) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.heard.retain(|_, at| now.saturating_duration_since(*at) < REMEMBERED);
        for id in ids {
            if let Some(token) = inner.running.get(&id) {
                token.cancel();
            }
            if inner.heard.len() < REMEMBERED_MAX {
                inner.heard.insert(id, now);
            }
        }
    }

    /// Whether its cancellation was heard lately.
    pub(crate) fn was_heard(&self, id: &RequestId) -> bool {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        !inner.heard.is_empty() && inner.heard.get(id).is_some_and(|at| at.elapsed() < REMEMBERED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs_is_told_and_what_comes_later_too() {
        let (cancels, id) = (Cancels::default(), RequestId::parse("a").unwrap());
        let token = CancellationToken::new();
        cancels.begin(&id, &token);
        cancels.hear(vec![id.clone()], Instant::now());
        assert!(token.is_cancelled() && cancels.was_heard(&id));
        cancels.end(&id);
        let late = CancellationToken::new();
        cancels.begin(&id, &late);
        assert!(late.is_cancelled());
    }
}
