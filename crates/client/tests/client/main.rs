//! The client against a real broker. Workers are played by raw publishes.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod cancel;
mod cluster;
mod dead;
mod fleet;
mod lookups;
mod objects;
mod permissions;
mod queues;
mod submit;
mod wait;
