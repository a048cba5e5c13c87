//! Results in the order of the input, without holding more than a bounded number of them.

use std::collections::BTreeMap;

/// How far results may run ahead of the first that is missing, in lines for each one in flight. One slow line should
/// not stop the others at once.
const AHEAD_PER_FLIGHT: u64 = 16;

/// The same in bytes.
const HELD_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Puts results back into order.
#[derive(Debug)]
pub(super) struct Order {
    ahead_max: Option<u64>,
    next: u64,
    held: BTreeMap<u64, String>,
    held_bytes: usize,
}

impl Order {
    /// The order of the input.
    pub(super) fn of_input(in_flight: usize) -> Self {
        let ahead_max = Some(in_flight as u64 * AHEAD_PER_FLIGHT);
        Self { ahead_max, next: 0, held: BTreeMap::new(), held_bytes: 0 }
    }

    /// No order.
    pub(super) fn none() -> Self {
        Self { ahead_max: None, next: 0, held: BTreeMap::new(), held_bytes: 0 }
    }

    /// Whether the line with this index may begin. The first that is missing has begun already, so this never waits for
    /// itself.
    pub(super) fn admits(&self, index: u64) -> bool {
        match self.ahead_max {
            Some(ahead_max) => {
                index == self.next || (index - self.next < ahead_max && self.held_bytes < HELD_BYTES_MAX)
            }
            None => true,
        }
    }

    /// Takes a result, and gives those whose turn it is.
    pub(super) fn take(&mut self, index: u64, text: String) -> Vec<String> {
        if self.ahead_max.is_none() {
            return vec![text];
        }
        self.held_bytes += text.len();
        self.held.insert(index, text);
        let mut ready = Vec::new();
        while let Some(text) = self.held.remove(&self.next) {
            self.held_bytes -= text.len();
            self.next += 1;
            ready.push(text);
        }
        ready
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_order() {
        let mut order = Order::of_input(1);
        assert!(order.take(2, "c".to_owned()).is_empty());
        assert!(order.take(1, "b".to_owned()).is_empty());
        assert_eq!(order.take(0, "a".to_owned()), ["a", "b", "c"]);
        assert_eq!(Order::none().take(2, "c".to_owned()), ["c"]);
    }

    #[test]
    fn what_is_held_is_bounded() {
        let mut order = Order::of_input(1);
        assert!(order.admits(15) && !order.admits(16));
        order.take(1, "x".repeat(HELD_BYTES_MAX));
        assert!(!order.admits(2) && order.admits(0));
        order.take(0, String::new());
        assert!(order.admits(2) && order.admits(17));
        assert!(Order::none().admits(u64::MAX));
    }
}
