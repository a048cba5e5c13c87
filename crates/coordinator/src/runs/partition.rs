//! One partition of the runs' logs: asks the broker for it, keeps the pin while it has it, extends what is in hand. It
//! decides nothing, so that no decision, however long it takes, costs the pin.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use broker::{
    Connection, Delivery, Error, Kind, PinnedPull, PullEnd, PullEvent, PullInbox, Reader, SideConnection, topology,
};
use bytes::Bytes;
use protocol::topology::{Consumer, RunPace};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use super::{
    fence::{Fence, Term},
    hand::Hand,
};

/// Messages that one pull asks for.
const BATCH: usize = 200;

/// What may be in hand of one partition; above it only as much is asked for as keeps the pin.
const HAND_MAX: usize = 2_000;
const HAND_BYTES_MAX: usize = 32 * 1024 * 1024;

/// How long the first pull over another connection waits. What was proved last was sent up to `expires` and `pulled_every` ago,
/// and with as long a pull as usual the fence would fall before that one is proved.
const PROVED_WITHIN: Duration = Duration::from_millis(50);

/// The wait before another inbox is opened, whatever ended the last one.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// How long what is in hand may take to be done before the partition is given up all the same.
const EMPTIED_WITHIN: Duration = Duration::from_secs(1);

/// How long nothing is asked for after a partition was given up, so that another coordinator is first.
const STEPPED_BACK_FOR: Duration = Duration::from_millis(1_500);

/// What whoever decides is told.
#[derive(Debug)]
pub(super) enum Told {
    /// An event, and the term in which it came.
    Event(Term, Arc<Delivery>),
    /// The partition is not ours any more.
    Lost,
}

/// What others see of a partition, and ask of it.
#[derive(Debug)]
pub(super) struct Post {
    pub(super) fence: Arc<Fence>,
    pub(super) hand: Arc<Hand>,
    /// Asks it to let another coordinator have the partition.
    pub(super) step_back: Notify,
    /// Whether it was asked; it takes a while.
    pub(super) is_stepping_back: AtomicBool,
    /// What the pulls of all partitions keep time with, so that an idle coordinator wakes once for all of them.
    beat: Instant,
}

/// The task of one partition.
pub(super) struct Partition {
    connection: Connection,
    /// All partitions share it: what they ask for at one beat goes and comes in one piece.
    side: SideConnection,
    reader: Reader,
    consumer: Consumer,
    pace: RunPace,
    post: Arc<Post>,
    /// As many as may be in hand: the bound is asked for, not waited for.
    deciding: mpsc::UnboundedSender<Told>,
    /// Takes what nobody can read: it is no event of a term.
    unreadable: mpsc::Sender<Delivery>,
    term: Option<Term>,
    pin: Option<String>,
    pulls: VecDeque<Pull>,
    tag: u64,
    pulled_at: Option<Instant>,
    /// Whether the next pull is to prove itself soon: those before it are lost.
    proves_soon: bool,
}

/// A pull that has not ended.
#[derive(Debug)]
struct Pull {
    tag: u64,
    sent: Instant,
    left: usize,
    pin: Option<String>,
}

impl Post {
    pub(super) fn new(pace: &RunPace, beat: Instant) -> Arc<Self> {
        Arc::new(Self {
            fence: Fence::new(pace.priority_timeout),
            hand: Arc::default(),
            step_back: Notify::new(),
            is_stepping_back: AtomicBool::new(false),
            beat,
        })
    }
}

impl Partition {
    pub(super) fn new(
        side: &SideConnection,
        reader: &Reader,
        consumer: Consumer,
        pace: RunPace,
        post: Arc<Post>,
        deciding: mpsc::UnboundedSender<Told>,
        unreadable: mpsc::Sender<Delivery>,
    ) -> Self {
        Self {
            connection: side.origin().clone(),
            side: side.clone(),
            reader: reader.clone(),
            consumer,
            pace,
            post,
            deciding,
            unreadable,
            term: None,
            pin: None,
            pulls: VecDeque::new(),
            tag: 0,
            pulled_at: None,
            proves_soon: false,
        }
    }

    /// Keeps the partition whenever it is to be had, until `stop`; then lets another one have it at once.
    pub(super) async fn keep(mut self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            match self.follow(&stop).await {
                Ok(()) => {}
                Err(error) => tracing::warn!(consumer = self.consumer.name, %error, "partition not followed"),
            }
            self.unpinned();
            tokio::select! { () = tokio::time::sleep(AGAIN_AFTER) => {}, () = stop.cancelled() => {} }
        }
    }

    /// Until the inbox ends, the consumer is gone, or the partition is given up.
    async fn follow(&mut self, stop: &CancellationToken) -> Result<(), Error> {
        topology::ensure_consumer(&self.connection, &self.consumer).await?;
        let mut inbox = PullInbox::open_apart(&self.side, std::slice::from_ref(&self.consumer), &self.reader).await?;
        let post = Arc::clone(&self.post);
        self.pulls.clear();
        self.pulled_at = None;
        let mut extend_at = Instant::now();
        loop {
            self.notice_fall();
            let now = Instant::now();
            // What is sent while there is no connection would arrive all at once when there is one.
            if self.wants(now) && inbox.is_up() {
                self.pull(&inbox, now).await?;
            }
            if now >= extend_at {
                extend_at = now + self.pace.extended_every / 3;
                post.hand.extend(&self.connection, self.pace.extended_every).await;
            }
            // While there is no connection the next look is not at once.
            let pull_at = self.due(now).max(now + Duration::from_millis(20));
            let until = if post.hand.load().0 > 0 { pull_at.min(extend_at) } else { pull_at };
            tokio::select! {
                event = inbox.next() => match event {
                    Some(event) => {
                        self.notice_fall();
                        if self.heard(event) == Some(PullEnd::Gone) {
                            return Err(Error::new(Kind::NotFound, "the consumer is gone"));
                        }
                    }
                    None => return Ok(()),
                },
                () = tokio::time::sleep_until(until.into()) => {}
                () = post.step_back.notified() => {
                    self.give_up(&mut inbox).await;
                    tokio::select! { () = tokio::time::sleep(STEPPED_BACK_FOR) => {}, () = stop.cancelled() => {} }
                    post.is_stepping_back.store(false, Ordering::Relaxed);
                    return Ok(());
                }
                () = stop.cancelled() => {
                    self.give_up(&mut inbox).await;
                    return Ok(());
                }
            }
        }
    }

    /// When the next pull is due that keeps the pin: at the first beat after the last one, so `pulled_every` at most.
    fn due(&self, now: Instant) -> Instant {
        let Some(pulled_at) = self.pulled_at else { return now };
        let passed = pulled_at.saturating_duration_since(self.post.beat).as_nanos();
        // Beats of 400 ms: for fifty years.
        let beats = u32::try_from(passed / self.pace.pulled_every.as_nanos()).unwrap_or(u32::MAX - 1);
        self.post.beat + self.pace.pulled_every * (beats + 1)
    }

    /// Whether it is time for another pull: to keep the pin, or to have enough asked for.
    fn wants(&self, now: Instant) -> bool {
        let is_due = now >= self.due(now);
        let asked: usize = self.pulls.iter().filter(|pull| pull.pin == self.pin).map(|pull| pull.left).sum();
        is_due || self.pin.is_some() && asked < BATCH / 2 && self.has_room()
    }

    fn has_room(&self) -> bool {
        let (count, bytes) = self.post.hand.load();
        count < HAND_MAX && bytes < HAND_BYTES_MAX
    }

    async fn pull(&mut self, inbox: &PullInbox, now: Instant) -> Result<(), Error> {
        self.tag += 1;
        let batch = if self.has_room() { BATCH } else { 1 };
        let expires = if std::mem::take(&mut self.proves_soon) { PROVED_WITHIN } else { self.pace.expires };
        let request = PinnedPull { batch, expires, pin: self.pin.as_deref() };
        inbox.pull_pinned(&self.consumer, request, self.tag).await?;
        // Whose end was lost is not waited for.
        self.pulls.retain(|pull| now.saturating_duration_since(pull.sent) < 5 * self.pace.expires);
        self.pulls.push_back(Pull { tag: self.tag, sent: now, left: batch, pin: self.pin.clone() });
        self.pulled_at = Some(now);
        Ok(())
    }

    fn heard(&mut self, event: PullEvent) -> Option<PullEnd> {
        match event {
            PullEvent::Delivered(delivery) if delivery.unreadable().is_some() => self.cannot_read(*delivery),
            PullEvent::Delivered(delivery) => self.delivered(Arc::from(delivery)),
            PullEvent::Alive { .. } => {}
            PullEvent::Broke => {
                // The pin lasts beyond its connection, for whoever names it: another pull goes out at once.
                self.pulls.clear();
                self.pulled_at = None;
                self.proves_soon = true;
            }
            PullEvent::Ended { tag, end } => {
                let index = self.pulls.iter().position(|pull| pull.tag == tag);
                let pull = index.and_then(|index| self.pulls.remove(index));
                match (&end, pull) {
                    (PullEnd::WrongPin, Some(pull)) if pull.pin == self.pin => self.unpinned(),
                    (PullEnd::Expired | PullEnd::Empty, Some(pull)) if self.pin.is_some() && pull.pin == self.pin => {
                        self.post.fence.prove(pull.sent);
                    }
                    _ => {}
                }
                return Some(end);
            }
        }
        None
    }

    fn delivered(&mut self, delivery: Arc<Delivery>) {
        // Which pull it answers is not said: the oldest is the one that proves least.
        let sent = self.pulls.front().map_or(delivery.received, |pull| pull.sent);
        // Over a header block without its end the server writes the pin where nobody finds it: such a message says nothing of it,
        // and while the term lasts nobody else is given any.
        let names_ours = delivery.pin().is_none_or(|pin| self.pin.as_deref() == Some(pin));
        let is_ours = self.term.as_ref().is_some_and(Term::lasts) && names_ours;
        if !is_ours {
            self.lose();
            self.pin = delivery.pin().map(str::to_owned);
            self.term = Some(self.post.fence.begin(sent));
            tracing::info!(consumer = self.consumer.name, "partition taken");
        }
        self.post.fence.prove(sent);
        let pin = self.pin.as_deref();
        // The one that was pinned had none to say.
        if let Some(pull) = self.pulls.iter_mut().find(|pull| pull.pin.as_deref() == pin || !is_ours) {
            pull.left = pull.left.saturating_sub(1);
        }
        self.pulls.retain(|pull| pull.left > 0);
        let Some(term) = self.term.clone() else { return };
        if self.post.hand.take(&delivery) {
            // Nobody decides any more where it cannot be told.
            let _ = self.deciding.send(Told::Event(term, delivery));
        }
    }

    /// It came without a pin, and maybe to a partition that is not ours: it proves nothing and belongs to no term.
    fn cannot_read(&mut self, mut delivery: Delivery) {
        delivery.message.body = Bytes::new();
        // Where there is no room, it comes again.
        if self.unreadable.try_send(delivery).is_err() {
            tracing::debug!(consumer = self.consumer.name, "more that cannot be read than can be told");
        }
    }

    /// A fence that has fallen, because this process stood still or the broker did not answer, is a partition lost.
    fn notice_fall(&mut self) {
        if self.term.as_ref().is_some_and(|term| !term.lasts()) {
            self.lose();
        }
    }

    fn unpinned(&mut self) {
        self.pin = None;
        self.lose();
    }

    /// Drops what was known under this term. The pin is still named: if it is ours at the broker all the same, the next
    /// message begins another term, and if it is not, the broker says so.
    fn lose(&mut self) {
        self.post.fence.fall();
        if self.term.take().is_some() {
            tracing::info!(consumer = self.consumer.name, "partition lost");
            self.post.hand.clear();
            let _ = self.deciding.send(Told::Lost);
        }
    }

    /// Ends what is in hand if that is soon done, and lets another coordinator be pinned.
    async fn give_up(&mut self, inbox: &mut PullInbox) {
        inbox.close().await;
        if self.term.as_ref().is_some_and(Term::lasts) {
            let end = Instant::now() + EMPTIED_WITHIN;
            while self.post.hand.load().0 > 0 && Instant::now() < end && self.post.fence.stands() {
                self.post.hand.extend(&self.connection, self.pace.extended_every).await;
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            self.post.fence.fall();
            if let Err(error) = inbox.unpin(&self.consumer).await {
                tracing::debug!(consumer = self.consumer.name, %error, "pin not given back; it runs out");
            }
        }
        self.unpinned();
    }
}

#[cfg(test)]
#[path = "partition_tests.rs"]
mod tests;
