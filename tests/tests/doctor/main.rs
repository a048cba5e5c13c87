//! Faults are planted in a fleet, one a test; the doctor names each with its remedy, and what the remedy says makes the
//! finding go away. No coordinator runs where it would heal the fault by itself.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod agents;
mod broker;
mod bystander;
mod coordinator;
mod monitoring;
mod store;
mod work;
