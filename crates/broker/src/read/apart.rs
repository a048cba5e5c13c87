//! A connection for reading alone, and what is known to break it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

use super::Page;
use crate::{
    Connection,
    error::{Error, Kind},
    task,
};

/// Places that are remembered; past that they are found again by breaking the connection.
const REMEMBERED_MAX: usize = 1_000;

/// A connection for reading alone, made when it is needed.
#[derive(Clone, Debug, Default)]
pub(super) struct Apart {
    current: Arc<Mutex<Current>>,
    /// By stream and filter, the last sequence there that is known not to be readable by direct get.
    unreadable: Arc<Mutex<BTreeMap<(String, String), u64>>>,
}

/// How it stands.
#[derive(Debug, Default)]
enum Current {
    #[default]
    None,
    Open(Connection),
    /// A task opens it, and tells how that ended.
    Opening(watch::Receiver<Option<Result<Connection, Error>>>),
}

impl Apart {
    /// The connection as it is, or another one where it has ended.
    ///
    /// Whoever waits holds nothing that another reader waits for: a future that reads may stand still for as long as its task
    /// does something else, which may be to read as well.
    pub(super) async fn connection(&self, origin: &Connection) -> Result<Connection, Error> {
        let mut opening = {
            let mut current = self.current();
            match &*current {
                Current::Open(connection) if !connection.is_closed() => return Ok(connection.clone()),
                // Its task tells before it ends, unless it panicked.
                Current::Opening(opening) if opening.has_changed().is_ok() => opening.clone(),
                _ => {
                    let opening = self.open(origin);
                    *current = Current::Opening(opening.clone());
                    opening
                }
            }
        };
        let ended = || Error::new(Kind::TimedOut, "the connection for reading was not opened");
        let opened = opening.wait_for(Option::is_some).await.map_err(|_| ended())?;
        opened.clone().unwrap_or_else(|| Err(ended()))
    }

    /// Opens another one in a task of its own, which ends when that is done or has taken too long.
    fn open(&self, origin: &Connection) -> watch::Receiver<Option<Result<Connection, Error>>> {
        let (tell, opening) = watch::channel(None);
        let (origin, current) = (origin.clone(), Arc::clone(&self.current));
        task::spawn("connection for reading", async move {
            let opened = origin.another().await.map_err(|error| match error.kind() {
                // The broker is away for a while, as where there is a connection already: nothing says that it stays away.
                Kind::Unreachable => Error::new(Kind::TimedOut, error.to_string()),
                _ => error,
            });
            *current.lock().unwrap_or_else(PoisonError::into_inner) = match &opened {
                Ok(connection) => Current::Open(connection.clone()),
                Err(_) => Current::None,
            };
            tell.send_replace(Some(opened));
        })
        .detach();
        opening
    }

    /// Leaves a connection that does not answer: the next one is another.
    pub(super) fn leave(&self, silent: &Connection) {
        let mut current = self.current();
        if matches!(&*current, Current::Open(connection) if connection.is_same(silent)) {
            *current = Current::None;
        }
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
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
