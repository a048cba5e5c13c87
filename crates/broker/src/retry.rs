//! Trying again in process: the waits between connection attempts and between publishes that were not settled.

use std::time::Duration;

use backoff::{ExponentialBackoff, ExponentialBackoffBuilder, backoff::Backoff};

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
