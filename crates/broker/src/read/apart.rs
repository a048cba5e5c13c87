//! What is known to break the connection for reading.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use super::Page;
use crate::{Connection, SideConnection};

/// Places that are remembered; past that they are found again by breaking the connection.
const REMEMBERED_MAX: usize = 1_000;

/// A connection for reading alone, and what breaks it.
#[derive(Clone, Debug)]
pub(super) struct Apart {
    pub(super) side: SideConnection,
    /// By stream and filter, the last sequence there that is known not to be readable by direct get.
    unreadable: Arc<Mutex<BTreeMap<(String, String), u64>>>,
}

impl Apart {
    pub(super) fn new(origin: &Connection) -> Self {
        Self { side: SideConnection::new(origin), unreadable: Arc::default() }
    }

    /// Whether what lies from here on is known to break the connection.
    pub(super) fn is_unreadable(&self, stream: &str, filter: &str, from: u64) -> bool {
        let unreadable = self.unreadable.lock().unwrap_or_else(PoisonError::into_inner);
        unreadable.get(&(stream.to_owned(), filter.to_owned())).is_some_and(|sequence| *sequence >= from)
    }

    /// Takes note of what the leader gave: where what was unreadable is gone, the next page is read as usual.
    pub(super) fn note(&self, stream: &str, filter: &str, from: u64, page: &Page) {
        let mut unreadable = self.unreadable.lock().unwrap_or_else(PoisonError::into_inner);
        let place = (stream.to_owned(), filter.to_owned());
        let known = unreadable.get(&place).copied().unwrap_or(0);
        if let Some(message) = page.messages.iter().rev().find(|message| !message.is_readable) {
            if unreadable.len() >= REMEMBERED_MAX {
                unreadable.clear();
            }
            unreadable.insert(place, known.max(message.sequence));
        } else if from <= known && page.next.is_none_or(|next| next > known) {
            unreadable.remove(&place);
        }
    }
}
