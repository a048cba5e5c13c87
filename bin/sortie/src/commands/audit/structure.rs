//! Of what is there now: what the doctor says of it, and what each run says of itself.

use std::{fmt::Write, time::Duration};

use doctor::{CHECKS, Patient, Report, Severity, examine_some};
use process::{ExitCode, Problem};
use serde::Serialize;

use super::runs::{self, Runs};
use crate::{commands::doctor as telling, meter::Meter, session::Session};

/// The checks of which each is part of the proof. What is known of nothing proves nothing.
const PARTS: [&str; 8] = ["streams", "limits", "given-up", "overdue", "timers", "run-owners", "cron", "dead-marks"];

/// How long each may take: whole streams are read.
const WITHIN: Duration = Duration::from_secs(3_600);

/// What was proved, and what was not.
#[derive(Serialize)]
struct Structure {
    proved: bool,
    #[serde(flatten)]
    report: Report,
    runs: Runs,
}

pub(super) async fn prove(session: &Session) -> Result<ExitCode, Problem> {
    let client = session.client().await?;
    let patient = Patient::new(client.clone()).thoroughly();
    let checks = CHECKS.iter().filter(|check| PARTS.contains(&check.name));
    let meter = Meter::new("auditing", None);
    let (report, runs) = tokio::join!(examine_some(&patient, checks, WITHIN), runs::ask(client, &meter));
    drop(meter);
    let runs = runs?;
    let is_well = report.findings.iter().all(|finding| finding.severity == Severity::Ok);
    let structure = Structure { proved: is_well && runs.mute + runs.stranded == 0, report, runs };
    session.output().show(&structure, || {
        let mut text = telling::told(session.output(), &structure.report, true);
        for named in &structure.runs.named {
            let _ = writeln!(text, "STANDS run {}: {}", named.run, named.why);
        }
        let verdict = if structure.proved { "proved: nothing is stuck" } else { "not proved" };
        text + &format!(
            "{} alive, {} of them cannot say what they wait for, {} wait for what is nowhere\n{verdict}\n",
            structure.runs.alive, structure.runs.mute, structure.runs.stranded
        )
    })?;
    Ok(if structure.proved { ExitCode::Done } else { ExitCode::WorkFailed })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_is_a_check() {
        assert!(PARTS.iter().all(|part| CHECKS.iter().any(|check| check.name == *part)));
    }
}
