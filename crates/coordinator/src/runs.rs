//! Runs of workflows. The log of a run is its state; a coordinator folds it, and writes only what it dispatches.
//!
//! ```text
//!   FLEET_REQUESTS (start.*) ── starts ───┐
//!                  (request.*) ── serving ┴─► begin: input checked ──► FLEET_RUNS: `started`
//!
//!   FLEET_RUNS ── partition (polls, extends; fence) ──► keeper ──► conduct, one turn of one run:
//!                                                                     log: read or folded on
//!                                                                     carry: requests, timers, events
//!                                                                     end: outcome, summary, purge
//!                                                                     then the events are acknowledged
//! ```

mod arrival;
mod ask;
mod begin;
mod carry;
mod conduct;
mod definitions;
mod end;
mod fence;
mod hand;
mod holders;
mod intake;
mod keeper;
mod letter;
mod line;
mod log;
mod means;
mod metrics;
mod partition;
mod programs;
mod refuse;
mod removal;
mod retry;
mod returned;
mod serving;
mod share;
mod starts;
mod strays;
mod timers;
mod unreadable;

use std::{sync::Arc, time::Instant};

use broker::{
    SideConnection,
    task::{self, Owned},
};
use protocol::topology::{RUN_PARTITIONS, run_consumer, run_pace};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub use self::metrics::RunMetrics;
pub(crate) use self::{strays::Strays, timers::Timers};

use self::{
    begin::Begin, keeper::Keeper, means::Means, partition::Partition, serving::Serving, share::Share, starts::Starts,
};
use crate::post::Post;

/// Facts that nobody can read and whose runs are not told yet, without their bodies.
const UNREADABLE_MAX: usize = 200;

/// What this coordinator has of the runs.
#[derive(Debug)]
pub(crate) struct Held {
    partitions: Vec<Arc<partition::Post>>,
}

/// Starts what keeps runs: a poller and a keeper for each partition, the starts, and the share.
pub(crate) fn start(post: &Post, stop: &CancellationToken) -> (Held, Vec<Owned<()>>) {
    let (vacant, vacancies) = mpsc::channel(line::VACANT_MAX);
    let means = Arc::new(Means::new(post, vacant));
    let (pace, beat) = (run_pace(), Instant::now());
    let mut tasks = Vec::new();
    let mut posts = Vec::new();
    let side = SideConnection::new(&post.connection);
    let (found, unreadable) = mpsc::channel(UNREADABLE_MAX);
    for number in 0..RUN_PARTITIONS {
        let one = partition::Post::new(&pace, beat);
        let (deciding, told) = mpsc::unbounded_channel();
        let consumer = run_consumer(post.namespace(), number);
        let partition = Partition::new(&side, &post.reader, consumer, pace, Arc::clone(&one), deciding, found.clone());
        // The keeper ends with its partition, which it hears from.
        tasks.push(task::spawn("runs", Keeper::new(&means, number, Arc::clone(&one)).keep(told)));
        tasks.push(task::spawn("partition", partition.keep(stop.clone())));
        posts.push(one);
    }
    let begin = Arc::new(Begin::new(&means));
    tasks.push(task::spawn("starts", Starts::new(&begin).keep(stop.clone())));
    tasks.push(task::spawn("returned", returned::keep(Arc::clone(&begin), stop.clone())));
    tasks.push(task::spawn("line", line::keep(Arc::clone(&begin), vacancies, stop.clone())));
    tasks.push(task::spawn("serving", Serving::new(&begin).keep(stop.clone())));
    // It ends with the last partition.
    tasks.push(task::spawn("unreadable", unreadable::keep(Arc::clone(&means), unreadable)));
    let held = Held { partitions: posts.clone() };
    tasks.push(task::spawn("share", Share::new(post, posts).keep(stop.clone())));
    (held, tasks)
}

impl Held {
    /// How many partitions are ours now.
    pub(crate) fn partitions(&self) -> usize {
        self.partitions.iter().filter(|one| one.fence.stands()).count()
    }
}
