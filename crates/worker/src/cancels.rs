//! Cancellation: what was heard is remembered for a while, because the message of a cancelled request may be on its way;
//! what runs is told once the stored outcome proves what was heard. Anybody can say anything over core NATS.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use protocol::RequestId;
use tokio_util::sync::CancellationToken;

/// How long a cancellation that was heard is remembered.
const REMEMBERED: Duration = Duration::from_secs(10);

/// Cancellations remembered at once; past it new ones are not, and only a look for the outcome is missed.
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
    /// An attempt begins; the token is cancelled with the request. Whether a cancellation was heard that wants its proof.
    pub(crate) fn begin(&self, id: &RequestId) -> (CancellationToken, bool) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let was_heard = inner.was_heard(id);
        let running = inner.running.entry(id.clone()).or_default();
        running.attempts += 1;
        (running.token.child_token(), was_heard)
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

    /// Nothing stored proves what was heard.
    pub(crate) fn forget(&self, id: &RequestId) {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).heard.remove(id);
    }

    /// The stored outcome proves it: what runs is told.
    pub(crate) fn prove(&self, id: &RequestId) {
        if let Some(running) = self.inner.lock().unwrap_or_else(PoisonError::into_inner).running.get(id) {
            running.token.cancel();
        }
    }

    /// A cancellation was heard. Gives those that run here and want their proof.
    pub(crate) fn hear(&self, ids: Vec<RequestId>, now: Instant) -> Vec<RequestId> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.heard.retain(|_, at| now.saturating_duration_since(*at) < REMEMBERED);
        let mut running = Vec::new();
        for id in ids {
            if inner.heard.len() >= REMEMBERED_MAX {
                break;
            }
            if inner.heard.insert(id.clone(), now).is_none() && inner.running.contains_key(&id) {
                running.push(id);
            }
        }
        running
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
    fn what_runs_is_told_when_it_is_proved() {
        let (cancels, id) = (Cancels::default(), RequestId::parse("a").unwrap());
        let (token, was_heard) = cancels.begin(&id);
        assert!(!was_heard);
        assert_eq!(cancels.hear(vec![id.clone()], Instant::now()), vec![id.clone()]);
        assert!(!token.is_cancelled() && cancels.was_heard(&id));
        assert_eq!(cancels.hear(vec![id.clone()], Instant::now()), vec![], "one look is enough");
        cancels.prove(&id);
        assert!(token.is_cancelled());
        cancels.end(&id);
        assert!(cancels.begin(&id).1, "what comes later wants its proof too");
        cancels.forget(&id);
        assert!(!cancels.was_heard(&id));
    }

    #[test]
    fn the_end_of_one_attempt_leaves_the_other_within_hearing() {
        let (cancels, id) = (Cancels::default(), RequestId::parse("a").unwrap());
        let ((_first, _), (second, _)) = (cancels.begin(&id), cancels.begin(&id));
        cancels.end(&id);
        cancels.prove(&id);
        assert!(second.is_cancelled());
        cancels.end(&id);
        assert!(cancels.inner.lock().unwrap().running.is_empty());
    }
}
