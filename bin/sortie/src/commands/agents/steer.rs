//! Telling agents what to do, and what came of it.

use std::time::Duration;

use client::{Client, Steering};
use futures_util::{StreamExt, stream};
use process::{ExitCode, Problem};
use protocol::{
    Failure, InstanceId, Kind,
    control::{ControlAnswer, Effect},
    duration,
    registry::AgentEntry,
};
use serde::Serialize;
use serde_json::{Value, json};

use super::{choose::TargetArgs, table::table};
use crate::{output::Output, refusal, session::Session};

/// Agents that are told at once.
const AT_ONCE: usize = 64;

/// What came of it, of one agent.
#[derive(Debug, Serialize)]
struct Told<'a> {
    instance: &'a InstanceId,
    kind: &'a Kind,
    #[serde(skip_serializing_if = "Option::is_none")]
    effect: Option<Effect>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refusal: Option<Failure>,
    /// Why there is no answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    silence: Option<String>,
}

pub(super) async fn run(steering: &Steering, target: &TargetArgs, session: &Session) -> Result<ExitCode, Problem> {
    let agents = target.agents(session).await?;
    if target.dry_run {
        session.output().show(&agents, || {
            let count = agents.len();
            format!("{}\n{count} would be told to {}", table(session.output(), &agents), words(steering))
        })?;
        return Ok(ExitCode::Done);
    }
    audit(steering, target, &agents, session).await?;
    let client = session.client().await?;
    let tell = |agent| tell(client, agent, steering, target.within);
    let told: Vec<Told<'_>> = stream::iter(&agents).map(tell).buffered(AT_ONCE).collect().await;
    session.output().show(&told, || rows(session.output(), &told))?;
    let is_done = told.iter().all(|told| told.effect.is_some());
    Ok(if is_done { ExitCode::Done } else { ExitCode::WorkFailed })
}

async fn audit(
    steering: &Steering,
    target: &TargetArgs,
    agents: &[AgentEntry],
    session: &Session,
) -> Result<(), Problem> {
    let instances: Vec<&InstanceId> = agents.iter().map(|agent| &agent.instance).collect();
    let value = match steering {
        Steering::SetSlots(slots) => json!({ "slots": slots }),
        Steering::SetLog(level) => json!({ "level": level }),
        _ => Value::Null,
    };
    let mut detail = json!({ "instances": instances });
    if !value.is_null() {
        detail["to"] = value;
    }
    let named = match instances.as_slice() {
        [one] => one.to_string(),
        _ => target.words(),
    };
    session.audit(&format!("agent-{}", steering.verb().token()), &named, detail).await
}

async fn tell<'a>(client: &Client, agent: &'a AgentEntry, steering: &Steering, within: Duration) -> Told<'a> {
    let mut told = Told { instance: &agent.instance, kind: &agent.kind, effect: None, refusal: None, silence: None };
    match client.steer(&agent.instance, steering, within).await {
        Ok(ControlAnswer { effect, refusal, .. }) => (told.effect, told.refusal) = (effect, refusal),
        Err(error) => {
            told.silence = Some(match error.kind() {
                client::ErrorKind::TimedOut => format!("no answer within {}", duration::format(within)),
                client::ErrorKind::NotFound => "no answer: it is not connected".to_owned(),
                _ => refusal::problem(error).to_string(),
            });
        }
    }
    told
}

fn rows(output: Output, told: &[Told<'_>]) -> String {
    let rows = told.iter().map(|told| {
        let what = match (&told.effect, &told.refusal, &told.silence) {
            (Some(effect), ..) => sentence(effect),
            (None, Some(failure), _) => format!("refused: {}", failure.message),
            (None, None, silence) => silence.clone().unwrap_or_else(|| "an answer that says nothing".to_owned()),
        };
        [told.kind.to_string(), told.instance.to_string(), what]
    });
    output.table(&["KIND", "INSTANCE", "ANSWER"], rows)
}

fn sentence(effect: &Effect) -> String {
    match effect {
        Effect::Draining { in_hand } => format!("drains, {in_hand} in hand"),
        Effect::Restarting { in_hand } => format!("drains and is to be started again, {in_hand} in hand"),
        Effect::Paused { in_hand } => format!("paused, {in_hand} in hand"),
        Effect::Resumed => "pulls again".to_owned(),
        Effect::Slots { before, now, busy } if busy > now => {
            format!("{now} slots, before {before}; {busy} are busy and end first")
        }
        Effect::Slots { before, now, .. } => format!("{now} slots, before {before}"),
        Effect::Log { before, now } => format!("logs {now}, before {before}"),
        Effect::Cancelled { running } => format!("stops {running}"),
    }
}

fn words(steering: &Steering) -> String {
    match steering {
        Steering::SetSlots(slots) => format!("have {slots} slots"),
        Steering::SetLog(level) => format!("log {level}"),
        other => other.verb().token().to_owned(),
    }
}
