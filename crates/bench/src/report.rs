//! What a workload found out.

use std::{collections::BTreeMap, fs};

use protocol::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{measure::Side, resources::Used};

/// Which figure the ratio compares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Basis {
    /// Operations a second: more is better.
    #[default]
    Rate,
    /// The median latency: less is better.
    P50,
}

/// One round: the fleet, and beside it the yardstick.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Round {
    /// The fleet.
    pub sortie: Side,
    /// The bare loop; none where it was left out.
    pub yardstick: Option<Side>,
}

/// The machine that it was measured on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Processors that this process may use.
    pub cores: usize,
    /// What the processors call themselves.
    pub processor: String,
    /// Memory, in bytes.
    pub memory_bytes: u64,
    /// The kernel.
    pub kernel: String,
}

/// The document of `sortie bench`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The workload.
    pub workload: String,
    /// What it was told.
    pub parameters: BTreeMap<String, Value>,
    /// When it ended.
    pub taken_at: Timestamp,
    /// The version of Sortie.
    pub version: String,
    /// Where.
    pub machine: Machine,
    /// Every round but the warm-up.
    pub rounds: Vec<Round>,
    /// What the ratio compares.
    pub basis: Basis,
    /// Fleet over yardstick, the median of the rounds; none without a yardstick.
    pub ratio: Option<f64>,
    /// Further figures, by name; the name says the unit.
    pub figures: BTreeMap<String, f64>,
    /// What the processes used while the fleet was measured.
    pub resources: Vec<Used>,
}

impl Round {
    /// Fleet over yardstick.
    #[must_use]
    pub fn ratio(&self, basis: Basis) -> Option<f64> {
        let of = |side: &Side| match basis {
            Basis::Rate => side.rate,
            Basis::P50 => side.latency.p50_us as f64,
        };
        let yardstick = self.yardstick.as_ref().map(of).filter(|figure| *figure > 0.0)?;
        Some(of(&self.sortie) / yardstick)
    }
}

impl Report {
    pub(crate) fn new(workload: &str, parameters: impl IntoIterator<Item = (&'static str, Value)>) -> Self {
        Self {
            workload: workload.to_owned(),
            parameters: parameters.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            machine: Machine::this(),
            ..Self::default()
        }
    }

    /// With these rounds, and the ratio that follows from them.
    pub(crate) fn with_rounds(mut self, rounds: Vec<Round>, basis: Basis) -> Self {
        self.ratio = median(rounds.iter().filter_map(|round| round.ratio(basis)));
        (self.rounds, self.basis) = (rounds, basis);
        self
    }

    /// The median over the rounds of a figure of the fleet.
    #[must_use]
    pub fn sortie(&self, figure: impl Fn(&Side) -> f64) -> f64 {
        median(self.rounds.iter().map(|round| figure(&round.sortie))).unwrap_or_default()
    }

    /// The median over the rounds of a figure of the yardstick.
    #[must_use]
    pub fn yardstick(&self, figure: impl Fn(&Side) -> f64) -> Option<f64> {
        median(self.rounds.iter().filter_map(|round| round.yardstick.as_ref()).map(figure))
    }
}

impl Machine {
    /// The one that this process runs on.
    #[must_use]
    pub fn this() -> Self {
        let field = |file: &str, key: &str| {
            let text = fs::read_to_string(file).unwrap_or_default();
            let line = text.lines().find(|line| line.starts_with(key)).map(str::to_owned);
            line.and_then(|line| Some(line.split_once(':')?.1.trim().to_owned())).unwrap_or_default()
        };
        let memory = field("/proc/meminfo", "MemTotal");
        let memory_kib: u64 = memory.trim_end_matches(" kB").parse().unwrap_or_default();
        Self {
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            processor: field("/proc/cpuinfo", "model name"),
            memory_bytes: memory_kib * 1024,
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
        }
    }
}

/// The middle one; of an even number the upper of the two in the middle.
pub(crate) fn median(figures: impl Iterator<Item = f64>) -> Option<f64> {
    let mut figures: Vec<f64> = figures.collect();
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Latency;

    fn round(sortie: f64, yardstick: f64) -> Round {
        let side = |rate: f64| Side {
            rate,
            latency: Latency { p50_us: (1e6 / rate) as u64, ..Latency::default() },
            ..Side::default()
        };
        Round { sortie: side(sortie), yardstick: Some(side(yardstick)) }
    }

    #[test]
    fn the_ratio_is_the_median_of_the_rounds() {
        let rounds = vec![round(50.0, 100.0), round(80.0, 100.0), round(90.0, 100.0)];
        let report = Report::new("requests", []).with_rounds(rounds.clone(), Basis::Rate);
        assert_eq!(report.ratio, Some(0.8));
        let report = Report::new("latency", []).with_rounds(rounds, Basis::P50);
        assert_eq!(report.ratio, Some(1.25));
    }

    #[test]
    fn a_report_is_read_as_it_was_written() {
        let report = Report::new("runs", [("steps", 3.into())]).with_rounds(vec![round(1.0, 2.0)], Basis::Rate);
        let text = serde_json::to_string(&report).unwrap_or_default();
        assert_eq!(serde_json::from_str::<Report>(&text).ok(), Some(report));
    }
}
