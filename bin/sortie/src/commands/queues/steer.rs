//! `sortie queues pause|resume|limit`: what operators wish of queues.

use std::time::Duration;

use client::{Client, Fulfilment};
use process::{ExitCode, Problem};
use protocol::{
    Capability,
    breaker::State,
    desired::{LIMIT_MAX, LimitWish, PauseWish, pause_end},
    duration, time,
    topology::Source,
};
use serde_json::{Value, json};

use super::LaneArg;
use crate::{refusal, session::Session};

/// How long the coordinator is waited for: it looks every second, and another one takes over within half a minute.
const FULFILLED_WITHIN: Duration = Duration::from_secs(5);

const PAUSE_EXAMPLES: &str = "\
Examples:
  sortie queues pause resize                               every lane, until it is resumed
  sortie queues pause resize --lane bulk --for 10m
  sortie queues pause resize --reason 'the disk is full'   whoever asks why is told

What is in hand goes on, and its retries come back to the queue. Exit code 75: it is wished, but no coordinator did it yet.";

const RESUME_EXAMPLES: &str = "\
Examples:
  sortie queues resume resize              every lane, whoever paused it, also by hand
  sortie queues resume resize --lane bulk

A circuit breaker that is open goes on keeping the queue paused.";

const LIMIT_EXAMPLES: &str = "\
Examples:
  sortie queues limit resize 5                 of each lane at most five in hand at once, in the whole fleet
  sortie queues limit resize 1 --lane unique   retries that wait in the unique lane count, too
  sortie queues limit resize none              as usual: 10,000

More than the limit in hand goes on; nothing new is delivered until there is less.";

/// Let nothing of a queue be delivered; what is in hand goes on
#[derive(Debug, clap::Args)]
#[command(after_help = PAUSE_EXAMPLES)]
pub(super) struct PauseArgs {
    /// The capability
    capability: Capability,
    /// The lane
    #[arg(long, value_enum, default_value = "all")]
    lane: LaneArg,
    /// Why, for whoever looks
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// For how long [default: until it is resumed]
    #[arg(long = "for", value_name = "10m", value_parser = duration::parse)]
    length: Option<Duration>,
}

/// Let a queue be delivered again
#[derive(Debug, clap::Args)]
#[command(after_help = RESUME_EXAMPLES)]
pub(super) struct ResumeArgs {
    /// The capability
    capability: Capability,
    /// The lane
    #[arg(long, value_enum, default_value = "all")]
    lane: LaneArg,
}

/// Let at most so many requests of a queue be in hand at once, in the whole fleet
#[derive(Debug, clap::Args)]
#[command(after_help = LIMIT_EXAMPLES)]
pub(super) struct LimitArgs {
    /// The capability
    capability: Capability,
    /// How many, or none
    #[arg(value_name = "N|none", value_parser = parse_max)]
    max: Max,
    /// The lane
    #[arg(long, value_enum, default_value = "all")]
    lane: LaneArg,
    /// Why, for whoever looks
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Max(Option<u32>);

fn parse_max(text: &str) -> Result<Max, String> {
    if text == "none" {
        return Ok(Max(None));
    }
    match text.parse() {
        Ok(max) if (1..=LIMIT_MAX).contains(&max) => Ok(Max(Some(max))),
        _ => Err(format!("`none`, or a number from 1 to {LIMIT_MAX}; to let nothing through: sortie queues pause")),
    }
}

pub(super) async fn pause(args: PauseArgs, session: &Session) -> Result<ExitCode, Problem> {
    let PauseArgs { capability, lane, reason, length } = args;
    let client = session.client().await?;
    let at = client.now().await.map_err(refusal::problem)?;
    let until = length.map(|length| pause_end(at, length));
    let pause = PauseWish { by: session.operator(), at, reason, until };
    let lanes = tokens(&lane.sources());
    let detail = json!({ "lanes": lanes, "reason": pause.reason, "until": until.map(time::format) });
    session.audit("queue-pause", capability.as_str(), detail).await?;
    client.pause_queues(&capability, &lane.sources(), &pause).await.map_err(refusal::problem)?;
    let until = until.map(|until| format!(" until {}", time::format(until))).unwrap_or_default();
    tell(session, client, &capability, lane, "paused", &format!("paused{until}")).await
}

pub(super) async fn resume(args: ResumeArgs, session: &Session) -> Result<ExitCode, Problem> {
    let ResumeArgs { capability, lane } = args;
    let client = session.client().await?;
    session.audit("queue-resume", capability.as_str(), json!({ "lanes": tokens(&lane.sources()) })).await?;
    client.resume_queues(&capability, &lane.sources()).await.map_err(refusal::problem)?;
    let breakers = client.breakers().await.map_err(refusal::problem)?;
    let pausing = breakers.iter().filter(|one| one.now != State::Closed && one.breaker.pauses.contains(&capability));
    let done = match pausing.map(|one| one.name.as_str()).collect::<Vec<_>>().as_slice() {
        [] => "resumed".to_owned(),
        names => format!(
            "resumed, but circuit breaker {} keeps it back until what is called works again (`sortie breaker list`; \
             `sortie breaker reset {}` closes it at once)",
            names.join(", "),
            names[0]
        ),
    };
    tell(session, client, &capability, lane, "resumed", &done).await
}

pub(super) async fn limit(args: LimitArgs, session: &Session) -> Result<ExitCode, Problem> {
    let LimitArgs { capability, max: Max(max), lane, reason } = args;
    let client = session.client().await?;
    let at = client.now().await.map_err(refusal::problem)?;
    let limit = max.map(|max| LimitWish { max, by: session.operator(), at, reason: reason.clone() });
    let detail = json!({ "lanes": tokens(&lane.sources()), "max": max, "reason": reason });
    session.audit("queue-limit", capability.as_str(), detail).await?;
    client.limit_queues(&capability, &lane.sources(), limit.as_ref()).await.map_err(refusal::problem)?;
    let done = max.map_or_else(|| "unlimited".to_owned(), |max| format!("limited to {max} at once"));
    tell(session, client, &capability, lane, "limited", &done).await
}

/// Says what became of the wish.
async fn tell(
    session: &Session,
    client: &Client,
    capability: &Capability,
    lane: LaneArg,
    verb: &str,
    done: &str,
) -> Result<ExitCode, Problem> {
    let found = client.fulfilled(capability, &lane.sources(), FULFILLED_WITHIN).await.map_err(refusal::problem)?;
    let lanes: serde_json::Map<String, Value> =
        found.iter().map(|(source, fulfilment)| (source.token().to_owned(), json!(fulfilment))).collect();
    let document = json!({ "capability": capability, "wish": verb, "lanes": lanes });
    let of = |wanted: Fulfilment| {
        let sources: Vec<Source> =
            found.iter().filter(|(_, found)| *found == wanted).map(|(source, _)| *source).collect();
        (!sources.is_empty()).then(|| tokens(&sources).join(", "))
    };
    let human = || {
        let mut lines = Vec::new();
        lines.extend(of(Fulfilment::InForce).map(|lanes| format!("{capability} is {done}: {lanes}")));
        lines.extend(of(Fulfilment::Unserved).map(|lanes| format!("nobody served it yet, so from then on: {lanes}")));
        lines.join("\n")
    };
    match of(Fulfilment::Pending) {
        None => {
            session.output().show(&document, human)?;
            Ok(ExitCode::Done)
        }
        Some(lanes) => {
            if session.output().is_json() {
                session.output().document(&document)?;
            }
            let message =
                format!("it is wished that {capability} is {done}, but no coordinator has done it yet: {lanes}");
            Err(Problem::new(ExitCode::Again, message)
                .advise("`sortie process coordinator` starts one; the wish stands, so it need not be repeated"))
        }
    }
}

fn tokens(sources: &[Source]) -> Vec<&'static str> {
    sources.iter().map(|source| source.token()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_a_number_or_none() {
        assert_eq!(parse_max("none"), Ok(Max(None)));
        assert_eq!(parse_max("5"), Ok(Max(Some(5))));
        for bad in ["0", "-1", "10001", "all", ""] {
            assert!(parse_max(bad).is_err_and(|error| error.contains("sortie queues pause")), "{bad}");
        }
    }
}
