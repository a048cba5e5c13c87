//! `sortie check queue`: requests that wait, or how long the oldest of them does.

use std::collections::BTreeMap;

use client::{Client, Queue, QueuesAsk};
use protocol::{Service, time::Timestamp};

use super::{
    Common,
    verdict::{Bounds, Reading, Verdict},
};

/// Schedules do not count here, so none need be read.
const SCHEDULES_MAX: usize = 0;

#[derive(Debug, clap::Args)]
pub(super) struct QueueArgs {
    #[command(flatten)]
    pub(super) common: Common,
    /// Judge by the seconds that the oldest request waits, not by how many wait
    #[arg(long)]
    oldest: bool,
    /// A warning from here on
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    warn: u64,
    /// Critical from here on
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    crit: u64,
}

pub(super) async fn ask(args: &QueueArgs, client: &Client) -> Result<Verdict, String> {
    let ask = QueuesAsk { capability: args.common.capability.clone(), rates_over: None, schedules_max: SCHEDULES_MAX };
    let found = client.queues(&ask).await.map_err(|error| error.to_string())?;
    let bounds = Bounds::From { warning: args.warn, critical: args.crit };
    let readings = found.queues.iter().flat_map(|queue| readings(queue, found.at, bounds, args.oldest)).collect();
    Ok(Verdict::of(readings, message(&found.queues, found.at, args.oldest)))
}

fn readings(queue: &Queue, now: Timestamp, bounds: Bounds, by_age: bool) -> [Reading; 3] {
    let of = BTreeMap::from([("capability", queue.capability.to_string()), ("lane", lane(queue))]);
    let reading = |metric, help, value, is_seconds, is_judged: bool| Reading {
        metric,
        help,
        of: of.clone(),
        value,
        is_seconds,
        bounds: is_judged.then_some(bounds),
    };
    [
        reading(
            "queue_waiting",
            "Requests that nobody has: never delivered, or in the hands of agents that are gone.",
            waiting(queue),
            false,
            !by_age,
        ),
        reading("queue_oldest", "How long the oldest of them waits.", age(queue, now), true, by_age),
        reading("queue_running", "Requests that are in somebody's hands.", queue.running - queue.lost, false, false),
    ]
}

fn waiting(queue: &Queue) -> u64 {
    queue.waiting + queue.lost
}

fn age(queue: &Queue, now: Timestamp) -> u64 {
    queue.oldest.and_then(|oldest| u64::try_from((now - oldest).num_seconds()).ok()).unwrap_or(0)
}

/// The word that stands on the wire.
fn lane(queue: &Queue) -> String {
    serde_json::to_value(queue.lane).ok().and_then(|word| word.as_str().map(str::to_owned)).unwrap_or_default()
}

/// The worst queue by name, and how many wait in all.
fn message(queues: &[Queue], now: Timestamp, by_age: bool) -> String {
    let all: u64 = queues.iter().map(waiting).sum();
    let measure = |queue: &&Queue| if by_age { age(queue, now) } else { waiting(queue) };
    match queues.iter().filter(|queue| waiting(queue) > 0).max_by_key(measure) {
        None => "nothing waits".to_owned(),
        Some(worst) => format!(
            "{all} waiting; {} ({}) has {}, the oldest for {} s{}",
            worst.capability,
            lane(worst),
            waiting(worst),
            age(worst, now),
            if worst.service == Service::Unserved { "; nobody serves it" } else { "" }
        ),
    }
}
