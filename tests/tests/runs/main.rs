//! Runs of workflows, with real coordinators, workers and brokers.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod alive;
mod away;
mod ends;
mod fire;
mod kills;
mod large;
mod limits;
mod overdue;
mod planted;
mod purges;
mod refused;
mod serves;
mod site;
mod sleeping;
mod strange;
mod told;
mod unreadable;
