//! Many letters sent again: so many a second, so many without an outcome at a time, and no further where they fail again.

use std::{collections::BTreeMap, time::Duration};

use broker::Disposition;
use futures_util::stream::{FuturesUnordered, StreamExt};
use protocol::{RequestId, Status, duration};
use tokio::{sync::watch, time::Instant};

use super::{Again, How};
use crate::{Client, Error, ErrorKind};

/// Replays that must have ended before their share of failures says anything. Until then no more than these are sent, so
/// that what still fails is found out with few.
pub const ENDED_MIN: usize = 10;

/// So many in so long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many, from 1.
    pub count: u32,
    /// In how long.
    pub per: Duration,
}

/// How fast, and how far.
#[derive(Clone, Debug)]
pub struct Pace {
    /// So many in so long. Defaults to as many as go.
    pub rate: Option<Rate>,
    /// So many without an outcome at a time. Defaults to 64.
    pub in_flight_max: usize,
    /// Whether outcomes are waited for. Defaults to yes.
    pub waits: bool,
    /// How long each outcome is waited for; without one by then it is counted as pending. Defaults to 60 s.
    pub within: Duration,
    /// Stop when more than this share, in 0 to 1, of what ended has failed. Defaults to going on.
    pub failing_max: Option<f64>,
}

/// What became of many.
#[derive(Debug, Default)]
pub struct Tally {
    /// How many were to be sent again.
    pub all: usize,
    /// New requests, in the order in which they ended.
    pub sent: Vec<(RequestId, RequestId)>,
    /// Requests that an earlier try had sent, marked now.
    pub finished: Vec<(RequestId, RequestId)>,
    /// Letters that were sent again before, each with the latest replay: nothing was done for them.
    pub before: Vec<(RequestId, RequestId)>,
    /// Letters that could not be sent again for certain, and why.
    pub refused: Vec<(RequestId, Error)>,
    /// Outcomes of what was sent.
    pub outcomes: BTreeMap<&'static str, usize>,
    /// Without an outcome in time.
    pub pending: usize,
    /// Whether it stopped because too many failed.
    pub is_stopped: bool,
    /// What no further letter would get past either: the rest was left.
    pub fault: Option<Error>,
}

/// How one of many ended.
enum End {
    Refused(Error),
    Replayed(How, RequestId, Option<Status>),
}

impl Rate {
    /// Reads `50/s`, `10/m`, `100/h`.
    ///
    /// # Errors
    /// One sentence that shows the form.
    pub fn parse(text: &str) -> Result<Self, String> {
        let refused = || format!("`{text}` is not a rate such as 50/s, 10/m or 100/h");
        let (count, per) = text.split_once('/').ok_or_else(refused)?;
        let count =
            count.trim().parse().ok().filter(|count: &u32| (1..=100_000).contains(count)).ok_or_else(refused)?;
        let per = match per.trim() {
            unit @ ("s" | "m" | "h") => duration::parse(&format!("1{unit}"))?,
            per => duration::parse(per).map_err(|_| refused())?,
        };
        if per.is_zero() { Err(refused()) } else { Ok(Self { count, per }) }
    }

    fn interval(self) -> Duration {
        self.per / self.count
    }
}

impl std::fmt::Display for Rate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.count, duration::format(self.per))
    }
}

impl Default for Pace {
    fn default() -> Self {
        Self { rate: None, in_flight_max: 64, waits: true, within: Duration::from_secs(60), failing_max: None }
    }
}

impl Pace {
    fn in_flight(&self, tally: &Tally) -> usize {
        match self.failing_max {
            Some(_) if tally.ended() < ENDED_MIN => self.in_flight_max.min(ENDED_MIN - tally.ended()),
            _ => self.in_flight_max,
        }
        .max(1)
    }
}

impl Tally {
    /// Replays that have an outcome.
    pub fn ended(&self) -> usize {
        self.outcomes.values().sum()
    }

    /// Those that failed or expired.
    pub fn failing(&self) -> usize {
        let of = |status: Status| self.outcomes.get(status.as_str()).copied().unwrap_or(0);
        of(Status::Failed) + of(Status::Expired)
    }

    /// The share of those in what has ended, in 0 to 1.
    #[allow(clippy::cast_precision_loss, reason = "a share of some thousands")]
    pub fn failing_share(&self) -> f64 {
        if self.ended() == 0 { 0.0 } else { self.failing() as f64 / self.ended() as f64 }
    }

    /// Letters that something was found out about.
    pub fn done(&self) -> usize {
        self.sent.len() + self.finished.len() + self.before.len() + self.refused.len()
    }

    fn add(&mut self, of: RequestId, end: End, waits: bool) {
        match end {
            End::Refused(error) if error.disposition() == Disposition::Fatal => {
                self.fault.get_or_insert(error);
            }
            End::Refused(error) => self.refused.push((of, error)),
            End::Replayed(How::Before, request, _) => self.before.push((of, request)),
            End::Replayed(how, request, outcome) => {
                let list = if how == How::Sent { &mut self.sent } else { &mut self.finished };
                list.push((of, request));
                match outcome {
                    Some(status) => *self.outcomes.entry(status.as_str()).or_default() += 1,
                    None if waits => self.pending += 1,
                    None => {}
                }
            }
        }
    }
}

impl Client {
    /// Sends letters again, in this order, and tells how far it is after each. It stops early when more fail than the pace
    /// allows, of [`ENDED_MIN`] at least, or at an error that every letter would meet; what is on its way then is still
    /// sent and marked. Done again it goes on: what was marked is left out.
    pub async fn replay_many(
        &self,
        ids: Vec<RequestId>,
        again: &Again,
        pace: &Pace,
        mut on_change: impl FnMut(&Tally) + Send,
    ) -> Tally {
        let mut tally = Tally { all: ids.len(), ..Tally::default() };
        let mut ids = ids.into_iter().peekable();
        let mut running = FuturesUnordered::new();
        let (stop, stopped) = watch::channel(false);
        let mut next_at = Instant::now();
        loop {
            let goes_on = !tally.is_stopped && tally.fault.is_none();
            let may_begin = goes_on && ids.peek().is_some() && running.len() < pace.in_flight(&tally);
            if !may_begin && running.is_empty() {
                return tally;
            }
            tokio::select! {
                () = tokio::time::sleep_until(next_at), if may_begin => {
                    if let Some(id) = ids.next() {
                        let stopped = stopped.clone();
                        running.push(async move {
                            let end = self.replay_one(&id, again, pace, stopped).await;
                            (id, end)
                        });
                    }
                    next_at = next_at.max(Instant::now()) + pace.rate.map(Rate::interval).unwrap_or_default();
                }
                Some((id, end)) = running.next(), if !running.is_empty() => {
                    tally.add(id, end, pace.waits);
                    let is_failing = pace.failing_max.is_some_and(|share| tally.failing_share() > share);
                    tally.is_stopped |= is_failing && tally.ended() >= ENDED_MIN;
                    if tally.is_stopped || tally.fault.is_some() {
                        stop.send_replace(true);
                    }
                    on_change(&tally);
                }
            }
        }
    }

    async fn replay_one(&self, id: &RequestId, again: &Again, pace: &Pace, mut stopped: watch::Receiver<bool>) -> End {
        let replayed = match self.replay(id, again).await {
            Ok(replayed) => replayed,
            Err(error) => return End::Refused(error),
        };
        let request = replayed.replay.request;
        if !pace.waits || replayed.how == How::Before {
            return End::Replayed(replayed.how, request, None);
        }
        let outcome = tokio::select! {
            outcome = self.wait(&request, pace.within) => outcome,
            _ = stopped.wait_for(|is_stopped| *is_stopped) => return End::Replayed(replayed.how, request, None),
        };
        match outcome {
            Ok(outcome) => End::Replayed(replayed.how, request, Some(outcome.status)),
            // It has one: only its large result cannot be read.
            Err(error) if *error.kind() == ErrorKind::Unreadable => {
                End::Replayed(replayed.how, request, Some(Status::Completed))
            }
            Err(_) => End::Replayed(replayed.how, request, None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates() {
        for (text, interval) in
            [("50/s", Some(20)), ("60/m", Some(1_000)), ("1/h", Some(3_600_000)), ("5/10s", Some(2_000))]
        {
            let found = Rate::parse(text).ok().map(|rate| rate.interval().as_millis());
            assert_eq!(found, interval, "{text}");
        }
        for bad in ["", "50", "0/s", "-1/s", "50/", "50/0s", "x/s", "999999/s"] {
            assert!(Rate::parse(bad).unwrap_err().contains("50/s"), "{bad}");
        }
    }

    #[test]
    fn few_are_sent_until_enough_have_ended() {
        let pace = Pace { failing_max: Some(0.2), ..Pace::default() };
        let mut tally = Tally::default();
        assert_eq!(pace.in_flight(&tally), ENDED_MIN);
        tally.outcomes.insert("completed", 4);
        assert_eq!(pace.in_flight(&tally), 6);
        tally.outcomes.insert("failed", 6);
        assert_eq!(pace.in_flight(&tally), 64);
        assert!((tally.failing_share() - 0.6).abs() < f64::EPSILON);
        assert_eq!(Pace::default().in_flight(&Tally::default()), 64);
    }
}
