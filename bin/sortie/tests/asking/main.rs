//! `sortie submit`, `map`, `watch`, `outcome` and `cancel` as a user runs them, each test against a server of its own and
//! a stand-in for an agent.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

#[path = "../smoke/command.rs"]
mod command;
mod fleet;
mod map;
mod queues;
mod submit;
mod watch;
