//! A report for people.

use bench::{Basis, Report, Side, plot};

use crate::output::Output;

const MIB: f64 = 1_048_576.0;

pub(super) fn text(output: Output, report: &Report) -> String {
    let parameters: Vec<String> = report.parameters.iter().map(|(name, value)| format!("{name} {value}")).collect();
    let mut text = format!("{}: {}\n\n", report.workload, parameters.join(", "));
    let mut rows = vec![row(report, "sortie", |report, figure| Some(report.sortie(figure)))];
    if report.rounds.iter().any(|round| round.yardstick.is_some()) {
        rows.push(row(report, "yardstick", |report, figure| report.yardstick(figure)));
    }
    text += &output.table(&["", "PER SECOND", "P50", "P95", "P99", "P99.9", "MAX"], rows);
    text += "\n\n";
    if let Some(ratio) = report.ratio {
        let each: Vec<String> =
            report.rounds.iter().filter_map(|round| round.ratio(report.basis)).map(|one| format!("{one:.2}")).collect();
        let of = match report.basis {
            Basis::Rate => "of the yardstick's rate, more is better",
            Basis::P50 => "of the yardstick's p50, less is better",
        };
        text += &format!("ratio {ratio:.2} {of} (rounds: {})\n", each.join(" "));
    }
    for (name, figure) in &report.figures {
        text += &format!("{} {figure:.1}\n", name.replace('_', " "));
    }
    if let Some(round) = report.rounds.last().filter(|round| round.sortie.rates.len() > 1) {
        let most = round.sortie.rates.iter().copied().fold(0.0, f64::max);
        text += &format!("rate over time, at most {most:.0} per second:\n  {}\n", plot::line(&round.sortie.rates));
    }
    if !report.resources.is_empty() {
        let rows = report.resources.iter().map(|used| {
            [
                used.name.clone(),
                format!("{:.2}", used.cores),
                format!("{:.1}", used.resident_bytes as f64 / MIB),
                format!("{:.1}", used.peak_bytes as f64 / MIB),
            ]
        });
        text += &format!("\n{}\n", output.table(&["PROCESS", "CORES", "MIB", "PEAK MIB"], rows));
    }
    text
}

fn row(report: &Report, name: &str, of: impl Fn(&Report, &dyn Fn(&Side) -> f64) -> Option<f64>) -> [String; 7] {
    let number = |figure: &dyn Fn(&Side) -> f64| of(report, figure).unwrap_or_default();
    [
        name.to_owned(),
        format!("{:.0}", number(&|side| side.rate)),
        duration(number(&|side| side.latency.p50_us as f64)),
        duration(number(&|side| side.latency.p95_us as f64)),
        duration(number(&|side| side.latency.p99_us as f64)),
        duration(number(&|side| side.latency.p999_us as f64)),
        duration(number(&|side| side.latency.max_us as f64)),
    ]
}

fn duration(us: f64) -> String {
    match us {
        // Not measured: no latency is below a microsecond.
        0.0 => "-".to_owned(),
        us if us < 1_000.0 => format!("{us:.0} us"),
        us if us < 1_000_000.0 => format!("{:.2} ms", us / 1e3),
        us => format!("{:.2} s", us / 1e6),
    }
}
