//! The whole story of one dead letter.

use std::fmt::Write;

use client::StoredLetter;
use process::{ExitCode, Problem};
use protocol::{DeadLetter, Headers, RequestId, dead_letter, limits, time};
use serde::Serialize;
use serde_json::Value;

use crate::{refusal, session::Session};

/// What of a body is shown to people, in bytes; `--json` has all of it.
const BODY_SHOWN_MAX: usize = 4 * 1024;

#[derive(Serialize)]
struct Document<'a> {
    #[serde(flatten)]
    letter: &'a DeadLetter,
    headers: serde_json::Map<String, Value>,
    body: Value,
}

pub(super) async fn run(id: &RequestId, session: &Session) -> Result<ExitCode, Problem> {
    let found = session.client().await?.dead_letter(id).await.map_err(refusal::problem)?;
    let Some(stored) = found else {
        return Err(Problem::new(ExitCode::WorkFailed, format!("there is no dead letter of request {id}"))
            .advise("`sortie dead list` shows those that there are"));
    };
    let headers = own_headers(&stored.headers);
    let document = Document {
        letter: &stored.letter,
        headers: headers.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect(),
        body: stored.content_type.show(&stored.body),
    };
    session.output().show(&document, || human(&stored, &headers))?;
    Ok(ExitCode::Done)
}

/// The request's headers, without the story, which is shown already.
fn own_headers(headers: &Headers) -> Vec<(String, String)> {
    let own = headers.iter().filter(|(name, _)| *name != dead_letter::STORY);
    own.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn human(stored: &StoredLetter, headers: &[(String, String)]) -> String {
    let letter = &stored.letter;
    let mut text = format!("{}\n\n", letter.summary());
    let mut line = |name: &str, value: &str| {
        if !value.is_empty() {
            let _ = writeln!(text, "{name:<11} {value}");
        }
    };
    line("capability", letter.capability.as_str());
    line("lane", letter.lane.token());
    line("code", &letter.failure.code);
    line("message", &letter.failure.message);
    for cause in &letter.failure.causes {
        line("because", cause);
    }
    line("details", &letter.failure.details.as_ref().map(Value::to_string).unwrap_or_default());
    line("published", &letter.published_at.map(time::format).unwrap_or_default());
    line("given up", &time::format(letter.dead_at));
    line("by", letter.instance.as_ref().map_or("the coordinator", protocol::InstanceId::as_str));
    for instance in &letter.killed {
        line("killed", instance.as_str());
    }
    for attempt in &letter.failure.attempts {
        let when = time::format(attempt.at);
        line("attempt", &format!("{} until {when}: {}: {}", attempt.attempt, attempt.code, attempt.message));
    }
    for (name, value) in headers {
        line("header", &format!("{name}: {value}"));
    }
    let shown = String::from_utf8_lossy(&stored.body);
    let _ = write!(text, "\n{}\n", limits::truncate(&shown, BODY_SHOWN_MAX));
    text
}
