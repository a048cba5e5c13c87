//! Trying again in process: the waits between connection attempts and between publishes that were not settled.

use std::time::{Duration, Instant};

use backoff::{ExponentialBackoff, ExponentialBackoffBuilder, backoff::Backoff};

/// When this long from now on is over. What is longer than any duration that is read is as long as the longest of those:
/// the clock's times end somewhere.
pub(crate) fn end_of(within: Duration) -> Instant {
    Instant::now() + within.min(protocol::duration::DURATION_MAX)
}

/// Growing waits with jitter, without an end of their own: whoever uses them has the bound.
pub(crate) struct Waits(ExponentialBackoff);

impl Waits {
    /// From `first` up to `cap`.
    pub(crate) fn new(first: Duration, cap: Duration) -> Self {
        let waits = ExponentialBackoffBuilder::new()
            .with_initial_interval(first)
            .with_max_interval(cap)
            .with_multiplier(2.0)
            .with_max_elapsed_time(None)
            .build();
        Self(waits)
    }

    /// The next wait.
    pub(crate) fn next(&mut self) -> Duration {
        self.0.next_backoff().unwrap_or(self.0.max_interval)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_wait_has_an_end() {
        assert!(end_of(Duration::MAX) > Instant::now());
        assert!(end_of(Duration::ZERO) <= Instant::now());
    }
}
