use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::time::Instant;

use super::{PATIENCE, Rounds, body, capability, completed};
use crate::{Basis, Error, Report, Side, Stage, agent::Load, measure::Tape, yardstick::Yardstick};

/// Requests that come at a fixed rate, whether the fleet keeps up or not. A latency is measured from the moment when a request
/// was due, so that a stall is seen by everything that it held up.
#[derive(Clone, Debug)]
pub struct Open {
    /// Requests a second. Defaults to 1,000.
    pub rate: f64,
    /// For how long. Defaults to 10 s.
    pub lasting: Duration,
    /// The size of an input, in bytes. Defaults to 256.
    pub bytes: usize,
}

impl Default for Open {
    fn default() -> Self {
        Self { rate: 1_000.0, lasting: Duration::from_secs(10), bytes: 256 }
    }
}

impl Open {
    pub(super) async fn measure(&self, stage: &mut Stage<'_>, rounds: Rounds) -> Result<Report, Error> {
        stage.crew.hire(256, 1).await?;
        let load = Load::of_bytes(self.bytes, 0);
        let body: Bytes = body(&load);
        let capability = capability(1)?;
        let yardstick = Yardstick::requests(&stage.options, 1).await?;
        let number = std::sync::atomic::AtomicUsize::new(0);
        let ours = || self.arrive(|| async { completed(&stage.request(&capability, &load).call(PATIENCE).await?) });
        let bare = || {
            self.arrive(|| async {
                let number = number.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                yardstick.ask_one(&format!("o{number}"), &body).await
            })
        };
        let (taken, used) = rounds.take(stage, ours, bare).await?;
        yardstick.close().await;
        stage.crew.dismiss().await?;
        let parameters =
            [("rate", self.rate.into()), ("seconds", self.lasting.as_secs_f64().into()), ("bytes", self.bytes.into())];
        let mut report = Report::new("open", parameters).with_rounds(taken, Basis::P50);
        report.resources = used;
        Ok(report)
    }

    async fn arrive(&self, mut ask: impl AsyncFnMut() -> Result<(), Error> + Copy) -> Result<Side, Error> {
        let number = (self.rate * self.lasting.as_secs_f64()) as u64;
        let tape = Tape::start();
        let began = Instant::now();
        let mut asked = FuturesUnordered::new();
        for index in 0..number {
            let due = began + Duration::from_secs_f64(index as f64 / self.rate);
            loop {
                tokio::select! {
                    biased;
                    Some(ended) = asked.next(), if !asked.is_empty() => {
                        let ended: Result<(), Error> = ended;
                        ended?;
                    }
                    () = tokio::time::sleep_until(due) => break,
                }
            }
            let tape = &tape;
            asked.push(async move {
                ask().await?;
                tape.note(due.elapsed());
                Ok(())
            });
        }
        while let Some(ended) = asked.next().await {
            ended?;
        }
        drop(asked);
        Ok(tape.end())
    }
}
