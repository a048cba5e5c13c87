//! The requests beside the run: a checksum of each file, a bounded number in flight, and what came of each.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use agent_files::FileReport;
use client::Client;
use futures_util::{StreamExt, stream};
use process::{ExitCode, Problem};
use protocol::{Capability, InstanceId, Outcome, RequestId, Status};
use serde_json::json;

use crate::refusal;

/// Requests in flight: several times what the agent has slots for, so that it never waits for us.
const IN_FLIGHT_MAX: usize = 64;

/// One attempt may take this long: large files take time.
const TIMEOUT: Duration = Duration::from_secs(600);

/// How long an outcome is waited for: several attempts, each handed out again after its agent died.
const OUTCOME_WITHIN: Duration = Duration::from_secs(1_800);

/// What one request came to, of the run or beside it.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The request.
    pub(crate) id: RequestId,
    /// The agent it comes from.
    pub(crate) instance: Option<InstanceId>,
    /// The result.
    pub(crate) finding: Finding,
}

/// A result.
#[derive(Debug)]
pub(crate) enum Finding {
    /// Of `examine-file`.
    Report(FileReport),
    /// Of `checksum`: the file, and the checksum in hexadecimal.
    Checksum(PathBuf, String),
    /// None: what was asked, and how it ended instead.
    None(PathBuf, String),
}

/// The requests of a folder's files.
#[derive(Debug)]
pub(crate) struct Survey {
    files: Vec<PathBuf>,
}

impl Survey {
    /// One for each of these files, which are relative to the folder.
    pub(crate) fn of(folder: &Path, files: &[String]) -> Self {
        Self { files: files.iter().map(|file| folder.join(file)).collect() }
    }

    /// Asks everything; `heard` is told how many answers there are.
    ///
    /// # Errors
    /// A request could not be published, or its outcome did not come.
    pub(crate) async fn run(self, client: &Client, mut heard: impl FnMut(usize)) -> Result<Vec<Answer>, Problem> {
        let mut answers = Vec::with_capacity(self.files.len());
        let mut asked =
            stream::iter(self.files.into_iter().map(|file| ask(client, file))).buffer_unordered(IN_FLIGHT_MAX);
        while let Some(answer) = asked.next().await {
            answers.push(answer?);
            heard(answers.len());
        }
        Ok(answers)
    }
}

async fn ask(client: &Client, file: PathBuf) -> Result<Answer, Problem> {
    let capability = Capability::parse("checksum");
    let capability = capability.map_err(|error| Problem::new(ExitCode::Internal, error.to_string()))?;
    let input = json!({ "path": file });
    let request = client.request(&capability, &input).timeout(TIMEOUT);
    let outcome = request.call(OUTCOME_WITHIN).await.map_err(refusal::problem)?;
    let finding = match checksum(&outcome) {
        Ok(sum) => Finding::Checksum(file, sum),
        Err(instead) => Finding::None(file, instead),
    };
    Ok(Answer { id: outcome.id, instance: outcome.instance, finding })
}

fn checksum(outcome: &Outcome) -> Result<String, String> {
    if let Some(instead) = instead(outcome) {
        return Err(instead);
    }
    let line: String = outcome.content_type.decode(&outcome.body).map_err(|failure| failure.to_string())?;
    // A backslash in front says that the name after it is escaped.
    Ok(line.trim_start_matches('\\').split_whitespace().next().unwrap_or_default().to_owned())
}

/// How it ended, if it did not complete.
pub(super) fn instead(outcome: &Outcome) -> Option<String> {
    let body = outcome.content_type.show(&outcome.body);
    let said = |key: &str| body.get(key).and_then(|value| value.as_str()).unwrap_or_default();
    let has_completed = outcome.status == Status::Completed;
    (!has_completed).then(|| format!("{} {}: {}", outcome.status, said("code"), said("message")))
}

#[cfg(test)]
mod tests {
    use protocol::ContentType;

    use super::*;

    #[test]
    fn what_sha256sum_prints_is_understood() {
        for line in ["abc  /a b", "\\abc  /a\\nb"] {
            let body = serde_json::to_vec(line).unwrap_or_default();
            let outcome = Outcome::completed(RequestId::generate(), ContentType::Json, body);
            assert_eq!(checksum(&outcome).as_deref(), Ok("abc"), "{line}");
        }
    }

    #[test]
    fn what_did_not_complete_says_how_it_ended() {
        let told = checksum(&Outcome::expired(RequestId::generate())).unwrap_err();
        assert!(told.starts_with("expired deadline_exceeded: "), "{told}");
    }
}
