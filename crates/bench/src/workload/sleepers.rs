use std::time::Duration;

use broker::topology;
use chrono::{SecondsFormat, TimeDelta};
use futures_util::{TryStreamExt, stream};
use protocol::{time, topology::Names};
use serde_json::json;
use tokio::time::Instant;

use super::runs::apply;
use crate::{
    Error, Report, Round, Side, Stage,
    resources::{Meter, status_bytes},
};

/// Starts that are handed over at once.
const AT_ONCE: usize = 256;

/// How long a start may take on the whole, and between two looks.
const PER_RUN: Duration = Duration::from_millis(4);
const LOOK: Duration = Duration::from_millis(100);
const STUCK: Duration = Duration::from_secs(60);

/// Runs that wait, all until one moment: what they cost the coordinator while they sleep, and how fast they end then. There is
/// no yardstick.
#[derive(Clone, Debug)]
pub struct Sleepers {
    /// How many. Defaults to 10,000.
    pub number: usize,
}

impl Default for Sleepers {
    fn default() -> Self {
        Self { number: 10_000 }
    }
}

impl Sleepers {
    pub(super) async fn measure(&self, stage: &mut Stage<'_>) -> Result<Report, Error> {
        let definition = json!({ "timeout": "1d", "steps": { "sleep": { "wait": { "until": "${ input.until }" } } } });
        let workflow = &apply(stage, "bench-sleepers", definition).await?;
        let shown = &*stage;
        let names = Names::of(stage.client.namespace());
        let events =
            async |stream: &str| Ok::<_, Error>(topology::stream_state(shown.client.connection(), stream).await?);
        let coordinators: Vec<u32> = {
            let processes = shown.processes();
            processes.into_iter().filter(|(name, _)| name.starts_with("coordinator")).map(|(_, pid)| pid).collect()
        };
        let memory = || coordinators.iter().map(|pid| status_bytes(*pid, "VmRSS:")).sum::<u64>();
        let ahead = Duration::from_secs(10) + PER_RUN.saturating_mul(u32::try_from(self.number).unwrap_or(u32::MAX));
        let due = time::now() + TimeDelta::from_std(ahead).unwrap_or(TimeDelta::MAX);
        let wakes = Instant::now() + ahead;
        let input = &json!({ "until": due.to_rfc3339_opts(SecondsFormat::Millis, true) });
        let (before_bytes, ended_before) = (memory(), events(&names.outcomes).await?.last_sequence);

        (shown.tell)("starting them");
        let mut meter = Meter::default();
        meter.begin(shown.processes());
        let began = Instant::now();
        stream::iter((0..self.number).map(Ok::<_, Error>))
            .try_for_each_concurrent(AT_ONCE, |_| async move {
                shown.start(workflow, input).submit().await?;
                Ok(())
            })
            .await?;
        // A first fact and a timer each.
        let asleep = async || Ok::<_, Error>(events(&names.runs).await?.messages >= 2 * self.number as u64);
        while !asleep().await? {
            if Instant::now() >= wakes {
                return Err(Error::Wrong(
                    "starting them took longer than they were to sleep: measure fewer".to_owned(),
                ));
            }
            tokio::time::sleep(LOOK).await;
        }
        let fell_asleep = began.elapsed().as_secs_f64();
        let asleep_bytes = memory();

        let per_run = asleep_bytes.saturating_sub(before_bytes) as f64 / self.number.max(1) as f64;
        let wake_in = wakes.duration_since(Instant::now()).as_secs();
        (shown.tell)(&format!("all asleep, at {per_run:.0} bytes of the coordinator each; they wake in {wake_in} s"));
        tokio::time::sleep_until(wakes).await;
        let (mut ended, mut moved) = (0, Instant::now());
        while ended < self.number as u64 {
            tokio::time::sleep(LOOK).await;
            let now = match events(&names.outcomes).await {
                Ok(state) => state.last_sequence - ended_before,
                // The server fires all of them before it says anything else.
                Err(Error::Broker(error)) if error.kind() == broker::Kind::TimedOut => ended,
                Err(error) => return Err(error),
            };
            if now > ended {
                (ended, moved) = (now, Instant::now());
            } else if moved.elapsed() > STUCK {
                return Err(Error::Wrong(format!("no more runs end, {now} of {} did", self.number)));
            }
        }
        meter.pause();
        let seconds = wakes.elapsed().as_secs_f64();
        let side = Side { operations: ended, seconds, rate: ended as f64 / seconds, ..Side::default() };
        let mut report = Report::new("sleepers", [("number", self.number.into())]);
        report.rounds = vec![Round { sortie: side, yardstick: None }];
        report.figures.insert("coordinator_bytes_per_sleeping_run".to_owned(), per_run);
        report.figures.insert("started_per_second".to_owned(), self.number as f64 / fell_asleep);
        report.resources = meter.used();
        Ok(report)
    }
}
