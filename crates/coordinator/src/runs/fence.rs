//! Whether a partition is still this coordinator's, by its own monotonic clock.
//!
//! A pin is no mutual exclusion: a coordinator that stood still comes back and goes on unaware. The broker counts a pin's
//! time from the last pull that it had, so whoever counts from a pull that it provably had, and from when that was sent,
//! stops first.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// The fence of one partition.
#[derive(Debug)]
pub(super) struct Fence {
    seen: Mutex<Seen>,
    /// How long a pull is good for.
    timeout: Duration,
}

#[derive(Debug, Default)]
struct Seen {
    /// Counts how often the partition was taken.
    term: u64,
    /// When the last pull was sent that the broker provably had; none while the partition is not ours.
    proved: Option<Instant>,
}

/// The right to act for a partition during one term.
#[derive(Clone, Debug)]
pub(super) struct Term {
    fence: Arc<Fence>,
    number: u64,
}

impl Fence {
    pub(super) fn new(timeout: Duration) -> Arc<Self> {
        Arc::new(Self { seen: Mutex::default(), timeout })
    }

    /// Takes the partition: whatever another term was about to do is not done any more.
    pub(super) fn begin(self: &Arc<Self>, proved: Instant) -> Term {
        let mut seen = self.seen();
        seen.term += 1;
        seen.proved = Some(proved);
        Term { fence: Arc::clone(self), number: seen.term }
    }

    /// The broker had a pull that was sent then. A fence that has fallen stays down.
    pub(super) fn prove(&self, sent: Instant) {
        let mut seen = self.seen();
        if self.stands_by(&mut seen) {
            seen.proved = seen.proved.max(Some(sent));
        }
    }

    /// Lets go of the partition.
    pub(super) fn fall(&self) {
        self.seen().proved = None;
    }

    /// Whether the partition is ours.
    pub(super) fn stands(&self) -> bool {
        self.stands_by(&mut self.seen())
    }

    /// What was too late once is too late for good, so that nobody goes on after a moment in which another could begin.
    fn stands_by(&self, seen: &mut Seen) -> bool {
        if seen.proved.is_some_and(|proved| proved.elapsed() >= self.timeout) {
            seen.proved = None;
        }
        seen.proved.is_some()
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Term {
    /// Whether it lasts. Ask directly before every publish.
    pub(super) fn lasts(&self) -> bool {
        let mut seen = self.fence.seen();
        seen.term == self.number && self.fence.stands_by(&mut seen)
    }

    /// Its number, for telling one from another.
    pub(super) fn number(&self) -> u64 {
        self.number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(2);

    #[test]
    fn a_term_lasts_while_pulls_are_proved_and_never_after_a_gap() {
        let now = Instant::now();
        let fence = Fence::new(TIMEOUT);
        assert!(!fence.stands());
        let term = fence.begin(now);
        assert!(term.lasts());
        fence.prove(now - TIMEOUT);
        assert!(term.lasts(), "an older proof takes nothing away");
        let term = fence.begin(now - TIMEOUT);
        assert!(!term.lasts());
        fence.prove(Instant::now());
        assert!(!term.lasts() && !fence.stands(), "what has fallen stays down");
    }

    #[test]
    fn a_new_term_ends_the_one_before() {
        let fence = Fence::new(TIMEOUT);
        let first = fence.begin(Instant::now());
        let second = fence.begin(Instant::now());
        assert!(!first.lasts() && second.lasts());
        assert_ne!(first.number(), second.number());
        fence.fall();
        assert!(!second.lasts());
    }
}
