//! `sortie outcome`: how a request ended. And how every command shows that.

use std::time::Duration;

use client::ErrorKind;
use process::{ExitCode, Problem};
use protocol::{ContentType, Outcome, RequestId, Status, control::Progress, duration};
use serde_json::{Value, json};

use crate::{output::Output, patience, refusal, session::Session};

const EXAMPLES: &str = "\
Examples:
  sortie outcome req_0198…                 the result, or why there is none
  sortie outcome order-17 --wait --within 5m
  sortie outcome seq-12 --json | jq .result

Exit codes: 0 completed, 1 failed, expired or cancelled, 75 there is no outcome yet.";

/// See how a request ended
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct OutcomeArgs {
    /// The request
    id: RequestId,
    #[command(flatten)]
    waiting: Waiting,
}

/// Whether, how and how long to wait for an outcome.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Waiting {
    /// Wait for the outcome and print the result
    #[arg(long)]
    wait: bool,
    /// The same, and print progress on standard error meanwhile
    #[arg(long)]
    pub(crate) follow: bool,
    /// The same, but at most this long [default: as long as it takes]
    #[arg(long, value_name = "30s", value_parser = duration::parse)]
    within: Option<Duration>,
}

impl Waiting {
    pub(crate) fn is_wanted(&self) -> bool {
        self.wait || self.follow || self.within.is_some()
    }

    pub(crate) fn within(&self) -> Duration {
        self.within.unwrap_or(duration::DURATION_MAX)
    }
}

pub(crate) async fn run(args: OutcomeArgs, session: &Session) -> Result<ExitCode, Problem> {
    let OutcomeArgs { id, waiting } = args;
    let client = session.client().await?;
    let found = if waiting.follow {
        let tell = |progress| tell_progress(&progress, session.output());
        client.follow(&id, waiting.within(), tell).await.map(Some)
    } else if waiting.is_wanted() {
        patience::waiting(format!("waiting for the outcome of {id}"), client.wait(&id, waiting.within()))
            .await
            .map(Some)
    } else {
        client.outcome(&id).await
    };
    match found {
        Ok(Some(outcome)) => answer(&outcome, session.output()),
        Ok(None) => Err(pending(&id)),
        Err(error) if *error.kind() == ErrorKind::Pending => Err(pending(&id)),
        Err(error) => Err(refusal::problem(error)),
    }
}

fn pending(id: &RequestId) -> Problem {
    Problem::new(ExitCode::Again, format!("request {id} has no outcome"))
        .advise("it waits, runs, was never submitted, or its outcome is no longer kept; --wait waits for it")
}

/// Shows an outcome: the result on standard output, or the failure as the command's own.
pub(crate) fn answer(outcome: &Outcome, output: Output) -> Result<ExitCode, Problem> {
    answer_as("request", outcome, output)
}

/// The same, of what goes by this word: `request`, `run`.
pub(crate) fn answer_as(what: &str, outcome: &Outcome, output: Output) -> Result<ExitCode, Problem> {
    if output.is_json() {
        output.document(&outcome.document())?;
        return Ok(if outcome.status == Status::Completed { ExitCode::Done } else { ExitCode::WorkFailed });
    }
    match outcome.failure() {
        Some(failure) => {
            let message = format!("{what} {} {}: {failure}", outcome.id, outcome.status);
            let problem = Problem::new(ExitCode::WorkFailed, message);
            let attempts: Vec<String> = failure
                .attempts
                .iter()
                .map(|attempt| format!("attempt {}: {}: {}", attempt.attempt, attempt.code, attempt.message))
                .collect();
            Err(if attempts.len() < 2 { problem } else { problem.advise(attempts.join("\n  ")) })
        }
        None => {
            show_result(outcome, output)?;
            Ok(ExitCode::Done)
        }
    }
}

/// Text as text, data as JSON, anything else as the bytes that it is.
fn show_result(outcome: &Outcome, output: Output) -> Result<(), Problem> {
    match (&outcome.content_type, outcome.content_type.show(&outcome.body)) {
        (ContentType::Other(_), _) => output.bytes(&outcome.body),
        (_, Value::String(text)) => output.text(&text),
        (_, value) => output.document(&value),
    }
}

/// Tells progress on standard error, so that standard output holds the result alone.
pub(crate) fn tell_progress(progress: &Progress, output: Output) {
    eprintln!("{}", if output.is_json() { json!(progress).to_string() } else { progress_line(progress) });
}

/// Progress in one line.
pub(crate) fn progress_line(progress: &Progress) -> String {
    let percent = progress.percent.map(|percent| format!("{percent:>3.0} %"));
    let data = progress.data.as_ref().map(Value::to_string);
    let parts: Vec<String> = [percent, progress.message.clone(), data].into_iter().flatten().collect();
    printable(&parts.join("  "))
}

/// In one line, and without what a terminal would take for an order: others wrote it.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_in_one_line() {
        let progress = Progress { percent: Some(41.6), message: Some("reading".to_owned()), ..Progress::default() };
        assert_eq!(progress_line(&progress), " 42 %  reading");
        let progress = Progress { data: Some(json!({ "rows": 3 })), ..Progress::default() };
        assert_eq!(progress_line(&progress), "{\"rows\":3}");
        let progress = Progress { message: Some("a\u{1b}[2Jb\n".to_owned()), ..Progress::default() };
        assert_eq!(progress_line(&progress), "a [2Jb ");
    }
}
