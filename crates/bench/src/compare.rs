//! Two reports of one workload beside each other.

use serde::Serialize;

use crate::{Basis, Report};

/// A change for the worse beyond this share is told as one. Machines here differ by less from hour to hour in ratios, and by
/// more in rates.
pub const WORSE_BEYOND: f64 = 0.10;

/// What changed of one figure.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    /// The figure; its name says the unit.
    pub figure: String,
    /// In the first report.
    pub before: f64,
    /// In the second one.
    pub after: f64,
    /// After over before.
    pub factor: f64,
    /// Whether it is worse by more than [`WORSE_BEYOND`].
    pub is_worse: bool,
}

/// What changed from one report to another.
///
/// # Errors
/// They are not of the same workload with the same parameters: nothing can be said then.
pub fn compare(before: &Report, after: &Report) -> Result<Vec<Change>, String> {
    if before.workload != after.workload {
        return Err(format!("the first is of {}, the second of {}", before.workload, after.workload));
    }
    if before.parameters != after.parameters {
        let differing = after.parameters.iter().filter(|(name, value)| before.parameters.get(*name) != Some(value));
        let names: Vec<&str> = differing.map(|(name, _)| name.as_str()).collect();
        return Err(format!("they differ in what was measured: {}", names.join(", ")));
    }
    let mut changes = Vec::new();
    let mut add = |figure: &str, before: f64, after: f64, is_more_better: bool| {
        if before > 0.0 && after > 0.0 {
            let factor = after / before;
            let is_worse = if is_more_better { factor < 1.0 - WORSE_BEYOND } else { factor > 1.0 + WORSE_BEYOND };
            changes.push(Change { figure: figure.to_owned(), before, after, factor, is_worse });
        }
    };
    if let (Some(first), Some(second)) = (before.ratio, after.ratio) {
        add("ratio", first, second, after.basis == Basis::Rate);
    }
    add("rate", before.sortie(|side| side.rate), after.sortie(|side| side.rate), true);
    for (name, of) in [
        ("p50_us", (|side| side.latency.p50_us as f64) as fn(&crate::Side) -> f64),
        ("p99_us", |side| side.latency.p99_us as f64),
        ("p999_us", |side| side.latency.p999_us as f64),
    ] {
        add(name, before.sortie(of), after.sortie(of), false);
    }
    for used in &after.resources {
        if let Some(earlier) = before.resources.iter().find(|earlier| earlier.name == used.name) {
            add(&format!("{}_cpu_seconds", used.name), earlier.cpu_seconds, used.cpu_seconds, false);
            add(&format!("{}_peak_bytes", used.name), earlier.peak_bytes as f64, used.peak_bytes as f64, false);
        }
    }
    Ok(changes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Round, Side};

    fn report(rate: f64) -> Report {
        let side = |rate| Side { rate, ..Side::default() };
        let round = Round { sortie: side(rate), yardstick: Some(side(100.0)) };
        Report { workload: "requests".to_owned(), ratio: Some(rate / 100.0), rounds: vec![round], ..Report::default() }
    }

    #[test]
    fn slower_by_more_than_a_tenth_is_worse() {
        let worse = |after| {
            let changes = compare(&report(80.0), &report(after)).unwrap_or_default();
            changes.into_iter().filter(|change| change.is_worse).map(|change| change.figure).collect::<Vec<_>>()
        };
        assert_eq!(worse(75.0), Vec::<String>::new());
        assert_eq!(worse(60.0), ["ratio", "rate"]);
    }

    #[test]
    fn what_is_not_the_same_is_not_compared() {
        let mut other = report(80.0);
        other.parameters.insert("bytes".to_owned(), 512.into());
        assert!(compare(&report(80.0), &other).is_err_and(|why| why.contains("bytes")));
        assert!(compare(&report(80.0), &Report { workload: "runs".to_owned(), ..report(80.0) }).is_err());
    }
}
