//! The demonstration: a fleet of its own examines every file of a folder, loses an agent on the way, and counts.
//!
//! ```text
//!   folder --> two requests per file --> examine-file (an agent in Rust) --> report   --> table by language
//!                                    --> checksum (sha256sum)            --> checksum --> the two must agree
//!   half way: SIGKILL for an agent, and another one joins          at the end: ids against outcomes, queue, dead letters
//! ```

mod narrator;
mod proof;
mod roll;
mod survey;
mod table;

pub(crate) use narrator::Narrator;
pub(crate) use proof::Proof;
pub(crate) use roll::{Roll, Share};
pub(crate) use survey::{Answer, Survey};
pub(crate) use table::Languages;

/// What the agent of commands runs: an ordinary program for each capability.
pub(crate) const CHECKS: &str = include_str!("demo/checks.yaml");
