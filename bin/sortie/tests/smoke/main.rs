//! The command line as a user runs it, each test against a server of its own.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod bench;
mod command;
mod config;
mod cron;
mod demo;
mod lists;
mod running;
mod topology;
mod trigger;
mod up;
mod workflow;
