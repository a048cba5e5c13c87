//! Pulling: no more than there are free slots, lanes in turn by weight.
//!
//! A consumer is *cold* until a message of it arrives: then one pull of one message waits at the server, and that arrival
//! is the hint that there is more. A *hot* consumer is asked for what free slots allow, without waiting, in turn by
//! weight, until it says that it is empty. With all slots busy no pull is open, so that a message goes to a worker with a
//! free slot; what crosses on the way is handed back soon.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::Poll,
    time::{Duration, Instant},
};

use broker::{Delivery, Link, PullEnd, PullEvent, PullInbox, PullRequest, topology};
use tokio::{sync::watch, task::JoinSet};

use crate::{error::Error, machinery::Machinery, pipeline::Job};

mod feeds;
mod turns;

use feeds::{Feeds, Wish};

/// How long the server keeps a waiting pull.
const WAIT: Duration = Duration::from_secs(30);

/// How often the server says that it still keeps it. When a leader is lost nobody says that the pull is gone.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// How long all slots are busy before waiting pulls are taken back: short tasks free one sooner.
const BUSY_PATIENCE: Duration = Duration::from_millis(20);

/// How long a message that came when no slot was free may wait for one.
const CROSSED_MAX: Duration = Duration::from_millis(250);

/// How often the intake looks around without being told: while something is to be decided soon, and else.
const TICK: Duration = Duration::from_millis(50);
const TICK_IDLE: Duration = Duration::from_secs(1);

/// A turn of the loop that takes this long says that the process stood still, and how soon after that all is read that
/// came meanwhile.
const STILL_MIN: Duration = Duration::from_secs(2);
const CAUGHT_UP_WITHIN: Duration = Duration::from_secs(2);

/// How long after a failed attempt to make a deleted consumer again.
const REMAKE_PAUSE: Duration = Duration::from_secs(1);

/// How long one attempt to make a deleted consumer again may hold up the loop.
const REMAKE_MAX: Duration = Duration::from_secs(2);

/// How often a drain looks around without being told.
const DRAIN_LOOK: Duration = Duration::from_secs(1);

/// The pulling of one worker.
#[derive(Debug)]
pub(crate) struct Intake {
    machinery: Arc<Machinery>,
    feeds: Feeds,
    /// By `<stream>.<consumer>`.
    by_consumer: HashMap<String, usize>,
    inbox: Option<PullInbox>,
    /// Inboxes whose pulls were taken back, until they are empty.
    closing: Vec<PullInbox>,
    crossed: VecDeque<(usize, Delivery)>,
    busy_since: Option<Instant>,
    jobs: JoinSet<()>,
    is_up: bool,
    /// When the loop turned last: what comes in now came since then.
    turned: Instant,
    /// The process stood still from the first moment on; what comes until the second one may have come before it.
    stood_still: Option<(Instant, Instant)>,
    looked: Instant,
    beats: Arc<AtomicU64>,
}

impl Intake {
    /// `beats` counts the turns of its loop, for the watchdog.
    pub(crate) fn new(machinery: Arc<Machinery>, beats: Arc<AtomicU64>) -> Self {
        let key = |route: &crate::machinery::Route| format!("{}.{}", route.consumer.stream, route.consumer.name);
        Self {
            feeds: Feeds::new(machinery.routes.iter().map(|route| (route.source.weight(), route.served))),
            by_consumer: machinery.routes.iter().enumerate().map(|(index, route)| (key(route), index)).collect(),
            machinery,
            inbox: None,
            closing: Vec::new(),
            crossed: VecDeque::new(),
            busy_since: None,
            jobs: JoinSet::new(),
            is_up: true,
            turned: Instant::now(),
            stood_still: None,
            looked: Instant::now(),
            beats,
        }
    }

    /// Pulls until a drain is asked for, then until nothing is in hand.
    pub(crate) async fn run(mut self) -> Result<(), Error> {
        let machinery = Arc::clone(&self.machinery);
        let mut link = machinery.connection.link();
        let mut generation = link.borrow_and_update().generation;
        let mut paused = machinery.pause.watch();
        while !machinery.shutdown.has_begun() {
            self.fill().await?;
            let is_soon = !self.crossed.is_empty() || self.busy_since.is_some();
            let heard = tokio::select! {
                heard = next_heard(&mut self.inbox, &mut self.closing) => heard,
                () = machinery.slots.freed() => None,
                Some(_) = self.jobs.join_next(), if !self.jobs.is_empty() => None,
                _ = link.changed() => None,
                _ = paused.changed() => None,
                () = tokio::time::sleep(if is_soon { TICK } else { TICK_IDLE }) => None,
                () = machinery.shutdown.begun() => None,
            };
            // Before anything is dated: the loop may turn after a freeze before the connection has read what came meanwhile.
            self.notice_freeze(Instant::now());
            self.heed_all(heard);
            // All that was there is heeded: what comes next came after this moment, however long what follows takes.
            self.turned = Instant::now();
            self.follow(&mut link, &mut generation).await;
            self.look_around().await;
            self.beats.fetch_add(1, Ordering::Relaxed);
        }
        self.drain().await;
        Ok(())
    }

    /// Stops pulling; what crossed is handed back; what runs ends, or is handed back when the grace is over.
    async fn drain(mut self) {
        self.close_inbox().await;
        let over = tokio::time::Instant::now() + self.machinery.config.drain_grace;
        // Past the grace handlers get their stop grace, and then naks must leave.
        let last = over + self.machinery.config.stop_grace + Duration::from_secs(2);
        loop {
            while let Some((route, delivery)) = self.crossed.pop_front() {
                self.hand_back(route, delivery);
            }
            if self.closing.is_empty() && (self.jobs.is_empty() || self.machinery.slots.is_idle()) {
                return;
            }
            let mut none = None;
            tokio::select! {
                heard = next_heard(&mut none, &mut self.closing), if !self.closing.is_empty() => {
                    if let Some(Heard { event: PullEvent::Delivered(delivery), .. }) = heard {
                        self.arrived(*delivery);
                    }
                }
                Some(_) = self.jobs.join_next(), if !self.jobs.is_empty() => {}
                () = tokio::time::sleep_until(over), if !self.machinery.grace_over.is_cancelled() => {
                    tracing::warn!(running = self.machinery.slots.busy(), "the grace is over: handing back what runs");
                    self.machinery.grace_over.cancel();
                }
                () = tokio::time::sleep_until(last) => return,
                // Waiting for a long handler is no standstill: the watchdog counts these turns.
                () = tokio::time::sleep(DRAIN_LOOK) => {}
            }
            self.beats.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Opens the pulls that free slots allow.
    async fn fill(&mut self) -> Result<(), Error> {
        if !self.is_up {
            // What is sent now would wait in a buffer, and then all arrive at once.
            return Ok(());
        }
        if self.stood_still.is_some_and(|(_, until)| Instant::now() < until) {
            // What comes in now counts as old, and is left to whoever has it by now: what was pulled now would be, too, and
            // everybody would wait for its ack deadline.
            return Ok(());
        }
        if self.machinery.pause.is_set() {
            if self.inbox.is_some() {
                self.close_inbox().await;
            }
            return Ok(());
        }
        // Slots that neither run, nor are promised to a pull, nor to what crossed.
        let slots = Arc::clone(&self.machinery.slots);
        let taken = self.feeds.reserved() + self.crossed.len();
        // While one runs alone, nothing is pulled that could not begin.
        let free = if self.machinery.gate.is_closed() { 0 } else { slots.free().saturating_sub(taken) };
        if free == 0 {
            self.take_back_waiting().await;
            return Ok(());
        }
        self.busy_since = None;
        let inbox = match &mut self.inbox {
            Some(inbox) => inbox,
            none => none.insert(PullInbox::open(&self.machinery.connection).await?),
        };
        let routes = &self.machinery.routes;
        let crossed = &self.crossed;
        let crossed_of = |served| crossed.iter().filter(|(route, _)| routes[*route].served == served).count();
        for wish in self.feeds.wishes(free, |served| slots.free_of(served).saturating_sub(crossed_of(served))) {
            let (feed, request) = match wish {
                Wish::Now { feed, batch } => (feed, PullRequest::Now { batch }),
                Wish::Wait { feed } => (feed, PullRequest::Wait { expires: WAIT, heartbeat: HEARTBEAT }),
            };
            let tag = self.feeds.next_tag(feed);
            inbox.pull(&routes[feed].consumer, request, tag).await?;
            self.feeds.opened(wish, tag, Instant::now());
        }
        Ok(())
    }

    /// With all slots busy for a while no pull stays open.
    async fn take_back_waiting(&mut self) {
        if self.machinery.slots.free() > 0 && !self.machinery.gate.is_closed() {
            // What is promised to a pull is not busy yet.
            self.busy_since = None;
            return;
        }
        let since = *self.busy_since.get_or_insert_with(Instant::now);
        if since.elapsed() < BUSY_PATIENCE || !self.feeds.is_any_open() {
            return;
        }
        self.close_inbox().await;
    }

    /// Heeds what was heard and all that is there besides.
    fn heed_all(&mut self, first: Option<Heard>) {
        let mut next = first;
        loop {
            if let Some(heard) = next {
                self.heed(heard);
            }
            next = match heard_now(&mut self.inbox, &mut self.closing) {
                Poll::Ready(heard) => heard,
                Poll::Pending => return self.begin_crossed(),
            };
        }
    }

    fn heed(&mut self, heard: Heard) {
        match heard.event {
            PullEvent::Delivered(delivery) => {
                let pending = delivery.pending;
                if let Some(feed) = self.arrived(*delivery)
                    && heard.is_open
                {
                    self.feeds.brought(feed, pending, Instant::now());
                }
            }
            PullEvent::Alive { tag } => self.feeds.alive(tag, Instant::now()),
            // An inbox over the connection of everything else does not say so: the link does.
            PullEvent::Broke => {}
            PullEvent::Ended { tag, end } => match (self.feeds.ended(tag), end) {
                (Some(feed), PullEnd::Gone) => self.feeds.is_gone(feed, Instant::now()),
                (Some(_), PullEnd::Dropped(reason)) => tracing::debug!(reason, "pull dropped by the server"),
                (Some(_), PullEnd::Empty | PullEnd::Expired | PullEnd::WrongPin) | (None, _) => {}
            },
        }
    }

    /// A turn that took long says that the process stood still.
    fn notice_freeze(&mut self, now: Instant) {
        if now.saturating_duration_since(self.turned) > STILL_MIN {
            self.stood_still = Some((self.turned, now + CAUGHT_UP_WITHIN));
        }
    }

    /// Since when what comes in now may have lain in a buffer: since the last turn; after a freeze, since before it.
    fn came_since(&mut self, now: Instant) -> Instant {
        self.notice_freeze(now);
        match self.stood_still {
            Some((since, until)) if now < until => since,
            _ => self.turned,
        }
    }

    /// Takes a message in hand. The consumer's name tells which feed it came by: there is one open pull per consumer at
    /// most.
    fn arrived(&mut self, mut delivery: Delivery) -> Option<usize> {
        delivery.received = self.came_since(delivery.received);
        let feed = *self.by_consumer.get(delivery.came_by())?;
        self.crossed.push_back((feed, delivery));
        Some(feed)
    }

    /// Gives a message back that was not begun.
    fn hand_back(&mut self, route: usize, delivery: Delivery) {
        let slot = self.machinery.slots.take(self.machinery.routes[route].served);
        let mut job = Job::new(&self.machinery, route, delivery, slot);
        self.jobs.spawn(async move { job.hand_back().await });
    }

    /// Begins what is in hand while slots are free. A paused worker begins nothing: whatever comes in yet crossed the pause
    /// on its way, and somebody else may have it.
    fn begin_crossed(&mut self) {
        if self.machinery.pause.is_set() {
            while let Some((index, delivery)) = self.crossed.pop_front() {
                self.hand_back(index, delivery);
            }
            return;
        }
        let mut waiting = VecDeque::new();
        while let Some((index, delivery)) = self.crossed.pop_front() {
            let served = self.machinery.routes[index].served;
            if self.machinery.slots.free() > 0 && self.machinery.slots.free_of(served) > 0 {
                let slot = self.machinery.slots.take(served);
                let job = Job::new(&self.machinery, index, delivery, slot);
                self.jobs.spawn(job.process());
            } else {
                waiting.push_back((index, delivery));
            }
        }
        self.crossed = waiting;
    }

    /// What is looked at on every turn: crossed messages, and now and then silent pulls and deleted consumers.
    async fn look_around(&mut self) {
        self.begin_crossed();
        let now = Instant::now();
        while let Some((index, delivery)) = self.crossed.pop_front() {
            if now.saturating_duration_since(delivery.received) < CROSSED_MAX - TICK {
                self.crossed.push_front((index, delivery));
                break;
            }
            let served = &self.machinery.served[self.machinery.routes[index].served];
            self.machinery.metrics.crossed(served.capability.as_str());
            self.hand_back(index, delivery);
        }
        if now.saturating_duration_since(self.looked) < TICK_IDLE {
            return;
        }
        self.looked = now;
        self.feeds.forget_silent(now);
        // One at a time: where the broker does not answer, the loop must go on turning.
        if let Some(feed) = self.feeds.to_remake(now) {
            self.remake(feed).await;
        }
    }

    /// Makes a consumer that is gone again: its messages are still there.
    async fn remake(&mut self, feed: usize) {
        let consumer = &self.machinery.routes[feed].consumer;
        let made =
            tokio::time::timeout(REMAKE_MAX, topology::ensure_consumer(&self.machinery.connection, consumer)).await;
        let error = match made {
            Ok(Ok(())) => return self.feeds.is_back(feed),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer".to_owned(),
        };
        tracing::warn!(error, consumer = consumer.name, "consumer is gone and could not be made again yet");
        self.feeds.is_gone(feed, Instant::now() + REMAKE_PAUSE);
    }

    /// Follows the connection. The server keeps a pull while anybody listens at its inbox, and the client listens there
    /// again by itself: so after a reconnect the pulls get a new inbox, or there would be twice as many.
    async fn follow(&mut self, link: &mut watch::Receiver<Link>, generation: &mut u64) {
        let now = *link.borrow_and_update();
        self.is_up = now.is_up;
        if now.generation != *generation {
            *generation = now.generation;
            self.close_inbox().await;
        }
    }

    async fn close_inbox(&mut self) {
        if let Some(mut inbox) = self.inbox.take() {
            inbox.close().await;
            self.closing.push(inbox);
        }
        self.feeds.forget_all();
    }
}

/// What came in.
struct Heard {
    event: PullEvent,
    /// Whether it came by the open inbox: what comes by a closing one answers a pull that is forgotten.
    is_open: bool,
}

/// What comes in next from any inbox; pending while there is none.
async fn next_heard(inbox: &mut Option<PullInbox>, closing: &mut Vec<PullInbox>) -> Option<Heard> {
    std::future::poll_fn(|context| poll_heard(inbox, closing, context)).await
}

fn heard_now(inbox: &mut Option<PullInbox>, closing: &mut Vec<PullInbox>) -> Poll<Option<Heard>> {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    poll_heard(inbox, closing, &mut context)
}

/// Ready with none when an inbox ended, so that the loop looks again.
fn poll_heard(
    inbox: &mut Option<PullInbox>,
    closing: &mut Vec<PullInbox>,
    context: &mut std::task::Context<'_>,
) -> Poll<Option<Heard>> {
    for index in 0..closing.len() {
        match closing[index].poll_next(context) {
            Poll::Ready(Some(event)) => return Poll::Ready(Some(Heard { event, is_open: false })),
            Poll::Ready(None) => {
                closing.swap_remove(index);
                return Poll::Ready(None);
            }
            Poll::Pending => {}
        }
    }
    let Some(open) = inbox else { return Poll::Pending };
    match open.poll_next(context) {
        Poll::Ready(Some(event)) => Poll::Ready(Some(Heard { event, is_open: true })),
        Poll::Ready(None) => {
            *inbox = None;
            Poll::Ready(None)
        }
        Poll::Pending => Poll::Pending,
    }
}
