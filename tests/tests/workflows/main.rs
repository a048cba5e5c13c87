//! The workflows that are shipped, run as they are with a real coordinator and real agents.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod alone;
mod audit;
mod night;
mod shop;
mod site;
mod waits;
