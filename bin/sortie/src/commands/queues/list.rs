//! `sortie queues list`: one line per capability and lane.

use std::time::Duration;

use client::{BreakerNow, Limit, Pause, Queue, Queues, QueuesAsk};
use process::{ExitCode, Problem};
use protocol::{
    Capability, Service,
    breaker::State,
    duration,
    time::{self, Timestamp},
};

use crate::{commands::outcome::printable, output::Output, refusal, session::Session};

const LEGEND: &str = "\
WAITING was never delivered; RUNNING is in an agent's hands, or waits for its redelivery; LATER comes here when its time has
come; OLDEST is how long the first of those that wait lies there; IN/S and OUT/S are watched for --over; FREE are slots that
agents share between all that they serve.

Examples:
  sortie queues
  sortie queues list --capability resize --all
  sortie queues --json | jq '.queues[] | select(.waiting > 1000)'";

/// List queues: what waits, runs, comes and goes; who serves them; how they are steered
#[derive(Debug, clap::Args)]
#[command(after_help = LEGEND)]
pub(crate) struct ListArgs {
    /// Only those of this capability
    #[arg(long, value_name = "NAME")]
    capability: Option<Capability>,
    /// Lanes in which nothing happens, too
    #[arg(long)]
    all: bool,
    /// How long to watch for rates; 0s for none
    #[arg(long, value_name = "1s", value_parser = duration::parse, default_value = "1s")]
    over: Duration,
}

pub(super) async fn run(args: ListArgs, session: &Session) -> Result<ExitCode, Problem> {
    let ListArgs { capability, all, over } = args;
    let over = (!over.is_zero()).then_some(over.min(Duration::from_secs(60)));
    let ask = QueuesAsk { capability, rates_over: over, ..QueuesAsk::default() };
    let mut found = session.client().await?.queues(&ask).await.map_err(refusal::problem)?;
    if !all {
        found.queues = told(found.queues);
    }
    session.output().show(&found, || human(session.output(), &ask, &found))?;
    Ok(ExitCode::Done)
}

/// Without the lanes in which nothing happens; of a capability in which nothing happens at all, the normal one.
fn told(queues: Vec<Queue>) -> Vec<Queue> {
    let is_told = |queue: &Queue| {
        let same = |other: &&Queue| other.capability == queue.capability;
        !queue.is_idle() || (queue.lane.token() == "normal" && queues.iter().filter(same).all(Queue::is_idle))
    };
    queues.iter().filter(|queue| is_told(queue)).cloned().collect()
}

fn human(output: Output, ask: &QueuesAsk, found: &Queues) -> String {
    if found.queues.is_empty() {
        return match &ask.capability {
            Some(capability) => format!("nobody serves {capability}, and nobody asked for it"),
            None => "there are no queues: nobody serves anything, and nobody asked".to_owned(),
        };
    }
    let head =
        ["CAPABILITY", "LANE", "WAITING", "RUNNING", "LATER", "OLDEST", "IN/S", "OUT/S", "AGENTS", "FREE", "STATE"];
    let rows = found.queues.iter().map(|queue| {
        [
            queue.capability.to_string(),
            queue.lane.to_string(),
            queue.waiting.to_string(),
            queue.running.to_string(),
            queue.scheduled.to_string(),
            queue.oldest.map_or_else(|| "-".to_owned(), |oldest| age(oldest, found.at)),
            rate(queue.rate_in),
            rate(queue.rate_out),
            queue.agents.to_string(),
            format!("{}/{}", queue.slots_free, queue.slots),
            state(queue),
        ]
    });
    let table = output.table(&head, rows);
    match found.has_more_scheduled {
        true => format!("{table}\n{} wait for their time, of which LATER counts the first ones only", found.scheduled),
        false => table,
    }
}

/// A rate in few characters.
pub(in crate::commands) fn rate(rate: Option<f64>) -> String {
    rate.map_or_else(|| "-".to_owned(), |rate| if rate < 10.0 { format!("{rate:.1}") } else { format!("{rate:.0}") })
}

/// How long ago that was, in one unit.
pub(in crate::commands) fn age(since: Timestamp, now: Timestamp) -> String {
    let seconds = (now - since).num_seconds().max(0).unsigned_abs();
    let unit = [86_400, 3_600, 60].into_iter().find(|unit| seconds >= 2 * unit).unwrap_or(1);
    duration::format(Duration::from_secs(seconds - seconds % unit))
}

/// How it is steered, and what keeps it.
pub(in crate::commands) fn state(queue: &Queue) -> String {
    let mut parts = Vec::new();
    parts.extend(queue.paused.as_ref().map(pause));
    parts.extend(queue.limit.as_ref().map(limit));
    parts.extend(queue.breaker.as_ref().map(breaker));
    parts.extend(kept(queue).map(str::to_owned));
    parts.join("; ")
}

/// Whether what is there stays there for want of somebody who takes it.
fn kept(queue: &Queue) -> Option<&'static str> {
    match queue.service {
        Service::Unserved if queue.lost > 0 => {
            Some("nobody serves it: what runs is in the hands of agents that are gone")
        }
        Service::Unserved if queue.waiting + queue.scheduled > 0 => Some("nobody serves it"),
        Service::Paused if queue.waiting > 0 => Some("its agents are paused"),
        _ => None,
    }
}

fn pause(pause: &Pause) -> String {
    let word = if pause.is_in_force { "paused" } else { "to be paused" };
    let by = pause.by.as_ref().map_or_else(|| "by hand".to_owned(), |by| format!("by {by}"));
    let until = pause.until.map(|until| format!(" until {}", time::format(until))).unwrap_or_default();
    let reason = pause.reason.as_ref().map(|reason| format!(": {}", printable(reason))).unwrap_or_default();
    format!("{word} {by}{until}{reason}")
}

fn limit(limit: &Limit) -> String {
    let word = if limit.is_in_force { "limit" } else { "to be limited to" };
    let by = limit.by.as_ref().map_or_else(|| "by hand".to_owned(), |by| format!("by {by}"));
    format!("{word} {} {by}", limit.max)
}

fn breaker(breaker: &BreakerNow) -> String {
    let until = breaker.until.map(|until| format!(" until {}", time::format(until))).unwrap_or_default();
    let after = breaker.after.as_ref().map(|code| format!(" after {}", printable(code))).unwrap_or_default();
    match breaker.state {
        State::HalfOpen => format!("breaker {} half open{after}", breaker.name),
        State::Open | State::Closed => format!("breaker {} open{until}{after}", breaker.name),
    }
}

#[cfg(test)]
mod tests {
    use protocol::{BreakerName, Lane, Operator, topology::Source};

    use super::*;

    fn queue(capability: &str, lane: Source) -> Queue {
        Queue {
            capability: Capability::parse(capability).unwrap(),
            lane,
            waiting: 0,
            running: 0,
            redelivered: 0,
            lost: 0,
            scheduled: 0,
            oldest: None,
            rate_in: Some(0.0),
            rate_out: Some(0.0),
            service: Service::Served,
            agents: 1,
            slots: 4,
            slots_free: 4,
            pulls: 1,
            is_known: true,
            max_in_hand: Some(10_000),
            paused: None,
            limit: None,
            breaker: None,
        }
    }

    fn at(second: u32) -> Timestamp {
        time::parse(&format!("2030-01-01T00:00:{second:02}Z")).unwrap()
    }

    #[test]
    fn queues_are_told_in_a_table() {
        let (normal, bulk) = (Source::Lane(Lane::Normal), Source::Lane(Lane::Bulk));
        let pause = Pause {
            by: Some(Operator::nearest("ann")),
            at: Some(at(0)),
            reason: Some("disk\nfull".to_owned()),
            until: None,
            is_in_force: true,
        };
        let limit = Limit { max: 5, by: None, at: None, reason: None, is_in_force: true };
        let open = BreakerNow {
            name: BreakerName::parse("bank").unwrap(),
            state: State::Open,
            until: Some(at(30)),
            after: Some("bank_down".to_owned()),
        };
        let queues = vec![
            Queue {
                waiting: 1_200,
                oldest: Some(at(0)),
                rate_in: Some(12.34),
                paused: Some(pause),
                ..queue("busy", normal)
            },
            queue("busy", Source::Unique),
            Queue { running: 5, scheduled: 3, rate_out: Some(0.5), limit: Some(limit), ..queue("busy", bulk) },
            Queue { breaker: Some(open), ..queue("down", normal) },
            queue("idle", normal),
            queue("idle", bulk),
            Queue {
                waiting: 1,
                oldest: Some(at(50)),
                agents: 0,
                slots: 0,
                slots_free: 0,
                pulls: 0,
                service: Service::Unserved,
                ..queue("nobody", normal)
            },
            Queue {
                running: 2,
                lost: 2,
                agents: 0,
                slots: 0,
                slots_free: 0,
                pulls: 0,
                service: Service::Unserved,
                ..queue("orphaned", normal)
            },
            Queue { waiting: 1, oldest: Some(at(50)), service: Service::Paused, ..queue("resting", normal) },
        ];
        let found = Queues { queues: told(queues), scheduled: 3, has_more_scheduled: false, at: at(55) };
        insta::assert_snapshot!(human(Output::plain(), &QueuesAsk::default(), &found));
    }

    #[test]
    fn age_is_told_in_one_unit() {
        let of = |seconds| age(at(0), at(0) + chrono::TimeDelta::seconds(seconds));
        assert_eq!([-3, 5, 119, 125, 7_300, 200_000].map(of), ["0s", "5s", "119s", "2m", "2h", "2d"]);
    }
}
