//! A connection for reading alone, and what is known to break it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::Mutex as AsyncMutex;

use super::Page;
use crate::{
    Connection,
    error::{Error, Kind},
};

/// Places that are remembered; past that they are found again by breaking the connection.
const REMEMBERED_MAX: usize = 1_000;

/// A connection for reading alone, made when it is needed.
#[derive(Clone, Debug, Default)]
pub(super) struct Apart {
    current: Arc<AsyncMutex<Option<Connection>>>,
    /// By stream and filter, the last sequence there that is known not to be readable by direct get.
    unreadable: Arc<Mutex<BTreeMap<(String, String), u64>>>,
}

impl Apart {
    /// The connection as it is, or another one where it has ended.
    pub(super) async fn connection(&self, origin: &Connection) -> Result<Connection, Error> {
        let mut current = self.current.lock().await;
        if let Some(connection) = current.as_ref().filter(|connection| !connection.is_closed()) {
            return Ok(connection.clone());
        }
        let connection = origin.another().await.map_err(|error| match error.kind() {
            // The broker is away for a while, as where there is a connection already: nothing says that it stays away.
            Kind::Unreachable => Error::new(Kind::TimedOut, error.to_string()),
            _ => error,
        })?;
        *current = Some(connection.clone());
        Ok(connection)
    }

    /// Leaves a connection that does not answer: the next one is another.
    pub(super) async fn leave(&self, silent: &Connection) {
        let mut current = self.current.lock().await;
        current.take_if(|connection| connection.is_same(silent));
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
