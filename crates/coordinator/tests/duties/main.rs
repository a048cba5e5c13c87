//! What a coordinator promises, against a real nats-server.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod agents;
mod cluster;
mod crons;
mod dead_letters;
mod deadlines;
mod fleet;
mod gauges;
mod leases;
mod overdue;
mod process;
mod redrive;
mod shared;
mod triggers;
mod unserved;
mod wishes;
