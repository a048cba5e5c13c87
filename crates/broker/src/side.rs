//! A connection beside the one for everything else, for what may break it: reading and pulling what others wrote.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::{
    Connection,
    error::{Error, Kind},
    task,
};

/// Another connection to the same broker, made when it is needed, and again when it has ended for good. Clones share it.
#[derive(Clone, Debug)]
pub struct SideConnection {
    origin: Connection,
    current: Arc<Mutex<Current>>,
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

impl SideConnection {
    /// One to where this one is.
    pub fn new(origin: &Connection) -> Self {
        Self { origin: origin.clone(), current: Arc::default() }
    }

    /// The connection beside which it is.
    pub fn origin(&self) -> &Connection {
        &self.origin
    }

    /// The connection as it is, or another one where it has ended.
    ///
    /// Whoever waits holds nothing that another one waits for: a future that reads may stand still for as long as its task
    /// does something else, which may be to read as well.
    pub(crate) async fn connection(&self) -> Result<Connection, Error> {
        let mut opening = {
            let mut current = self.current();
            match &*current {
                Current::Open(connection) if !connection.is_closed() => return Ok(connection.clone()),
                // Its task tells before it ends, unless it panicked.
                Current::Opening(opening) if opening.has_changed().is_ok() => opening.clone(),
                _ => {
                    let opening = self.open();
                    *current = Current::Opening(opening.clone());
                    opening
                }
            }
        };
        let ended = || Error::new(Kind::TimedOut, "the connection beside was not opened");
        let opened = opening.wait_for(Option::is_some).await.map_err(|_| ended())?;
        opened.clone().unwrap_or_else(|| Err(ended()))
    }

    /// Opens another one in a task of its own, which ends when that is done or has taken too long.
    fn open(&self) -> watch::Receiver<Option<Result<Connection, Error>>> {
        let (tell, opening) = watch::channel(None);
        let (origin, current) = (self.origin.clone(), Arc::clone(&self.current));
        task::spawn("side connection", async move {
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
    pub(crate) fn leave(&self, silent: &Connection) {
        let mut current = self.current();
        if matches!(&*current, Current::Open(connection) if connection.is_same(silent)) {
            *current = Current::None;
        }
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
