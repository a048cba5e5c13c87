//! Keeps the runs of one partition: each event goes to its run, one turn of a run at a time, many runs at once.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use broker::{Delivery, Disposition, Kind, topology};
use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use protocol::{RunId, run::StoredFact, topology::run_consumer};
use tokio::sync::mpsc;

use super::{
    conduct::{Ended, Turn, only_tells},
    fence::Term,
    log::Log,
    means::Means,
    partition::{Post, Told},
};

/// Runs of one partition that are in memory with nothing to do, and what their facts may take together, in bytes. Beyond
/// that the one that was idle for longest is read again when it is needed. One takes some kilobytes, so of those that
/// sleep, of which there may be any number, only a few are kept.
const IDLE_MAX: usize = 1_000;
const ASLEEP_MAX: usize = 64;
const IDLE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The wait before a turn that failed is tried again.
const AGAIN_AFTER: Duration = Duration::from_millis(250);

/// How long the hint of what is done already is waited for.
const FLOOR_WITHIN: Duration = Duration::from_secs(1);

/// The broker's word that a log was empty overlooks a fact that was on its way just then: for no longer than a leader holds out
/// without its majority, which is 10 s (`lostQuorumInterval` of nats-server). Such a fact, and who had the partition when it came,
/// is told by then.
const ON_THE_WAY_MAX: Duration = Duration::from_secs(15);

/// Decides for one partition.
pub(super) struct Keeper {
    means: Arc<Means>,
    partition: u8,
    post: Arc<Post>,
    runs: HashMap<RunId, Kept>,
    turns: FuturesUnordered<BoxFuture<'static, Ended>>,
    term: Option<Term>,
    ack_floor: u64,
    /// From when on a log that the broker found empty certainly was.
    sure_from: Instant,
    /// Idle runs by when they became so: those that wait for an answer, and those that wait for their time or a word.
    idle: BTreeMap<u64, RunId>,
    asleep: BTreeMap<u64, RunId>,
    idle_bytes: usize,
    clock: u64,
    counted: usize,
}

/// A run in memory.
#[derive(Default)]
struct Kept {
    /// None while a turn has it, and where it is not read yet.
    log: Option<Log>,
    is_busy: bool,
    waiting: Vec<Arc<Delivery>>,
    idle_since: u64,
}

impl Keeper {
    pub(super) fn new(means: &Arc<Means>, partition: u8, post: Arc<Post>) -> Self {
        Self {
            means: Arc::clone(means),
            partition,
            post,
            runs: HashMap::new(),
            turns: FuturesUnordered::new(),
            term: None,
            ack_floor: 0,
            sure_from: Instant::now(),
            idle: BTreeMap::new(),
            asleep: BTreeMap::new(),
            idle_bytes: 0,
            clock: 0,
            counted: 0,
        }
    }

    /// Keeps them for as long as anybody tells of events.
    pub(super) async fn keep(mut self, mut told: mpsc::UnboundedReceiver<Told>) {
        loop {
            tokio::select! {
                told = told.recv() => match told {
                    Some(Told::Event(term, delivery)) => self.event(term, delivery).await,
                    Some(Told::Lost) => self.drop_all(),
                    None => return,
                },
                Some(ended) = self.turns.next(), if !self.turns.is_empty() => self.ended(ended),
            }
            self.count();
        }
    }

    async fn event(&mut self, term: Term, delivery: Arc<Delivery>) {
        if self.term.as_ref().is_none_or(|known| known.number() != term.number()) {
            self.drop_all();
            self.ack_floor = floor(&self.means, self.partition).await;
            self.sure_from = Instant::now() + ON_THE_WAY_MAX;
            self.term = Some(term);
        }
        let stored = StoredFact::parse(self.means.post.namespace(), &delivery.message.subject);
        let Some(stored) = stored.filter(|stored| !only_tells(&stored.name)) else {
            // It is no fact that anybody could fold.
            return self.post.hand.ack(&self.means.post.connection, &[delivery]).await;
        };
        let kept = self.runs.entry(stored.run.clone()).or_default();
        kept.waiting.push(delivery);
        if !kept.is_busy {
            self.turn(stored.run, None);
        }
    }

    fn turn(&mut self, run: RunId, after: Option<Duration>) {
        let (Some(kept), Some(term)) = (self.runs.get_mut(&run), self.term.clone()) else { return };
        let log = kept.log.take();
        if let Some(log) = &log {
            self.idle.remove(&kept.idle_since);
            self.asleep.remove(&kept.idle_since);
            self.idle_bytes = self.idle_bytes.saturating_sub(log.bytes);
        }
        kept.is_busy = true;
        let turn = Turn {
            means: Arc::clone(&self.means),
            hand: Arc::clone(&self.post.hand),
            term,
            run,
            partition: self.partition,
            is_sure: Instant::now() >= self.sure_from,
            ack_floor: self.ack_floor,
            log,
            events: std::mem::take(&mut kept.waiting),
        };
        let turn = async move {
            if let Some(after) = after {
                tokio::time::sleep(after).await;
            }
            let means = Arc::clone(&turn.means);
            // It is never closed.
            let _permit = means.turns.acquire().await;
            turn.take().await
        };
        self.turns.push(turn.boxed());
    }

    fn ended(&mut self, ended: Ended) {
        let Some(kept) = self.runs.get_mut(&ended.run) else { return };
        kept.is_busy = false;
        if ended.was_early {
            self.sure_from = Instant::now() + ON_THE_WAY_MAX;
        }
        let again = ended.error.map(|error| {
            if error.kind() != Kind::Fenced {
                tracing::warn!(run = %ended.run, %error, events = ended.left.len(), "a turn is taken again");
            }
            // What will be refused again is refused until somebody changes something: that takes longer.
            if error.disposition() == Disposition::Retry { AGAIN_AFTER } else { 20 * AGAIN_AFTER }
        });
        kept.waiting.splice(..0, ended.left);
        kept.log = ended.log;
        if !kept.waiting.is_empty() {
            if let Some(log) = &kept.log {
                // It is not idle; what turn() takes back is what is given here.
                self.idle_bytes += log.bytes;
            }
            return self.turn(ended.run, again);
        }
        match &kept.log {
            None => {
                self.runs.remove(&ended.run);
            }
            Some(log) => {
                self.clock += 1;
                kept.idle_since = self.clock;
                self.idle_bytes += log.bytes;
                let idle = if log.state.is_asleep() { &mut self.asleep } else { &mut self.idle };
                idle.insert(self.clock, ended.run);
                self.evict();
            }
        }
    }

    fn evict(&mut self) {
        while let Some((_, run)) = self.next_evicted() {
            if let Some(log) = self.runs.remove(&run).and_then(|kept| kept.log) {
                self.idle_bytes = self.idle_bytes.saturating_sub(log.bytes);
            }
        }
    }

    fn next_evicted(&mut self) -> Option<(u64, RunId)> {
        // The last one stays, however large it is: read again for each of its facts, it would cost the square of them.
        let is_large = self.idle_bytes > IDLE_BYTES_MAX && self.idle.len() + self.asleep.len() > 1;
        if self.asleep.len() > ASLEEP_MAX || is_large && !self.asleep.is_empty() {
            self.asleep.pop_first()
        } else if self.idle.len() > IDLE_MAX || is_large {
            self.idle.pop_first()
        } else {
            None
        }
    }

    fn count(&mut self) {
        let (before, now) = (self.counted, self.runs.len());
        let change = i64::try_from(now).unwrap_or(0) - i64::try_from(before).unwrap_or(0);
        self.means.post.metrics.runs.in_memory.add(change);
        self.counted = now;
    }

    /// What is under way is dropped where it is: whoever has the partition now does it again.
    fn drop_all(&mut self) {
        self.turns.clear();
        self.runs.clear();
        self.idle.clear();
        self.asleep.clear();
        self.idle_bytes = 0;
        self.term = None;
    }
}

/// The facts up to here were carried out by whoever had the partition before. Only a hint that saves work: without it
/// everything is sent again, and the broker and the outcomes tell that it was sent.
async fn floor(means: &Means, partition: u8) -> u64 {
    let post = &means.post;
    let consumer = run_consumer(post.namespace(), partition);
    let asking = topology::consumer_state(&post.connection, &consumer.stream, &consumer.name);
    match tokio::time::timeout(FLOOR_WITHIN, asking).await {
        Ok(Ok(state)) => state.ack_floor,
        _ => 0,
    }
}
