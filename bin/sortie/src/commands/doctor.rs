//! `sortie doctor`: what is wrong with the fleet and its broker, and what to do about it.

use std::collections::BTreeMap;

use client::Client;
use doctor::{Finding, Monitor, Patient, Report, Severity, examine, refused};
use owo_colors::OwoColorize;
use process::{ExitCode, Problem};

use crate::{output::Output, session::Session};

const EXAMPLES: &str = "\
Examples:
  sortie doctor                                     what is wrong, and the command that helps
  sortie doctor --all                               what is well, too
  sortie doctor --monitor http://127.0.0.1:8222     with what the server tells at its monitoring port only
  sortie doctor --json | jq -r '.findings[] | select(.severity == \"error\") | .command'

Exits 1 if anything is an error. What could not be examined is told as unknown, with the reason. It changes nothing; to
learn whether the store takes anything, it writes a key that lives a second.";

/// Examine the fleet and its broker: what is wrong, what was seen, and the remedy
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct DoctorArgs {
    /// Tell what is well, too
    #[arg(long)]
    all: bool,
    /// The monitoring port of the server, which alone tells its sync_interval and the bound of its store
    #[arg(long, value_name = "URL", value_parser = Monitor::parse)]
    monitor: Option<Monitor>,
}

pub(crate) async fn run(args: DoctorArgs, session: &Session) -> Result<ExitCode, Problem> {
    let report = match session.try_connection().await {
        Ok(connection) => {
            let client = Client::new(connection.clone(), session.namespace().clone());
            examine(&Patient::new(client).with_monitor(args.monitor)).await
        }
        Err(error) => refused(session.namespace(), &error),
    };
    session.output().show(&report, || told(session.output(), &report, args.all))?;
    Ok(if report.healthy { ExitCode::Done } else { ExitCode::WorkFailed })
}

/// The worst first; within one severity in the order of the checks.
pub(super) fn told(output: Output, report: &Report, all: bool) -> String {
    let mut text = String::new();
    for severity in [Severity::Error, Severity::Warning, Severity::Unknown, Severity::Ok] {
        let is_told = all || severity != Severity::Ok;
        let findings = report.findings.iter().filter(|finding| finding.severity == severity && is_told);
        if severity == Severity::Unknown {
            text += &unknown(findings);
            continue;
        }
        text.extend(findings.map(|finding| one(output, finding)));
    }
    let counts = report.counts;
    text + &format!(
        "{}, {}, {} unknown, {} as {} should be\n",
        counted(counts.error, "error"),
        counted(counts.warning, "warning"),
        counts.unknown,
        counts.ok,
        if counts.ok == 1 { "it" } else { "they" },
    )
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// What could not be examined for one reason stands in one line.
fn unknown<'a>(findings: impl Iterator<Item = &'a Finding>) -> String {
    let mut reasons: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for finding in findings {
        reasons.entry(&finding.seen).or_default().push(finding.check);
    }
    reasons.into_iter().map(|(reason, checks)| format!("unknown {}: {reason}\n", checks.join(", "))).collect()
}

fn one(output: Output, finding: &Finding) -> String {
    let word = match finding.severity {
        Severity::Ok => "ok",
        Severity::Unknown => "unknown",
        Severity::Warning => "WARNING",
        Severity::Error => "ERROR",
    };
    let word = match (output.colour(), finding.severity) {
        (true, Severity::Error) => word.red().bold().to_string(),
        (true, Severity::Warning) => word.yellow().to_string(),
        _ => word.to_owned(),
    };
    let mut text = format!("{word} {}: {}\n", finding.check, finding.seen);
    if let Some(remedy) = &finding.remedy {
        text += &format!("  {remedy}\n");
    }
    if let Some(command) = &finding.command {
        text += &format!("  $ {command}\n");
    }
    text
}
