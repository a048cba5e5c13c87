//! The requests: two for each file, a bounded number in flight, and what came of each.

use std::{path::PathBuf, time::Duration};

use agent_files::{ExamineFile, FileReport};
use client::Client;
use futures_util::{StreamExt, stream};
use process::{ExitCode, Problem};
use protocol::{Capability, InstanceId, Outcome, RequestId, Status};
use serde_json::json;

use crate::refusal;

/// Requests in flight: several times what two agents have slots for, so that neither ever waits for us.
const IN_FLIGHT_MAX: usize = 64;

/// One attempt may take this long: large files take time.
const TIMEOUT: Duration = Duration::from_secs(600);

/// How long an outcome is waited for: several attempts, each handed out again after its agent died.
const OUTCOME_WITHIN: Duration = Duration::from_secs(1_800);

/// What is asked about one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// What it is like.
    Examine(ExamineFile),
    /// Its checksum, by a program that has nothing to do with us.
    Checksum(PathBuf),
}

/// What one request came to.
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
    work: Vec<Work>,
}

impl Survey {
    /// Both requests for each of these files, which are relative to the folder.
    pub(crate) fn of(folder: &std::path::Path, files: &[String]) -> Self {
        let both = |file: &String| {
            let examine = ExamineFile { path: file.into(), root: Some(folder.to_owned()) };
            [Work::Examine(examine), Work::Checksum(folder.join(file))]
        };
        Self { work: files.iter().flat_map(both).collect() }
    }

    /// How many requests it has.
    pub(crate) fn len(&self) -> usize {
        self.work.len()
    }

    /// Asks everything; `heard` is told how many answers there are.
    ///
    /// # Errors
    /// A request could not be published, or its outcome did not come.
    pub(crate) async fn run(self, client: &Client, mut heard: impl FnMut(usize)) -> Result<Vec<Answer>, Problem> {
        let mut answers = Vec::with_capacity(self.work.len());
        let mut asked =
            stream::iter(self.work.into_iter().map(|work| ask(client, work))).buffer_unordered(IN_FLIGHT_MAX);
        while let Some(answer) = asked.next().await {
            answers.push(answer?);
            heard(answers.len());
        }
        Ok(answers)
    }
}

async fn ask(client: &Client, work: Work) -> Result<Answer, Problem> {
    let (capability, input, file) = match &work {
        Work::Examine(input) => ("examine-file", serde_json::to_value(input), &input.path),
        Work::Checksum(path) => ("checksum", Ok(json!({ "path": path })), path),
    };
    let internal = |error: String| Problem::new(ExitCode::Internal, error);
    let capability = Capability::parse(capability).map_err(|error| internal(error.to_string()))?;
    let input = input.map_err(|error| internal(error.to_string()))?;
    let request = client.request(&capability, &input).timeout(TIMEOUT);
    let outcome = request.call(OUTCOME_WITHIN).await.map_err(refusal::problem)?;
    let finding = finding(&work, &outcome).unwrap_or_else(|instead| Finding::None(file.clone(), instead));
    Ok(Answer { id: outcome.id, instance: outcome.instance, finding })
}

fn finding(work: &Work, outcome: &Outcome) -> Result<Finding, String> {
    if outcome.status != Status::Completed {
        let body = outcome.content_type.show(&outcome.body);
        let said = |key: &str| body.get(key).and_then(|value| value.as_str()).unwrap_or_default().to_owned();
        return Err(format!("{} {}: {}", outcome.status, said("code"), said("message")));
    }
    let unread = |failure: protocol::Failure| failure.to_string();
    match work {
        Work::Examine(_) => outcome.content_type.decode(&outcome.body).map(Finding::Report).map_err(unread),
        Work::Checksum(file) => {
            let line: String = outcome.content_type.decode(&outcome.body).map_err(unread)?;
            // A backslash in front says that the name after it is escaped.
            let sum = line.trim_start_matches('\\').split_whitespace().next().unwrap_or_default();
            Ok(Finding::Checksum(file.clone(), sum.to_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    use protocol::ContentType;

    use super::*;

    fn checksum_of(body: &str) -> Result<Finding, String> {
        let id = RequestId::generate();
        let outcome = Outcome::completed(id, ContentType::Json, serde_json::to_vec(body).unwrap_or_default());
        finding(&Work::Checksum("/a b".into()), &outcome)
    }

    #[test]
    fn what_sha256sum_prints_is_understood() {
        for line in ["abc  /a b", "\\abc  /a\\nb"] {
            assert!(matches!(checksum_of(line), Ok(Finding::Checksum(_, sum)) if sum == "abc"), "{line}");
        }
    }

    #[test]
    fn what_did_not_complete_says_how_it_ended() {
        let outcome = Outcome::expired(RequestId::generate());
        let told = finding(&Work::Checksum("/a".into()), &outcome).unwrap_err();
        assert!(told.starts_with("expired deadline_exceeded: "), "{told}");
    }
}
