//! How long things took, and how many were done when.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// The slices in which ends are counted.
const SLICE: Duration = Duration::from_millis(100);

/// Slices that a result has at most; longer ones are put together.
const SLICES_MAX: usize = 60;

/// The longest latency that is told apart, in microseconds: an hour.
const LATENCY_US_MAX: u64 = 3_600_000_000;

/// A measurement while it goes on.
#[derive(Debug)]
pub(crate) struct Tape {
    began: Instant,
    kept: Mutex<Kept>,
}

#[derive(Debug)]
struct Kept {
    latencies: Histogram<u64>,
    slices: Vec<u64>,
}

/// What was measured of one side in one round.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Side {
    /// What was done: requests, runs.
    pub operations: u64,
    /// How long all of it took, in seconds.
    pub seconds: f64,
    /// Operations a second.
    pub rate: f64,
    /// How long each took.
    pub latency: Latency,
    /// Operations a second over time, each for [`slice_seconds`](Self::slice_seconds).
    pub rates: Vec<f64>,
    /// The length of a slice, in seconds.
    pub slice_seconds: f64,
}

/// Latencies in microseconds, from an HDR histogram of three digits.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// The shortest.
    pub min_us: u64,
    /// The mean.
    pub mean_us: f64,
    /// The median.
    pub p50_us: u64,
    /// Of 100, five took longer.
    pub p95_us: u64,
    /// Of 100, one took longer.
    pub p99_us: u64,
    /// Of 1,000, one took longer.
    pub p999_us: u64,
    /// The longest.
    pub max_us: u64,
}

impl Tape {
    /// Begins now.
    pub(crate) fn start() -> Self {
        let latencies = Histogram::new_with_bounds(1, LATENCY_US_MAX, 3);
        // The bounds are constants that it takes.
        let latencies = latencies.unwrap_or_else(|_| unreachable!("bounds of a histogram"));
        Self { began: Instant::now(), kept: Mutex::new(Kept { latencies, slices: Vec::new() }) }
    }

    /// One is done that took so long.
    pub(crate) fn note(&self, took: Duration) {
        let slice = usize::try_from(self.began.elapsed().as_millis() / SLICE.as_millis()).unwrap_or(usize::MAX);
        let mut kept = self.kept();
        kept.latencies.saturating_record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1));
        // A day of slices; nothing that is measured takes longer.
        if slice < 864_000 {
            if kept.slices.len() <= slice {
                kept.slices.resize(slice + 1, 0);
            }
            kept.slices[slice] += 1;
        }
    }

    /// Ends now.
    pub(crate) fn end(self) -> Side {
        let seconds = self.began.elapsed().as_secs_f64();
        let kept = self.kept.into_inner().unwrap_or_else(PoisonError::into_inner);
        let operations = kept.latencies.len();
        let together = kept.slices.len().div_ceil(SLICES_MAX).max(1);
        let slice_seconds = SLICE.as_secs_f64() * together as f64;
        let mut rates: Vec<f64> =
            kept.slices.chunks(together).map(|slices| slices.iter().sum::<u64>() as f64 / slice_seconds).collect();
        // The last slice was not whole.
        if rates.len() > 1 {
            rates.pop();
        }
        Side {
            operations,
            seconds,
            rate: operations as f64 / seconds,
            latency: Latency::of(&kept.latencies),
            rates,
            slice_seconds,
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Latency {
    fn of(latencies: &Histogram<u64>) -> Self {
        if latencies.is_empty() {
            return Self::default();
        }
        Self {
            min_us: latencies.min(),
            mean_us: latencies.mean(),
            p50_us: latencies.value_at_quantile(0.50),
            p95_us: latencies.value_at_quantile(0.95),
            p99_us: latencies.value_at_quantile(0.99),
            p999_us: latencies.value_at_quantile(0.999),
            max_us: latencies.max(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_what_was_noted() {
        let tape = Tape::start();
        for ms in 1..=1_000 {
            tape.note(Duration::from_millis(ms));
        }
        let side = tape.end();
        assert_eq!(side.operations, 1_000);
        let near = |us: u64, ms: u64| us.abs_diff(ms * 1_000) <= ms * 2;
        assert!(near(side.latency.p50_us, 500) && near(side.latency.p99_us, 990) && near(side.latency.max_us, 1_000));
        assert!(side.rate > 0.0 && !side.rates.is_empty());
    }

    #[test]
    fn nothing_noted_is_nothing_divided() {
        let side = Tape::start().end();
        assert_eq!((side.operations, side.latency), (0, Latency::default()));
    }
}
