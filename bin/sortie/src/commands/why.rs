//! `sortie why`: why a request has not been done, and what a run waits for.

pub(super) mod run;

use std::time::Duration;

use chrono::TimeDelta;
use client::{Answer, SilentAgent, Why, WhyAsk};
use process::{ExitCode, Problem};
use protocol::{Capability, Origin, RequestId, Status, breaker::State, codes, duration, time, time::Timestamp};

use crate::{
    commands::{outcome::printable, queues::age},
    refusal,
    session::Session,
};

const EXAMPLES: &str = "\
Examples:
  sortie why req_0198…                          what it waits for, who has it, or how it ended
  sortie why order-17 --capability resize       quicker: only queues and agents of this capability are looked at
  sortie why order-17 --scan 1000000            further, where queues are long
  sortie why seq-12 --json | jq -r .answer.why
  sortie why order-17                           of a run: what it waits for, be it a time, a signal, agents or other runs
  sortie why order-17~ship~0                    of a step's request

Ids by sequence, outcomes, dead letters and schedules are found at once; else agents are asked, and then queues are read.
Exit codes: 0 there is an answer, 1 it was not found.";

/// See why a request has not been done, or what a run waits for
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct WhyArgs {
    /// The request, run or request of a step
    id: RequestId,
    /// What it asks for, where that is known
    #[arg(long, value_name = "NAME")]
    capability: Option<Capability>,
    /// Messages of each lane to read for it at most
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    scan: usize,
    /// How long to read queues at most
    #[arg(long, value_name = "10s", value_parser = duration::parse, default_value = "10s")]
    within: Duration,
}

pub(crate) async fn run(args: WhyArgs, session: &Session) -> Result<ExitCode, Problem> {
    let WhyArgs { id, mut capability, scan, within } = args;
    // Who says what it asks for means a request.
    if capability.is_none() {
        match run::tell(&id, session).await? {
            run::Told::Answer(code) => return Ok(code),
            run::Told::Ask(asked) => capability = asked,
        }
    }
    let ask = WhyAsk { capability, scan_max: scan, scan_within: within };
    let client = session.client().await?;
    let why = client.why(&id, &ask).await.map_err(refusal::problem)?;
    if !why.answer.is_found()
        && let Some(problem) = run::start_waits(&id, session).await?
    {
        return Err(problem);
    }
    if !why.answer.is_found() && !session.output().is_json() {
        let sentence = sentence(&why, &why.answer, Timestamp::default());
        return Err(Problem::new(ExitCode::WorkFailed, format!("request {id} {sentence}"))
            .advise(advice(&why, Timestamp::default())));
    }
    let now = client.now().await.map_err(refusal::problem)?;
    session.output().show(&why, || human(&why, now))?;
    Ok(if why.answer.is_found() { ExitCode::Done } else { ExitCode::WorkFailed })
}

/// The answer, what keeps it back besides, and the command that helps next.
fn human(why: &Why, now: Timestamp) -> String {
    let place = match (&why.capability, why.lane) {
        (Some(capability), Some(lane)) => format!(" ({capability}, {lane} lane)"),
        (Some(capability), None) => format!(" ({capability})"),
        _ => String::new(),
    };
    let mut lines = vec![format!("request {}{place} {}", why.id, sentence(why, &why.answer, now))];
    lines.extend(why.besides.iter().map(|answer| format!("  besides, it {}", sentence(why, answer, now))));
    lines.push(format!("  {}", advice(why, now)));
    lines.join("\n")
}

fn sentence(why: &Why, answer: &Answer, now: Timestamp) -> String {
    let capability = why.capability.as_ref().map_or_else(|| "its capability".to_owned(), ToString::to_string);
    match answer {
        Answer::Completed => "is done".to_owned(),
        Answer::Failed { code, message } => format!("failed: {}", printable(&format!("{code}: {message}"))),
        Answer::Dead { code, message, attempt, sent_again } => {
            let given_up =
                format!("was given up after attempt {attempt}: {}", printable(&format!("{code}: {message}")));
            match sent_again {
                Some(again) => format!(
                    "{given_up}\n  it was sent again {} ago as {}, which {}",
                    age(again.at, now),
                    again.id,
                    became(again.status)
                ),
                None => given_up,
            }
        }
        Answer::Cancelled => "was cancelled".to_owned(),
        Answer::Expired => "expired: its deadline passed before it was done".to_owned(),
        Answer::Scheduled { due, attempt, after, put_off_for } => match (after, put_off_for) {
            (_, Some(code)) => format!("was put off{} ({})", come(*due, now), printable(code)),
            (Some(code), None) => {
                format!("waits for attempt {attempt}{}, after {}", come(*due, now), printable(code))
            }
            (None, None) => format!("waits for its time{}", come(*due, now)),
        },
        Answer::RateLimited { due } => format!("was put off by a rate limit{}", come(*due, now)),
        Answer::Running { instance, kind, host, attempt, since } => {
            format!("runs since {} on {kind} {instance} at {host}, attempt {attempt}", age(*since, now))
        }
        Answer::Retrying { attempt, after, put_off_for } => match (after, put_off_for) {
            (_, Some(code)) => format!("was put off ({}), and keeps its key meanwhile", printable(code)),
            (Some(code), None) => {
                format!("waits for attempt {attempt}, after {}, and keeps its key meanwhile", printable(code))
            }
            (None, None) => format!("waits for attempt {attempt}, and keeps its key meanwhile"),
        },
        Answer::Taken { silent } if !silent.is_empty() => {
            let named = |agent: &SilentAgent| {
                format!("{} {} (process {} at {})", agent.kind, agent.instance, agent.pid, agent.host)
            };
            let named: Vec<String> = silent.iter().map(named).collect();
            match named.as_slice() {
                [one] => format!("was delivered, and {one} may have it: it is connected and does not answer"),
                several => {
                    let several = several.join(", ");
                    format!("was delivered, and one of these may have it, which are connected and do not answer: {several}")
                }
            }
        }
        Answer::Taken { .. } => {
            "was delivered, but no agent that can be asked has it: one that cannot be asked runs it, or it is \
                          delivered again soon because the one that had it is gone"
                .to_owned()
        }
        Answer::GivenUp => "was given up by the broker, after too many deliveries without an end".to_owned(),
        Answer::Paused { by, reason, since, until: end } => {
            let by = by.as_ref().map_or_else(|| "by hand".to_owned(), |by| format!("by {by}"));
            let since = since.map(|since| format!(" {} ago", age(since, now))).unwrap_or_default();
            let reason = reason.as_ref().map(|reason| format!(": {}", printable(reason))).unwrap_or_default();
            format!("waits: the queue was paused {by}{since}{}{reason}", until(*end))
        }
        Answer::BreakerOpen { name, state, until: end, after } => {
            let after = after.as_ref().map(|code| format!(", opened by {}", printable(code))).unwrap_or_default();
            match state {
                State::HalfOpen => format!("waits: circuit breaker {name} is half open and tries a few others{after}"),
                State::Open | State::Closed => format!("waits: circuit breaker {name} is open{}{after}", until(*end)),
            }
        }
        Answer::Unserved { was_delivered: false } => format!("waits: nobody serves {capability}"),
        Answer::Unserved { was_delivered: true } => {
            format!("was in the hands of an agent that is gone, and nobody else serves {capability}")
        }
        Answer::AgentsPaused => format!("waits: every agent that serves {capability} is paused"),
        Answer::LimitReached { max, running } => {
            format!("waits: the limit of the queue is reached, {running} of {max} are in hand")
        }
        Answer::AllBusy { agents, slots } => match agents {
            0 => "waits: others of its queue are in the hands of a program that is not registered, and it has no free slot"
                .to_owned(),
            _ => format!("waits: no slot is free ({} of {})", count(*slots, "slot"), count(*agents, "agent")),
        },
        Answer::Suspected { deaths, set_aside_at } => {
            format!("was in the hands of {} that died; at {set_aside_at} it is set aside as poison", count(*deaths, "worker"))
        }
        Answer::Behind { others: 1 } => "waits behind one other of its lane".to_owned(),
        Answer::Behind { others } => format!("waits behind {others} others of its lane"),
        Answer::Next => "is the next one: nothing keeps it back".to_owned(),
        Answer::Forgotten => {
            "is gone, and so is its outcome: it ended longer ago than outcomes are kept, or was purged".to_owned()
        }
        Answer::NotFound { looked_at, was_all: true } => {
            format!("was not found: no agent has it, and it is none of the {looked_at} that wait")
        }
        Answer::NotFound { looked_at, was_all: false } => {
            format!("was not found: no agent has it, and it is none of the first {looked_at} that wait; there are more")
        }
    }
}

fn became(status: Option<Status>) -> &'static str {
    match status {
        Some(Status::Completed) => "is done",
        Some(Status::Failed) => "failed too",
        Some(Status::Cancelled) => "was cancelled",
        Some(Status::Expired) => "expired",
        None => "has no outcome that is kept",
    }
}

fn count(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn until(moment: Option<Timestamp>) -> String {
    moment.map(|moment| format!(" until {}", time::format(moment))).unwrap_or_default()
}

/// How late a schedule must be to be called so: the broker may be firing it.
const OVERDUE_BY: TimeDelta = TimeDelta::seconds(5);

fn is_overdue(due: Timestamp, now: Timestamp) -> bool {
    now - due > OVERDUE_BY
}

/// Until when it waits, or since when it should not.
fn come(due: Option<Timestamp>, now: Timestamp) -> String {
    match due {
        Some(due) if is_overdue(due, now) => {
            format!(" and is overdue by {}: its schedule has not fired", age(due, now))
        }
        due => until(due),
    }
}

/// The command that helps next.
fn advice(why: &Why, now: Timestamp) -> String {
    let id = &why.id;
    let cancel = match id.origin() {
        // A step is cancelled with its run.
        Origin::Step { run, .. } => format!("sortie run cancel {run}"),
        _ => format!("sortie cancel {id}"),
    };
    let capability = why.capability.as_ref().map_or_else(|| "<capability>".to_owned(), ToString::to_string);
    let lane = why.lane.map_or_else(String::new, |lane| format!(" --lane {lane}"));
    match &why.answer {
        Answer::Completed | Answer::Failed { .. } | Answer::Cancelled | Answer::Expired => {
            format!("`sortie outcome {id}` shows how it ended")
        }
        Answer::Dead { sent_again: Some(again), .. } => {
            format!("`sortie why {}` says more of that, `sortie dead show {id}` tells the whole story", again.id)
        }
        Answer::Dead { code, .. } if code == codes::POISON => format!(
            "`sortie dead show {id}` tells the whole story; as it is it would kill again: `sortie dead edit {id}` sends it \
             with another body"
        ),
        Answer::Dead { .. } => {
            format!("`sortie dead show {id}` tells the whole story, `sortie dead replay {id}` sends it again")
        }
        Answer::Scheduled { due: Some(due), .. } | Answer::RateLimited { due: Some(due) } if is_overdue(*due, now) => {
            "a coordinator publishes it again within a minute: is one running? `sortie doctor` says".to_owned()
        }
        Answer::Scheduled { .. } | Answer::RateLimited { .. } | Answer::Retrying { .. } => {
            format!("`sortie outcome {id} --wait` waits for it, `{cancel}` gives it up")
        }
        Answer::Running { .. } => {
            format!("`sortie outcome {id} --follow` shows its progress, `{cancel}` stops it")
        }
        Answer::Taken { silent } if !silent.is_empty() => {
            let ended: Vec<String> =
                silent.iter().map(|agent| format!("`kill -9 {}` at {}", agent.pid, agent.host)).collect();
            format!("one that hangs is ended by {}; what it had in hand comes back by itself", ended.join(", "))
        }
        Answer::Taken { .. } => {
            format!("`sortie why {id}` asks again; `sortie agents list --capability {capability}` shows who serves it")
        }
        Answer::GivenUp => {
            "a coordinator makes it a dead letter within a minute: is one running? `sortie doctor` says".to_owned()
        }
        Answer::Paused { .. } => format!("`sortie queues resume {capability}{lane}` lets it go on"),
        Answer::BreakerOpen { name, .. } => {
            format!(
                "it closes by itself when what is called works again; `sortie breaker reset {name}` closes it at once"
            )
        }
        Answer::Unserved { .. } => {
            format!("start an agent that serves {capability}; `sortie agents list` shows who is there")
        }
        Answer::AgentsPaused => format!("`sortie agents resume --capability {capability}` lets them go on"),
        Answer::LimitReached { .. } => format!("`sortie queues limit {capability} <more>{lane}` raises it"),
        Answer::AllBusy { .. } | Answer::Behind { .. } => {
            format!(
                "`sortie queues --capability {capability}` shows how fast it goes; more agents or slots make it faster"
            )
        }
        Answer::Next | Answer::Suspected { .. } => format!("`sortie outcome {id} --wait` waits for it"),
        Answer::Forgotten => "outcomes are kept for 24 h unless `sortie topology apply` says otherwise".to_owned(),
        Answer::NotFound { was_all: true, .. } if let Origin::Step { run, .. } = id.origin() => format!(
            "run {run} waits for it: `sortie audit` proves whether it is nowhere; then `sortie run cancel {run}` and `sortie run \
             retry {run}` do again what did not complete"
        ),
        Answer::NotFound { was_all: true, .. } => {
            "it was never submitted, or ended longer ago than outcomes are kept".to_owned()
        }
        Answer::NotFound { was_all: false, .. } => {
            "look further with --scan and --within, or name what it asks for with --capability".to_owned()
        }
    }
}

#[cfg(test)]
mod tests;
