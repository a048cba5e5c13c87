//! Of what is there now: what the doctor says of it.

use std::time::Duration;

use doctor::{CHECKS, Patient, Severity, examine_some};
use process::{ExitCode, Problem};

use crate::{commands::doctor as telling, session::Session};

/// The checks of which each is part of the proof. What is known of nothing proves nothing.
const PARTS: [&str; 5] = ["streams", "limits", "given-up", "overdue", "cron"];

/// How long each may take: whole streams are read.
const WITHIN: Duration = Duration::from_secs(600);

pub(super) async fn prove(session: &Session) -> Result<ExitCode, Problem> {
    let patient = Patient::new(session.client().await?.clone());
    let checks = CHECKS.iter().filter(|check| PARTS.contains(&check.name));
    let report = examine_some(&patient, checks, WITHIN).await;
    let is_proved = report.findings.iter().all(|finding| finding.severity == Severity::Ok);
    session.output().show(&report, || telling::told(session.output(), &report, true))?;
    Ok(if is_proved { ExitCode::Done } else { ExitCode::WorkFailed })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_is_a_check() {
        assert!(PARTS.iter().all(|part| CHECKS.iter().any(|check| check.name == *part)));
    }
}
