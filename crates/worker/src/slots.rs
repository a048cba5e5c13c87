//! Slots: how many attempts run at once, in all and per capability, and how many ends are not yet stored.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::Notify;

/// Ended attempts whose outcome is not yet acknowledged. They hold no slot, so that a slow disk does not idle the
/// handlers; past this bound nothing more is pulled.
const UNSETTLED_MAX: usize = 1_000;

/// The slots of a worker.
#[derive(Debug)]
pub(crate) struct Slots {
    total: AtomicUsize,
    /// Those of capabilities that have one of their own.
    caps: Vec<Option<usize>>,
    busy: AtomicUsize,
    busy_per_capability: Vec<AtomicUsize>,
    unsettled: AtomicUsize,
    stuck_per_capability: Vec<AtomicUsize>,
    freed: Notify,
}

/// One slot, given back when this is dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    slots: Arc<Slots>,
    capability: usize,
    is_running: bool,
    is_stuck: bool,
}

impl Slots {
    pub(crate) fn new(total: usize, caps: Vec<Option<usize>>) -> Arc<Self> {
        Arc::new(Self {
            total: AtomicUsize::new(total),
            busy_per_capability: caps.iter().map(|_| AtomicUsize::new(0)).collect(),
            stuck_per_capability: caps.iter().map(|_| AtomicUsize::new(0)).collect(),
            caps,
            busy: AtomicUsize::new(0),
            unsettled: AtomicUsize::new(0),
            freed: Notify::new(),
        })
    }

    /// Takes one whether or not one is free: a message that is here needs to be somewhere.
    pub(crate) fn take(self: &Arc<Self>, capability: usize) -> Slot {
        self.busy.fetch_add(1, Ordering::AcqRel);
        self.busy_per_capability[capability].fetch_add(1, Ordering::AcqRel);
        Slot { slots: Arc::clone(self), capability, is_running: true, is_stuck: false }
    }

    /// How many are free, in all.
    pub(crate) fn free(&self) -> usize {
        let by_running = self.total().saturating_sub(self.busy());
        by_running.min(UNSETTLED_MAX.saturating_sub(self.unsettled.load(Ordering::Acquire)))
    }

    /// How many a capability may still take of its own cap.
    pub(crate) fn free_of(&self, capability: usize) -> usize {
        self.cap(capability).saturating_sub(self.busy_per_capability[capability].load(Ordering::Acquire))
    }

    fn cap(&self, capability: usize) -> usize {
        let total = self.total();
        self.caps[capability].map_or(total, |cap| cap.min(total))
    }

    /// How many are taken.
    pub(crate) fn busy(&self) -> usize {
        self.busy.load(Ordering::Acquire)
    }

    /// How many there are.
    pub(crate) fn total(&self) -> usize {
        self.total.load(Ordering::Acquire)
    }

    /// Has another number of them from now on, and gives the one before. With fewer than are taken nothing is stopped:
    /// none is free until enough attempts have ended.
    pub(crate) fn resize(&self, total: usize) -> usize {
        let before = self.total.swap(total, Ordering::AcqRel);
        self.freed.notify_one();
        before
    }

    /// How many are held by a handler that ignores its end.
    pub(crate) fn stuck(&self) -> usize {
        self.stuck_per_capability.iter().map(|stuck| stuck.load(Ordering::Acquire)).sum()
    }

    /// Whether every slot is held by a handler that ignores its end: all there are, or all that any capability may take.
    /// What still runs, because there were more slots when it began, ends first.
    pub(crate) fn all_stuck(&self) -> bool {
        let is_held =
            |capability: usize| self.stuck_per_capability[capability].load(Ordering::Acquire) >= self.cap(capability);
        let stuck = self.stuck();
        stuck == self.busy() && (stuck >= self.total() || (0..self.caps.len()).all(is_held))
    }

    /// Whether nothing runs and nothing is left to be stored.
    pub(crate) fn is_idle(&self) -> bool {
        self.busy() == self.stuck() && self.unsettled.load(Ordering::Acquire) == 0
    }

    /// Ready when one may have become free since it was last ready.
    pub(crate) async fn freed(&self) {
        self.freed.notified().await;
    }
}

impl Slot {
    /// The handler has ended; what is left is to store its end.
    pub(crate) fn handler_ended(&mut self) {
        if self.is_running {
            self.is_running = false;
            self.slots.unsettled.fetch_add(1, Ordering::AcqRel);
            self.slots.release(self.capability);
        }
    }

    /// The handler ignores its end: the slot stays taken until it does end. Gives what gives it back then.
    pub(crate) fn stuck(&mut self) -> Slot {
        self.slots.stuck_per_capability[self.capability].fetch_add(1, Ordering::AcqRel);
        self.is_running = false;
        self.slots.unsettled.fetch_add(1, Ordering::AcqRel);
        Slot { slots: Arc::clone(&self.slots), capability: self.capability, is_running: true, is_stuck: true }
    }
}

impl Slots {
    fn release(&self, capability: usize) {
        self.busy_per_capability[capability].fetch_sub(1, Ordering::AcqRel);
        self.busy.fetch_sub(1, Ordering::AcqRel);
        self.freed.notify_one();
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if self.is_stuck {
            self.slots.stuck_per_capability[self.capability].fetch_sub(1, Ordering::AcqRel);
        }
        if self.is_running {
            self.slots.release(self.capability);
        } else {
            self.slots.unsettled.fetch_sub(1, Ordering::AcqRel);
            self.slots.freed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_free_when_its_handler_has_ended() {
        let slots = Slots::new(2, vec![None, Some(1)]);
        let mut first = slots.take(1);
        assert_eq!((slots.free(), slots.free_of(0), slots.free_of(1)), (1, 2, 0));
        first.handler_ended();
        assert_eq!((slots.free(), slots.free_of(1), slots.is_idle()), (2, 1, false));
        drop(first);
        assert!(slots.is_idle());
    }

    #[test]
    fn fewer_slots_than_are_taken_are_free_when_enough_have_ended() {
        let slots = Slots::new(3, vec![None, Some(2)]);
        let mut taken = vec![slots.take(0), slots.take(0), slots.take(1)];
        assert_eq!((slots.resize(1), slots.total(), slots.busy()), (3, 1, 3));
        assert_eq!((slots.free(), slots.free_of(0), slots.free_of(1)), (0, 0, 0));
        taken.truncate(1);
        assert_eq!((slots.free(), slots.free_of(0)), (0, 0));
        taken.clear();
        assert_eq!((slots.free(), slots.free_of(0), slots.free_of(1)), (1, 1, 1));
        assert_eq!((slots.resize(10), slots.free(), slots.free_of(1)), (1, 10, 2));
    }

    #[test]
    fn slots_that_became_fewer_are_not_all_stuck_while_one_runs() {
        let slots = Slots::new(3, vec![None]);
        let (running, _held) = (slots.take(0), slots.take(0).stuck());
        slots.resize(1);
        assert!(!slots.all_stuck());
        drop(running);
        assert!(slots.all_stuck());
    }

    #[test]
    fn a_stuck_handler_keeps_its_slot() {
        let slots = Slots::new(1, vec![None]);
        let mut slot = slots.take(0);
        let held = slot.stuck();
        drop(slot);
        assert_eq!((slots.free(), slots.all_stuck(), slots.is_idle()), (0, true, true));
        drop(held);
        assert_eq!((slots.free(), slots.all_stuck()), (1, false));
    }

    #[test]
    fn a_capability_whose_own_slots_are_held_is_stuck_unless_another_can_run() {
        let slots = Slots::new(10, vec![Some(1), Some(2)]);
        let held = slots.take(0).stuck();
        assert!(!slots.all_stuck());
        let others = [slots.take(1).stuck(), slots.take(1).stuck()];
        assert!(slots.all_stuck());
        drop(others);
        assert!(!slots.all_stuck());
        drop(held);
        assert!(slots.is_idle());
    }
}
