use serde_json::{Value, json};

use super::{
    Rounds, body,
    runs::{apply, start},
};
use crate::{
    Basis, Error, Report, Stage,
    agent::{CAPABILITY, Load},
    yardstick::Yardstick,
};

/// Runs one at a time, each of one step over many items: from the submission until all of it is gathered.
#[derive(Clone, Debug)]
pub struct Fanout {
    /// How many runs. Defaults to 20.
    pub number: usize,
    /// Items of each. Defaults to 200.
    pub items: usize,
    /// The size of an item, in bytes. Defaults to 64.
    pub bytes: usize,
}

impl Default for Fanout {
    fn default() -> Self {
        Self { number: 20, items: 200, bytes: 64 }
    }
}

impl Fanout {
    pub(super) async fn measure(&self, stage: &mut Stage<'_>, rounds: Rounds) -> Result<Report, Error> {
        stage.crew.hire(256, 1).await?;
        let load = Load::of_bytes(self.bytes, 0);
        let body = body(&load);
        let items = vec![load; self.items];
        let workflow = apply(stage, "bench-fanout", self.definition()).await?;
        let yardstick = Yardstick::runs(&stage.options, 1, 1, self.items).await?;
        let (taken, used) = rounds
            .take(
                stage,
                async || Ok(start(stage, &workflow, &items, self.number, 1).await?.0),
                || yardstick.run(self.number, 1, &body),
            )
            .await?;
        yardstick.close().await;
        stage.crew.dismiss().await?;
        let parameters = [("number", self.number.into()), ("items", self.items.into()), ("bytes", self.bytes.into())];
        let mut report = Report::new("fanout", parameters).with_rounds(taken, Basis::P50);
        report.resources = used;
        Ok(report)
    }

    fn definition(&self) -> Value {
        json!({
            "steps": {
                "all": { "foreach": "${ input }", "max_parallel": self.items, "call": CAPABILITY, "with": "${ item }" },
            },
            "output": "${ size(steps.all.output) }",
        })
    }
}
