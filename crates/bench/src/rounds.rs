//! Rounds: the yardstick and the fleet in turn, so that what disturbs the machine disturbs both.

use crate::{
    Error, Stage,
    measure::Side,
    report::Round,
    resources::{Meter, Used},
};

/// How often, and whether beside the yardstick.
#[derive(Clone, Copy, Debug)]
pub struct Rounds {
    /// How often it is measured, after a warm-up that does not count.
    pub count: usize,
    /// Whether the yardstick is measured too.
    pub with_yardstick: bool,
}

impl Default for Rounds {
    fn default() -> Self {
        Self { count: 3, with_yardstick: true }
    }
}

impl Rounds {
    /// Measures both sides in turn, and what the processes of the fleet used for theirs.
    pub(crate) async fn take(
        self,
        stage: &Stage<'_>,
        mut sortie: impl AsyncFnMut() -> Result<Side, Error>,
        mut yardstick: impl AsyncFnMut() -> Result<Side, Error>,
    ) -> Result<(Vec<Round>, Vec<Used>), Error> {
        let mut meter = Meter::default();
        let mut rounds = Vec::new();
        for number in 0..=self.count {
            (stage.tell)(&if number == 0 { "warm-up".to_owned() } else { format!("round {number} of {}", self.count) });
            let bare = if self.with_yardstick { Some(yardstick().await?) } else { None };
            meter.begin(stage.processes());
            let ours = sortie().await?;
            if number == 0 {
                meter = Meter::default();
                continue;
            }
            meter.pause();
            rounds.push(Round { sortie: ours, yardstick: bare });
        }
        Ok((rounds, meter.used()))
    }
}
