//! Running the checks: at the same time, each to its own end.

use std::time::Duration;

use broker::Kind;
use futures_util::future::join_all;
use protocol::{Namespace, duration};

use crate::{
    Patient, Report,
    checks::{CHECKS, Check},
    finding::{CREDENTIALS, Finding},
};

/// How long one check may take. A stream without a leader is asked for nine seconds first: an election takes as long.
const CHECKED_WITHIN: Duration = Duration::from_secs(20);

/// Findings of one check: the worst fleet shall not fill a screen with the same sentence.
const FINDINGS_MAX: usize = 20;

/// One sentence for all that needs a permission, which the check of the permissions explains.
pub(crate) const NOT_ALLOWED: &str = "this user may not look at it: see permissions";

/// One sentence for all that follows from that.
const NO_JETSTREAM: &str = "there is no JetStream for this account: see jetstream";

/// Runs every check.
pub async fn examine(patient: &Patient) -> Report {
    examine_some(patient, CHECKS.iter(), CHECKED_WITHIN).await
}

/// Runs some of them, each for as long as `within` at most.
pub async fn examine_some<'a>(patient: &Patient, checks: impl Iterator<Item = &'a Check>, within: Duration) -> Report {
    let findings = join_all(checks.map(|check| one(check, patient, within))).await;
    Report::new(patient.namespace().to_string(), findings.into_iter().flatten().collect())
}

async fn one(check: &Check, patient: &Patient, within: Duration) -> Vec<Finding> {
    if check.needs_jetstream() && patient.is_without_jetstream().await {
        return vec![Finding { check: check.name, ..Finding::unknown(NO_JETSTREAM) }];
    }
    let mut findings = match tokio::time::timeout(within, check.run(patient)).await {
        Ok(Ok(findings)) if findings.is_empty() => vec![Finding::ok(check.fine)],
        Ok(Ok(findings)) => findings,
        Ok(Err(unknown)) if unknown.is_forbidden => vec![Finding::unknown(NOT_ALLOWED).about(unknown.reason)],
        Ok(Err(unknown)) => vec![Finding::unknown(unknown.reason)],
        Err(_) => vec![Finding::unknown(format!("not done within {}", duration::format(within)))],
    };
    if findings.len() > FINDINGS_MAX {
        let more = findings.len() - FINDINGS_MAX;
        let severity = findings.iter().skip(FINDINGS_MAX).map(|finding| finding.severity).max();
        findings.truncate(FINDINGS_MAX);
        let rest = Finding::warning(format!("and {more} more of the same check"));
        findings.push(Finding { severity: severity.unwrap_or(rest.severity), ..rest });
    }
    for finding in &mut findings {
        finding.check = check.name;
    }
    findings
}

/// What there is to say where not even a connection could be made.
pub fn refused(namespace: &Namespace, error: &broker::Error) -> Report {
    let finding = Finding { check: "connection", ..Finding::error(error.to_string()) };
    let finding = match error.kind() {
        Kind::Forbidden => finding
            .remedy(format!("say who you are, as the broker knows it, {CREDENTIALS}"))
            .command("sortie doctor --user NAME"),
        Kind::Invalid => {
            finding.remedy("start a server of the version that it needs; `sortie up` brings one").command("sortie up")
        }
        _ => finding.remedy("start a broker, or say where it is with --server or SORTIE_SERVER").command("sortie up"),
    };
    Report::new(namespace.to_string(), vec![finding])
}
