//! Nobody rebalances pins but those who hold them: who has more partitions than its share lets go of one a second.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use protocol::topology::RUN_PARTITIONS;
use tokio_util::sync::CancellationToken;

use super::partition;
use crate::post::Post;

/// What the keys of coordinators that are alive begin with, in the locks bucket.
const PRESENT: &str = "present.";

/// How long a coordinator counts that says nothing more, and how often it says so. Whole seconds.
const PRESENT_TTL: Duration = Duration::from_secs(9);
const TOLD_EVERY: Duration = Duration::from_secs(3);

/// How often the shares are looked at: one partition at a time moves.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Keeps this coordinator to its share of the partitions.
pub(super) struct Share {
    post: Post,
    partitions: Vec<Arc<partition::Post>>,
}

impl Share {
    pub(super) fn new(post: &Post, partitions: Vec<Arc<partition::Post>>) -> Self {
        Self { post: post.clone(), partitions }
    }

    pub(super) async fn keep(self, stop: CancellationToken) {
        let key = format!("{PRESENT}{}", self.post.instance);
        let mut tell_at = Instant::now();
        loop {
            if Instant::now() >= tell_at {
                tell_at = Instant::now() + TOLD_EVERY;
                let told = self.post.locks.put(&key, self.post.instance.to_string(), Some(PRESENT_TTL)).await;
                if let Err(error) = told {
                    tracing::debug!(%error, "not told that this coordinator is there");
                }
            }
            self.look().await;
            tokio::select! { () = tokio::time::sleep(LOOK_EVERY) => {}, () = stop.cancelled() => break }
        }
        // Without it the key runs out by itself.
        let _ = tokio::time::timeout(Duration::from_secs(1), self.post.locks.remove(&key)).await;
    }

    async fn look(&self) {
        let held: Vec<&Arc<partition::Post>> = self.partitions.iter().filter(|one| one.fence.stands()).collect();
        self.post.metrics.runs.partitions_held.set(i64::try_from(held.len()).unwrap_or(i64::MAX));
        let Ok(present) = self.post.locks.list(&format!("{PRESENT}*")).await else { return };
        let is_busy = self.partitions.iter().any(|one| one.is_stepping_back.load(Ordering::Relaxed));
        if is_busy || held.len() <= share(present.len()) {
            return;
        }
        if let Some(one) = held.last() {
            one.is_stepping_back.store(true, Ordering::Relaxed);
            one.step_back.notify_one();
        }
    }
}

/// How many partitions are one's share of this many.
fn share(coordinators: usize) -> usize {
    usize::from(RUN_PARTITIONS).div_ceil(coordinators.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_together_are_all_partitions() {
        for (coordinators, expected) in [(0, 16), (1, 16), (2, 8), (3, 6), (16, 1), (40, 1)] {
            assert_eq!(share(coordinators), expected);
            assert!(share(coordinators) * coordinators.max(1) >= 16);
        }
    }
}
