//! A file per command: its arguments, and what it does with a [`Session`](crate::session::Session).

pub(crate) mod agents;
pub(crate) mod breaker;
pub(crate) mod cancel;
pub(crate) mod check;
pub(crate) mod completions;
pub(crate) mod config;
pub(crate) mod cron;
pub(crate) mod dead;
pub(crate) mod demo;
pub(crate) mod doctor;
pub(crate) mod later;
pub(crate) mod logs;
pub(crate) mod man;
pub(crate) mod map;
pub(crate) mod outcome;
pub(crate) mod pairs;
pub(crate) mod process;
pub(crate) mod queues;
pub(crate) mod submit;
pub(crate) mod top;
pub(crate) mod topology;
pub(crate) mod trigger;
pub(crate) mod up;
pub(crate) mod watch;
pub(crate) mod why;
pub(crate) mod workflow;
