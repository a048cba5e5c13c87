//! Timers of runs that the broker has no schedule of any more: somebody purged it, or it was among the last messages before
//! the power went. A schedule that is there and has not fired is another matter: [`crate::duty::overdue`].
//!
//! Nothing comes that would make a run be looked at, so all are looked at in turn, some at a time: each log is folded, and
//! what is overdue is set again, which fires it at once.

use std::time::Duration;

use broker::{Error, is_schedule};
use chrono::TimeDelta;
use futures_util::{TryStreamExt, stream};
use protocol::{RunFact, RunId, Subject, run::StoredFact, subject, subject::filter, time::Timestamp};
use tokio::sync::mpsc;
use workflow::{command::Order, fact::TimerName};

use super::{carry, log::Log, means::Means};
use crate::{duty::Duty, post::Post};

/// First facts that one read asks for: they hold definitions.
const PAGE: usize = 100;

/// Runs that one look looks at, and how many of them at once.
const RUNS_MAX: usize = 2_000;
const AT_ONCE: usize = 8;

/// Looks for timers that are lost.
pub(crate) struct Timers {
    means: Means,
    /// Where the next look goes on.
    from: u64,
}

impl Timers {
    pub(crate) fn new(post: &Post) -> Self {
        // No run ends here, so no place becomes vacant.
        let (vacant, _) = mpsc::channel(1);
        Self { means: Means::new(post, vacant), from: 1 }
    }

    async fn look_at_some(&mut self, now: Timestamp) -> Result<(), Error> {
        let post = &self.means.post;
        let (stream, filter) = (&post.names.runs, filter::runs_started(post.namespace()));
        let mut looked_at = 0;
        while looked_at < RUNS_MAX {
            let page = post.reader.page(stream, &filter, self.from, PAGE).await?;
            looked_at += page.messages.len();
            let begun = page.messages.iter().filter_map(|first| {
                let fact = StoredFact::parse(post.namespace(), &first.subject)?;
                Some(Ok((fact.run, fact.partition, first.sequence)))
            });
            stream::iter(begun)
                .try_for_each_concurrent(AT_ONCE, |(run, partition, first)| self.look_at(run, partition, first, now))
                .await?;
            let is_last = page.next.is_none();
            self.from = page.next.unwrap_or(1);
            if is_last {
                break;
            }
        }
        Ok(())
    }

    async fn look_at(&self, run: RunId, partition: u8, first: u64, now: Timestamp) -> Result<(), Error> {
        // None: it has ended since.
        let Some(log) = Log::load(&self.means, &run, partition, first, 0).await? else { return Ok(()) };
        let late = TimeDelta::from_std(self.means.post.config.overdue_by).unwrap_or(TimeDelta::MAX);
        for command in log.state.commands_since(0) {
            if let Order::SetTimer { timer, due } = command.order
                && now - due > late
            {
                self.set_again(&run, partition, &timer, due).await?;
            }
        }
        Ok(())
    }

    /// Unless it is there, or has fired: the log that was folded may be a replica's that is behind.
    async fn set_again(&self, run: &RunId, partition: u8, timer: &TimerName, due: Timestamp) -> Result<(), Error> {
        let post = &self.means.post;
        let set = Subject::Timer { run: run.clone(), timer: timer.clone() }.render(post.namespace());
        let fired = RunFact::TimerFired(timer.clone());
        let fired = subject::stored_run_fact(post.namespace(), Some(partition), run, &fired);
        if post.reader.has(&post.names.runs, &fired).await? {
            return Ok(());
        }
        // The broker forgets a schedule when anything else is stored in its place.
        let there = match post.reader.last_at_leader(&post.names.runs, &set).await? {
            Some(there) if is_schedule(&there.headers) => return Ok(()),
            there => there.map_or(0, |there| there.sequence),
        };
        tracing::warn!(%run, %timer, %due, "a timer was lost, and is set again");
        // Under its usual id the broker would take it for the one that it had.
        post.recorder.record(&carry::timer(post, run, timer, due).expecting(there)).await?;
        post.metrics.overdue.inc();
        Ok(())
    }
}

impl Duty for Timers {
    const NAME: &'static str = "timers";

    fn begin(&mut self) {
        self.from = 1;
    }

    async fn look(&mut self) -> Result<Option<Duration>, Error> {
        let now = self.means.post.now().await?;
        self.look_at_some(now).await.map(|()| None)
    }
}
