//! A duty, and how one coordinator of many keeps it: under a lease, look after look.

use std::{
    future::Future,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use broker::{Error, Kind, Lease};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::post::Post;

pub(crate) mod agents_gone;
pub(crate) mod crons;
pub(crate) mod dead_letters;
pub(crate) mod deadlines;
mod follow;
pub(crate) mod gauges;
pub(crate) mod overdue;
pub(crate) mod redrive;
pub(crate) mod triggers;
pub(crate) mod unserved;
pub(crate) mod wishes;

/// How soon a refused lease is asked for again while the store is full: whoever learns that there is room looks at the
/// schedules that could not fire.
const STORE_ASKED_EVERY: Duration = Duration::from_secs(1);

/// How soon a look is taken again that did not finish: an election of the broker takes about as long.
const FAILED_AGAIN_AFTER: Duration = Duration::from_secs(5);

/// How long giving a lease back may take; without it the lease runs out by itself.
const RELEASED_WITHIN: Duration = Duration::from_secs(2);

/// Something that is looked at again and again, by one coordinator at a time. Two may do so all the same (a lease is no
/// mutual exclusion), so whatever a look does is harmless when done twice.
pub(crate) trait Duty: Send + 'static {
    /// The lease's key, and the duty's name in logs and metrics.
    const NAME: &'static str;

    /// Forgets what it knew: another coordinator may have done the duty since.
    fn begin(&mut self);

    /// Takes back what only the duty's holder says.
    fn end(&mut self) {}

    /// Looks once and does what is to be done; says how soon it wants to look again, if sooner than usual.
    fn look(&mut self) -> impl Future<Output = Result<Option<Duration>, Error>> + Send;
}

/// One coordinator's part in a duty.
pub(crate) struct Shift<D> {
    duty: D,
    post: Post,
    lease: Lease,
    every: Duration,
    /// Rings for a look at once.
    bell: Arc<Notify>,
}

impl<D: Duty> Shift<D> {
    pub(crate) fn new(duty: D, post: &Post, every: Duration, bell: Arc<Notify>) -> Self {
        let key = format!("coordinator.{}", D::NAME);
        // A counter that is not there before it counts its first has no increase then.
        for counter in [&post.metrics.looks, &post.metrics.looks_failed] {
            counter.with_label_values(&[D::NAME]);
        }
        let lease = Lease::new(post.locks.clone(), key, post.instance.as_str(), post.config.lease_ttl);
        Self { duty, post: post.clone(), lease, every, bell }
    }

    /// Keeps the duty whenever the lease is to be had, until `stop`.
    pub(crate) async fn keep(mut self, stop: CancellationToken) {
        let mut was_held = false;
        let (mut look_at, mut renew_at) = (Instant::now(), Instant::now());
        while !stop.is_cancelled() {
            if Instant::now() >= renew_at {
                renew_at = renew(&mut self.lease, &self.post).await;
            }
            let is_held = self.lease.is_held();
            if is_held && !was_held {
                tracing::info!(duty = D::NAME, "duty taken");
                self.duty.begin();
                look_at = Instant::now();
            } else if was_held && !is_held {
                tracing::warn!(duty = D::NAME, "duty lost");
                self.duty.end();
            }
            was_held = is_held;
            self.post.metrics.lease_held.with_label_values(&[D::NAME]).set(i64::from(is_held));
            if is_held && Instant::now() >= look_at {
                let wait = self.look(&mut renew_at, &stop).await;
                look_at = Instant::now() + wait;
                continue;
            }
            let until = if is_held { renew_at.min(look_at) } else { renew_at };
            tokio::select! {
                () = tokio::time::sleep_until(until.into()) => {}
                () = self.bell.notified(), if is_held => look_at = Instant::now(),
                () = stop.cancelled() => {}
            }
        }
        self.duty.end();
        // Another coordinator then need not wait until it runs out; if this fails, it waits.
        let _ = tokio::time::timeout(RELEASED_WITHIN, self.lease.release()).await;
        self.post.metrics.lease_held.with_label_values(&[D::NAME]).set(0);
    }

    /// Looks once, renewing the lease meanwhile, and says when to look again.
    async fn look(&mut self, renew_at: &mut Instant, stop: &CancellationToken) -> Duration {
        let mut look = pin!(self.duty.look());
        let ended = loop {
            tokio::select! {
                ended = &mut look => break ended,
                () = tokio::time::sleep_until((*renew_at).into()) => {
                    *renew_at = renew(&mut self.lease, &self.post).await;
                    if !self.lease.is_held() {
                        return Duration::ZERO;
                    }
                }
                // What it was doing is found again by whoever looks next.
                () = stop.cancelled() => return Duration::ZERO,
            }
        };
        self.post.metrics.looks.with_label_values(&[D::NAME]).inc();
        match ended {
            Ok(sooner) => sooner.map_or(self.every, |sooner| sooner.min(self.every)),
            Err(error) => {
                self.post.metrics.looks_failed.with_label_values(&[D::NAME]).inc();
                tracing::warn!(duty = D::NAME, %error, "look not finished");
                self.every.min(FAILED_AGAIN_AFTER)
            }
        }
    }
}

/// Takes or renews the lease, and says when to do so again.
async fn renew(lease: &mut Lease, post: &Post) -> Instant {
    match lease.hold().await {
        Ok(true) => post.store.note(None),
        Ok(false) => {}
        Err(error) => {
            post.store.note(Some(&error));
            if error.kind() != Kind::StoreFull {
                tracing::debug!(%error, "lease not renewed");
            }
        }
    }
    let every = post.config.lease_renewed_every;
    Instant::now() + if post.store.is_refused() { every.min(STORE_ASKED_EVERY) } else { every }
}
