//! What an examination finds.

use serde::Serialize;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// It is as it should be.
    Ok,
    /// It could not be examined; the finding says why.
    Unknown,
    /// It works, and will not for long or not well.
    Warning,
    /// It does not work, or something that was promised is in danger.
    Error,
}

/// How to be somebody else for the broker.
pub(crate) const CREDENTIALS: &str = "with --user NAME and SORTIE_PASSWORD, --creds FILE (SORTIE_CREDS), --nkey FILE, \
                                      SORTIE_TOKEN or --context NAME";

/// One thing that was seen, with what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The check that found it: one word, stable.
    pub check: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// The one thing that it is about: a stream, a capability, an agent, a request. None where it is about all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub about: Option<String>,
    /// What was seen, in one sentence.
    pub seen: String,
    /// What to do about it, in one sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// The command that does it, or that helps next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
}

impl Finding {
    fn new(severity: Severity, seen: impl Into<String>) -> Self {
        Self { check: "", severity, about: None, seen: seen.into(), remedy: None, command: None }
    }

    pub(crate) fn ok(seen: impl Into<String>) -> Self {
        Self::new(Severity::Ok, seen)
    }

    pub(crate) fn unknown(seen: impl Into<String>) -> Self {
        Self::new(Severity::Unknown, seen)
    }

    pub(crate) fn warning(seen: impl Into<String>) -> Self {
        Self::new(Severity::Warning, seen)
    }

    pub(crate) fn error(seen: impl Into<String>) -> Self {
        Self::new(Severity::Error, seen)
    }

    #[must_use]
    pub(crate) fn about(mut self, about: impl ToString) -> Self {
        self.about = Some(about.to_string());
        self
    }

    #[must_use]
    pub(crate) fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    #[must_use]
    pub(crate) fn command(mut self, command: impl Into<String>) -> Self {
        self.command = Some(command.into());
        self
    }
}

/// Findings by severity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Counts {
    pub ok: usize,
    pub unknown: usize,
    pub warning: usize,
    pub error: usize,
}

/// Everything that one examination found, in the order of the checks.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The fleet.
    pub namespace: String,
    /// Whether nothing is an error.
    pub healthy: bool,
    /// Findings by severity.
    pub counts: Counts,
    /// The findings; one at least of every check.
    pub findings: Vec<Finding>,
}

impl Report {
    pub(crate) fn new(namespace: String, findings: Vec<Finding>) -> Self {
        let mut counts = Counts::default();
        for finding in &findings {
            let count = match finding.severity {
                Severity::Ok => &mut counts.ok,
                Severity::Unknown => &mut counts.unknown,
                Severity::Warning => &mut counts.warning,
                Severity::Error => &mut counts.error,
            };
            *count += 1;
        }
        Self { namespace, healthy: counts.error == 0, counts, findings }
    }
}

/// `1 request`, `2 requests`.
pub(crate) fn counted(count: impl TryInto<u64>, what: &str) -> String {
    match count.try_into().unwrap_or(u64::MAX) {
        1 => format!("1 {what}"),
        count => format!("{count} {what}s"),
    }
}
