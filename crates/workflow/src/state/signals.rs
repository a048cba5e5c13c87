//! Signals that came before anybody waited for them, by name and in order.

use std::collections::{BTreeMap, VecDeque};

use protocol::StepName;

use crate::{Payload, plan::StepIndex};

/// Signals that a run keeps while nobody waits for them; what comes beyond is passed over.
pub(super) const SIGNALS_MAX: usize = 1_000;

/// Signals without a step, and steps without a signal. A name never has both.
#[derive(Debug, Default)]
pub(super) struct Signals {
    kept: BTreeMap<StepName, VecDeque<Payload>>,
    kept_count: usize,
    /// In the order of their beginning. Who gave up waiting is passed over when a signal comes.
    waiting: BTreeMap<StepName, VecDeque<StepIndex>>,
}

impl Signals {
    /// Keeps a signal. False when there are too many.
    pub(super) fn keep(&mut self, name: &StepName, value: &Payload) -> bool {
        if self.kept_count >= SIGNALS_MAX {
            return false;
        }
        self.kept.entry(name.clone()).or_default().push_back(value.clone());
        self.kept_count += 1;
        true
    }

    /// The first kept signal of a name.
    pub(super) fn take(&mut self, name: &StepName) -> Option<Payload> {
        let value = self.kept.get_mut(name)?.pop_front()?;
        self.kept_count -= 1;
        Some(value)
    }

    pub(super) fn wait(&mut self, name: &StepName, step: StepIndex) {
        self.waiting.entry(name.clone()).or_default().push_back(step);
    }

    /// The next of those that began to wait for a name.
    pub(super) fn next_waiting(&mut self, name: &StepName) -> Option<StepIndex> {
        self.waiting.get_mut(name)?.pop_front()
    }

    pub(super) fn kept_count(&self) -> usize {
        self.kept_count
    }
}
