//! When the last outcome was stored, as somebody who listens hears it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use broker::task::{self, Owned};
use protocol::subject::filter;
use sortie_tests::Fleet;
use tokio::sync::watch;

/// Longer than any fleet may take to store an outcome again when nothing hurts it any more.
pub(crate) const RECOVERED_WITHIN: Duration = Duration::from_secs(60);

/// Listens for the broker's republish of each stored outcome.
#[derive(Debug)]
pub(crate) struct Recovery {
    heard: watch::Receiver<Option<Instant>>,
    _listening: Owned<()>,
}

impl Recovery {
    pub(crate) async fn listen(fleet: &Fleet) -> Result<Self> {
        let mut told = fleet.connection.subscribe(filter::told(&fleet.namespace)).await?;
        fleet.connection.flush().await?;
        let (hear, heard) = watch::channel(None);
        let listening = task::spawn("recovery", async move {
            while told.next().await.is_some() {
                hear.send_replace(Some(Instant::now()));
            }
        });
        Ok(Self { heard, _listening: listening })
    }

    /// Waits for the next outcome, and says how long after `since` it was heard of.
    ///
    /// # Errors
    /// When none comes within a bound.
    pub(crate) async fn after(&self, since: Instant) -> Result<Duration> {
        let mut heard = self.heard.clone();
        let next = heard.wait_for(|heard| heard.is_some_and(|heard| heard > since));
        let next = tokio::time::timeout(RECOVERED_WITHIN, next).await;
        let next =
            next.with_context(|| format!("no outcome is stored within {RECOVERED_WITHIN:?} of the fault's end"))?;
        let next = next.context("nobody listens any more")?.context("one was heard")?;
        Ok(next.saturating_duration_since(since))
    }
}
