//! Schedules that should have fired and did not.
//!
//! The broker forgets a schedule whose firing failed once because its store was full, until it restarts. Published again,
//! expecting the sequence that was read, it fires at once; if it fired in between, the expectation fails and nothing
//! happens. Recurring schedules (`@every`, cron) stay as they were stored when they fire: see [`recurring`].

mod recurring;

use std::time::Duration;

use broker::{Disposition, Error, Settled, StoredMessage, due_time, once_more};
use chrono::TimeDelta;
use futures_util::{TryStreamExt, stream};
use protocol::{subject::filter, time::Timestamp};

use crate::{duty::Duty, post::Post};

/// Schedules that one read asks for.
const PAGE: usize = 500;

/// Schedules that are published again at once.
const AT_ONCE: usize = 64;

/// Publishes again what is overdue.
pub(crate) struct Overdue {
    post: Post,
    /// Whether the next look is the first one of this shift.
    is_first: bool,
}

/// How a schedule stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// It is not due, or cannot be judged.
    Waiting,
    /// It is due, and so lately that it may be firing. It is overdue after this long.
    Due(Duration),
    /// It should have fired.
    Overdue,
}

impl Overdue {
    pub(crate) fn new(post: &Post) -> Self {
        Self { post: post.clone(), is_first: true }
    }

    async fn fire(&self, schedule: StoredMessage) -> Result<(), Error> {
        let outgoing = once_more(schedule);
        match self.post.recorder.record(&outgoing).await {
            Ok(Settled::Stored(_)) => self.post.metrics.overdue.inc(),
            Ok(Settled::Superseded) => {}
            // One that can never be published again must not keep the others back.
            Err(error) if error.disposition() == Disposition::Reject => {
                tracing::error!(subject = outgoing.subject, %error, "overdue schedule cannot be published again");
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

impl Duty for Overdue {
    const NAME: &'static str = "overdue";

    fn begin(&mut self) {
        self.is_first = true;
    }

    async fn look(&mut self) -> Result<Option<Duration>, Error> {
        let now = self.post.now().await?;
        let recurring = recurring::look(&self.post, now, self.is_first).await?;
        self.is_first = false;
        let later = self.look_at(&self.post.names.requests, filter::later(self.post.namespace()), now).await?;
        let timers = self.look_at(&self.post.names.runs, filter::run_timers(self.post.namespace()), now).await?;
        Ok([recurring, later, timers].into_iter().flatten().min())
    }
}

impl Overdue {
    /// Publishes again what is overdue under a filter; says how soon something else will be.
    async fn look_at(&self, stream: &str, filter: String, now: Timestamp) -> Result<Option<Duration>, Error> {
        let mut sooner: Option<Duration> = None;
        let mut from = Some(1);
        while let Some(sequence) = from {
            let page = self.post.reader.page(stream, &filter, sequence, PAGE).await?;
            from = page.next;
            let mut overdue = Vec::new();
            // What is not headers cannot be published again.
            for schedule in page.messages.into_iter().filter(|schedule| schedule.is_readable) {
                match standing(due_time(&schedule.headers), now, self.post.config.overdue_by) {
                    Standing::Waiting => {}
                    Standing::Due(after) => sooner = Some(sooner.map_or(after, |sooner| sooner.max(after))),
                    Standing::Overdue => overdue.push(schedule),
                }
            }
            if !overdue.is_empty() {
                tracing::info!(schedules = overdue.len(), "overdue schedules are published again");
            }
            stream::iter(overdue.into_iter().map(Ok))
                .try_for_each_concurrent(AT_ONCE, |schedule| self.fire(schedule))
                .await?;
        }
        Ok(sooner)
    }
}

fn standing(due: Option<Timestamp>, now: Timestamp, by: Duration) -> Standing {
    let Some(late) = due.map(|due| now - due).filter(|late| *late >= TimeDelta::zero()) else {
        return Standing::Waiting;
    };
    match by.checked_sub(late.to_std().unwrap_or_default()) {
        Some(left) if !left.is_zero() => Standing::Due(left),
        _ => Standing::Overdue,
    }
}

#[cfg(test)]
mod tests {
    use protocol::time;

    use super::*;

    #[test]
    fn only_what_is_late_by_more_than_the_grace_is_overdue() {
        let now = time::parse("2030-01-01T00:01:00Z").unwrap();
        let cases = [
            (None, Standing::Waiting),
            (Some("2030-01-01T00:01:01Z"), Standing::Waiting),
            (Some("2030-01-01T00:01:00Z"), Standing::Due(Duration::from_secs(5))),
            (Some("2030-01-01T00:00:58Z"), Standing::Due(Duration::from_secs(3))),
            (Some("2030-01-01T00:00:55Z"), Standing::Overdue),
            (Some("2020-01-01T00:00:00Z"), Standing::Overdue),
        ];
        for (due, expected) in cases {
            let due = due.map(|due| time::parse(due).unwrap());
            assert_eq!(standing(due, now, Duration::from_secs(5)), expected, "{due:?}");
        }
    }
}
