//! The demonstration: a fleet of its own audits a folder with the shipped workflow, loses an agent and its coordinator on the
//! way, and counts.
//!
//! ```text
//!   folder --> run of repo-audit --> examine-file for each file (an agent in Rust) --> report   --> table by language
//!         |                     +--> find-secrets --> approve? --> write-report                     report in Markdown
//!         +--> beside it a request for each file --> checksum (sha256sum)          --> checksum --> the two must agree
//!   on the way: SIGKILL for an agent and the coordinator, others join      at the end: ids against outcomes, queue, dead letters
//! ```

mod audit;
mod consent;
mod narrator;
mod proof;
mod roll;
mod survey;
mod table;

pub(crate) use audit::{Audit, Audited, FILES_MAX, Sight};
pub(crate) use consent::{Consent, reason};
pub(crate) use narrator::Narrator;
pub(crate) use proof::Proof;
pub(crate) use roll::{Roll, Share};
pub(crate) use survey::{Answer, Survey};
pub(crate) use table::Languages;

/// What the agent of commands runs: an ordinary program for each capability.
pub(crate) const CHECKS: &str = include_str!("demo/checks.yaml");
