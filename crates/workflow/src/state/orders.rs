//! What a run wants done and has not been answered yet, in the order of the facts that led to it.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use super::Now;
use crate::{
    Command,
    command::{Ending, Order},
    fact::TimerName,
    program::Slot,
};

/// Where an order stands: the sequence of the fact that led to it, and its place among that fact's orders.
type Place = (u64, u32);

/// What an answer names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Ask(Slot, u64),
    Withdraw(Slot, u64),
    Timer(TimerName),
}

/// Outstanding orders. Events and cleared timers have no answer, so they stay for as long as the run lives: a log that is
/// folded anew may still have to carry them out. Their number is bounded by the steps and turns of the run.
#[derive(Debug, Default)]
pub(super) struct Orders {
    /// Boxed, because a map makes room for eleven where a run that sleeps has one.
    open: BTreeMap<Place, Box<Order>>,
    by_key: BTreeMap<Key, Place>,
    next: Place,
}

/// What became of the wish to take a request back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Withdrawn {
    /// Nobody has been asked yet, and nobody will be.
    Unasked,
    /// Its outcome comes into the log.
    Ordered,
    /// It was taken back before, or there is nothing to take back.
    Nothing,
}

impl Orders {
    pub(super) fn ask(&mut self, now: Now, slot: Slot, item: u64, order: Order) {
        self.push(now, Some(Key::Ask(slot, item)), order);
    }

    pub(super) fn set_timer(&mut self, now: Now, timer: TimerName, due: DateTime<Utc>) {
        self.push(now, Some(Key::Timer(timer.clone())), Order::SetTimer { timer, due });
    }

    pub(super) fn emit(&mut self, now: Now, order: Order) {
        self.push(now, None, order);
    }

    pub(super) fn end(&mut self, now: Now, ending: Ending) {
        // The purge of the log takes the run's own timer with it.
        self.answer(&Key::Timer(TimerName::Run));
        self.push(now, None, Order::End(ending));
    }

    /// A request was answered.
    pub(super) fn ended(&mut self, slot: Slot, item: u64) {
        self.answer(&Key::Ask(slot, item));
        self.answer(&Key::Withdraw(slot, item));
    }

    /// A timer came due.
    pub(super) fn fired(&mut self, timer: &TimerName) {
        self.answer(&Key::Timer(timer.clone()));
    }

    pub(super) fn clear_timer(&mut self, now: Now, timer: TimerName) {
        let set = self.answer(&Key::Timer(timer.clone()));
        // What this very fact led to was not carried out yet.
        if set.is_some_and(|place| place.0 != now.cause) {
            self.push(now, None, Order::ClearTimer { timer });
        }
    }

    pub(super) fn withdraw(&mut self, now: Now, slot: Slot, item: u64) -> Withdrawn {
        let Some(place) = self.by_key.get(&Key::Ask(slot, item)).copied() else { return Withdrawn::Nothing };
        if place.0 == now.cause {
            self.answer(&Key::Ask(slot, item));
            return Withdrawn::Unasked;
        }
        if self.by_key.contains_key(&Key::Withdraw(slot, item)) {
            return Withdrawn::Nothing;
        }
        let Some(Order::Ask { step, target, .. }) = self.open.get(&place).map(AsRef::as_ref) else {
            return Withdrawn::Nothing;
        };
        let order = Order::Withdraw { step: step.clone(), item, target: target.clone() };
        self.push(now, Some(Key::Withdraw(slot, item)), order);
        Withdrawn::Ordered
    }

    /// Whether any answer is waited for.
    pub(super) fn is_any_asked(&self) -> bool {
        // Requests stand before all else.
        matches!(self.by_key.first_key_value(), Some((Key::Ask(..), _)))
    }

    pub(super) fn since(&self, sequence: u64) -> Vec<Command> {
        let later = self.open.range((sequence.saturating_add(1), 0)..);
        later.map(|((cause, _), order)| Command { cause: *cause, order: order.as_ref().clone() }).collect()
    }

    fn push(&mut self, now: Now, key: Option<Key>, order: Order) {
        if self.next.0 != now.cause {
            self.next = (now.cause, 0);
        }
        let place = self.next;
        self.next.1 += 1;
        self.open.insert(place, Box::new(order));
        if let Some(key) = key {
            self.by_key.insert(key, place);
        }
    }

    fn answer(&mut self, key: &Key) -> Option<Place> {
        let place = self.by_key.remove(key)?;
        self.open.remove(&place);
        Some(place)
    }
}
