//! `sortie dead show`: the whole story of one dead letter.

use std::fmt::Write;

use client::dead::{Followed, Story};
use process::{ExitCode, Problem};
use protocol::{
    AttemptRecord, DeadLetter, Headers, InstanceId, RequestId, codes, dead_letter, header, limits, time,
    topology::Source,
};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{refusal, session::Session};

/// What of a body is shown to people, in bytes; `--json` has all of it.
const BODY_SHOWN_MAX: usize = 4 * 1024;

/// Show one: its failure, every attempt, its trace, its headers, its body, and what followed
#[derive(Debug, clap::Args)]
pub(super) struct ShowArgs {
    /// The request that was given up
    #[arg(value_name = "ID")]
    id: RequestId,
}

#[derive(Serialize)]
struct Document<'a> {
    #[serde(flatten)]
    letter: &'a DeadLetter,
    #[serde(skip_serializing_if = "Option::is_none")]
    replay_of: Option<&'a RequestId>,
    headers: serde_json::Map<String, Value>,
    body: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    body_fault: Option<&'a str>,
    replays: Vec<Value>,
}

pub(super) async fn run(args: &ShowArgs, session: &Session) -> Result<ExitCode, Problem> {
    let id = &args.id;
    let found = session.client().await?.dead_story(id).await.map_err(refusal::problem)?;
    let story = found.ok_or_else(|| missing(id))?;
    let headers = own_headers(&story.stored.headers);
    let document = Document {
        letter: &story.stored.letter,
        replay_of: story.replay_of.as_ref(),
        headers: headers.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect(),
        body: match &story.stored.body_fault {
            Some(_) => Value::Null,
            None => story.stored.content_type.show(&story.stored.body),
        },
        body_fault: story.stored.body_fault.as_deref(),
        replays: story.followed.iter().map(followed).collect(),
    };
    session.output().show(&document, || human(&story, &headers))?;
    Ok(ExitCode::Done)
}

pub(super) fn missing(id: &RequestId) -> Problem {
    Problem::new(ExitCode::WorkFailed, format!("there is no dead letter of request {id}"))
        .advise("`sortie dead list` shows those that there are")
}

fn followed(followed: &Followed) -> Value {
    let mut document = json!(followed.replay);
    document["outcome"] = followed.outcome.as_ref().map(|outcome| outcome.document()).unwrap_or_default();
    document
}

/// The request's headers, without the story, which is shown already, and without what the broker keeps the letter by.
fn own_headers(headers: &Headers) -> Vec<(String, String)> {
    let headers = headers.handed_on();
    let own = headers.iter().filter(|(name, _)| *name != dead_letter::STORY);
    own.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn human(story: &Story, headers: &[(String, String)]) -> String {
    let letter = &story.stored.letter;
    let mut text = format!("{}\n\n", letter.summary());
    let mut line = |name: &str, value: &str| {
        if !value.is_empty() {
            let _ = writeln!(text, "{name:<11} {value}");
        }
    };
    line("capability", letter.capability.as_str());
    line("lane", Source::Lane(letter.lane).token());
    line("code", &letter.failure.code);
    line("category", json!(letter.failure.category).as_str().unwrap_or_default());
    line("message", &letter.failure.message);
    for cause in &letter.failure.causes {
        line("because", cause);
    }
    line("details", &letter.failure.details.as_ref().map(Value::to_string).unwrap_or_default());
    line("published", &letter.published_at.map(time::format).unwrap_or_default());
    line("given up", &time::format(letter.dead_at));
    line("by", &agent(letter.instance.as_ref(), letter.version.as_deref(), "the coordinator"));
    // Who takes a message fresh leaves no mark: the first death is known by its coming again.
    if letter.failure.code == codes::POISON && letter.killed.len() < limits::POISON_MARKS as usize {
        line("killed", "the first that took it, whose name nobody noted");
    }
    for instance in &letter.killed {
        line("killed", instance.as_str());
    }
    for attempt in &letter.failure.attempts {
        line("attempt", &attempt_line(attempt));
    }
    line("trace", story.stored.headers.get(header::TRACEPARENT).unwrap_or_default());
    line("replay of", story.replay_of.as_ref().map(RequestId::as_str).unwrap_or_default());
    for followed in &story.followed {
        line("sent again", &followed_line(followed, &letter.id));
    }
    for (name, value) in headers {
        line("header", &format!("{name}: {value}"));
    }
    if let Some(fault) = &story.stored.body_fault {
        line("body", fault);
        return text;
    }
    let shown = String::from_utf8_lossy(&story.stored.body);
    let _ = write!(text, "\n{}\n", limits::truncate(&shown, BODY_SHOWN_MAX));
    text
}

fn agent(instance: Option<&InstanceId>, version: Option<&str>, nobody: &str) -> String {
    let instance = instance.map_or(nobody, InstanceId::as_str);
    version.map_or_else(|| instance.to_owned(), |version| format!("{instance}, version {version}"))
}

fn attempt_line(attempt: &AttemptRecord) -> String {
    let who = agent(attempt.instance.as_ref(), attempt.version.as_deref(), "somebody");
    let until = time::format(attempt.at);
    format!("{} until {until} in {who}: {}: {}", attempt.attempt, attempt.code, attempt.message)
}

fn followed_line(followed: &Followed, of: &RequestId) -> String {
    let replay = &followed.replay;
    let who = match (&replay.by, &replay.rule) {
        (_, Some(rule)) => format!(" by rule {rule}"),
        (Some(who), None) => format!(" by {who}"),
        (None, None) => String::new(),
    };
    let edited = if replay.edited { " with another body" } else { "" };
    let after = if replay.of == *of { String::new() } else { format!(", after {} had failed too", replay.of) };
    let became = match (&followed.outcome, replay.due) {
        (Some(outcome), _) => match outcome.failure() {
            Some(failure) => format!("{}: {}", outcome.status, failure.code),
            None => outcome.status.to_string(),
        },
        (None, Some(due)) => format!("due at {}, without an outcome", time::format(due)),
        (None, None) => "without an outcome".to_owned(),
    };
    format!("{} as {}{who}{edited}{after}: {became}", time::format(replay.at), replay.request)
}
