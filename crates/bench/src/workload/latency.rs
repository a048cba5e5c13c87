use super::{Rounds, body, requests::ask};
use crate::{Basis, Error, Report, Stage, agent::Load, yardstick::Yardstick};

/// One request at a time, each submitted when the last one's outcome was there.
#[derive(Clone, Debug)]
pub struct OneByOne {
    /// How many. Defaults to 2,000.
    pub number: usize,
    /// The size of an input, in bytes. Defaults to 256.
    pub bytes: usize,
}

impl Default for OneByOne {
    fn default() -> Self {
        Self { number: 2_000, bytes: 256 }
    }
}

impl OneByOne {
    pub(super) async fn measure(&self, stage: &mut Stage<'_>, rounds: Rounds) -> Result<Report, Error> {
        stage.crew.hire(10, 1).await?;
        let load = Load::of_bytes(self.bytes, 0);
        let body = body(&load);
        let yardstick = Yardstick::requests(&stage.options, 1).await?;
        let (taken, used) = rounds
            .take(stage, || ask(stage, self.number, 1, 1, &load), || yardstick.ask(self.number, 1, &body))
            .await?;
        yardstick.close().await;
        stage.crew.dismiss().await?;
        let parameters = [("number", self.number.into()), ("bytes", self.bytes.into())];
        let mut report = Report::new("latency", parameters).with_rounds(taken, Basis::P50);
        report.resources = used;
        Ok(report)
    }
}
