//! What handlers of one test did, in order.

use std::sync::{Arc, Mutex, PoisonError};

/// Lines that handlers write and a test reads. Clones are the same journal.
#[derive(Clone, Debug, Default)]
pub struct Journal(Arc<Mutex<Vec<String>>>);

impl Journal {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Writes a line, and says how many there are now.
    pub fn note(&self, line: impl Into<String>) -> usize {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.push(line.into());
        lines.len()
    }

    /// Every line, in order.
    pub fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many lines there are.
    pub fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many lines say this.
    pub fn count(&self, line: &str) -> usize {
        self.lines().iter().filter(|one| *one == line).count()
    }
}
