use std::time::{Duration, Instant};

use futures_util::{TryStreamExt, stream};

use super::{PATIENCE, Rounds, body, capability, completed};
use crate::{Basis, Error, Report, Side, Stage, agent::Load, measure::Tape, yardstick::Yardstick};

/// Submits so many requests, so many at once, and waits for the outcome of each.
#[derive(Clone, Debug)]
pub struct Requests {
    /// How many. Defaults to 20,000.
    pub number: usize,
    /// The size of an input, in bytes. Defaults to 256.
    pub bytes: usize,
    /// How many at once. Defaults to 256.
    pub in_flight: usize,
    /// Attempts at once in the agent. Defaults to 256.
    pub slots: usize,
    /// Capabilities that the agent serves, asked in turn. Defaults to 1.
    pub capabilities: usize,
    /// How long the handler sleeps. Defaults to not at all.
    pub nap: Duration,
}

impl Default for Requests {
    fn default() -> Self {
        Self { number: 20_000, bytes: 256, in_flight: 256, slots: 256, capabilities: 1, nap: Duration::ZERO }
    }
}

impl Requests {
    pub(super) async fn measure(&self, stage: &mut Stage<'_>, rounds: Rounds) -> Result<Report, Error> {
        stage.crew.hire(self.slots, self.capabilities).await?;
        let load = Load::of_bytes(self.bytes, u64::try_from(self.nap.as_millis()).unwrap_or(u64::MAX));
        let body = body(&load);
        let yardstick = Yardstick::requests(&stage.options, 1).await?;
        let (taken, used) = rounds
            .take(
                stage,
                || ask(stage, self.number, self.in_flight, self.capabilities, &load),
                || yardstick.ask(self.number, self.in_flight, &body),
            )
            .await?;
        yardstick.close().await;
        stage.crew.dismiss().await?;
        let parameters = [
            ("number", self.number.into()),
            ("bytes", self.bytes.into()),
            ("in_flight", self.in_flight.into()),
            ("slots", self.slots.into()),
            ("capabilities", self.capabilities.into()),
            ("nap_ms", load.nap_ms.into()),
        ];
        let mut report = Report::new("requests", parameters).with_rounds(taken, Basis::Rate);
        report.resources = used;
        Ok(report)
    }
}

/// So many requests, so many at once, the capabilities in turn.
pub(super) async fn ask(
    stage: &Stage<'_>,
    number: usize,
    in_flight: usize,
    capabilities: usize,
    load: &Load,
) -> Result<Side, Error> {
    let capabilities = (1..=capabilities.max(1)).map(capability).collect::<Result<Vec<_>, _>>()?;
    let tape = Tape::start();
    stream::iter((0..number).map(Ok::<_, Error>))
        .try_for_each_concurrent(in_flight, |index| {
            let (tape, capability) = (&tape, &capabilities[index % capabilities.len()]);
            async move {
                let began = Instant::now();
                completed(&stage.request(capability, load).call(PATIENCE).await?)?;
                tape.note(began.elapsed());
                Ok(())
            }
        })
        .await?;
    Ok(tape.end())
}
