use std::time::Duration;

use broker::topology;
use chrono::TimeDelta;
use futures_util::{TryStreamExt, stream};
use protocol::{
    time::{self, Timestamp},
    topology::Names,
};
use tokio::time::Instant;

use super::{Rounds, body, capability};
use crate::{Basis, Error, Report, Side, Stage, agent::Load, yardstick::Yardstick};

/// How many are handed over at once, and how long that may take for each thousand before they are due.
const AT_ONCE: usize = 256;
const AHEAD_PER_THOUSAND: Duration = Duration::from_millis(400);

/// How often it is looked how much is done, and for how long nothing may be done.
const LOOK: Duration = Duration::from_millis(20);
const STUCK: Duration = Duration::from_secs(60);

/// Delayed requests that are due at one moment: how many a second are done from that moment on.
#[derive(Clone, Debug)]
pub struct Timers {
    /// How many. Defaults to 10,000.
    pub number: usize,
    /// The size of an input, in bytes. Defaults to 64.
    pub bytes: usize,
}

impl Default for Timers {
    fn default() -> Self {
        Self { number: 10_000, bytes: 64 }
    }
}

/// The moment when all are due, on both clocks.
#[derive(Clone, Copy, Debug)]
struct Due {
    at: Timestamp,
    here: Instant,
}

impl Timers {
    pub(super) async fn measure(&self, stage: &mut Stage<'_>, rounds: Rounds) -> Result<Report, Error> {
        stage.crew.hire(AT_ONCE, 1).await?;
        let load = Load::of_bytes(self.bytes, 0);
        let body = body(&load);
        let yardstick = Yardstick::timers(&stage.options, 1).await?;
        let names = Names::of(stage.client.namespace());
        let (shown, load) = (&*stage, &load);
        let ours = async || {
            let (due, capability) = (self.due(), &capability(1)?);
            let before = outcomes(shown, &names.outcomes).await?;
            stream::iter((0..self.number).map(Ok::<_, Error>))
                .try_for_each_concurrent(AT_ONCE, |_| async move {
                    shown.request(capability, load).at(due.at).submit().await?;
                    Ok(())
                })
                .await?;
            self.wait(due, async || Ok(outcomes(shown, &names.outcomes).await? - before)).await
        };
        let bare = async || {
            let due = self.due();
            let before = outcomes(shown, "BARE_OUTCOMES").await?;
            yardstick.schedule(self.number, AT_ONCE, due.at, &body).await?;
            self.wait(due, async || Ok(outcomes(shown, "BARE_OUTCOMES").await? - before)).await
        };
        let (taken, used) = rounds.take(shown, ours, bare).await?;
        yardstick.close().await;
        stage.crew.dismiss().await?;
        let parameters = [("number", self.number.into()), ("bytes", self.bytes.into())];
        let mut report = Report::new("timers", parameters).with_rounds(taken, Basis::Rate);
        report.resources = used;
        Ok(report)
    }

    fn due(&self) -> Due {
        let thousands = u32::try_from(self.number / 1_000).unwrap_or(u32::MAX);
        let ahead = Duration::from_secs(2) + AHEAD_PER_THOUSAND.saturating_mul(thousands);
        let at = time::now() + TimeDelta::from_std(ahead).unwrap_or(TimeDelta::MAX);
        Due { at, here: Instant::now() + ahead }
    }

    /// From the moment when they are due to the last outcome.
    async fn wait(&self, due: Due, done: impl AsyncFn() -> Result<u64, Error>) -> Result<Side, Error> {
        if due.here <= Instant::now() {
            let why = "handing them over took longer than they were due in: measure fewer";
            return Err(Error::Wrong(why.to_owned()));
        }
        if done().await? > 0 {
            return Err(Error::Wrong("some were done before they were due".to_owned()));
        }
        tokio::time::sleep_until(due.here).await;
        let (mut before, mut moved) = (0, Instant::now());
        let mut rates = Vec::new();
        while before < self.number as u64 {
            tokio::time::sleep(LOOK).await;
            let now = done().await?;
            if now > before {
                rates.push((now - before) as f64 / moved.elapsed().as_secs_f64());
                (before, moved) = (now, Instant::now());
            } else if moved.elapsed() > STUCK {
                return Err(Error::Wrong(format!("nothing more is done, {now} of {} were", self.number)));
            }
        }
        let seconds = due.here.elapsed().as_secs_f64();
        let operations = self.number as u64;
        rates.truncate(60);
        Ok(Side {
            operations,
            seconds,
            rate: operations as f64 / seconds,
            rates,
            slice_seconds: LOOK.as_secs_f64(),
            ..Side::default()
        })
    }
}

/// How many outcomes a stream ever had.
async fn outcomes(stage: &Stage<'_>, stream: &str) -> Result<u64, Error> {
    Ok(topology::stream_state(stage.client.connection(), stream).await?.last_sequence)
}
