//! Examines a live fleet and its broker: the traps that are known, each looked for on what is there now, with what was
//! seen and the remedy.
//!
//! It is no monitor: it looks once and remembers nothing. It steers nothing: the one thing that it writes is a key that
//! lives a second, to learn whether the store takes anything. What it finds is a table of checks ([`CHECKS`]), a function
//! each; they run at the same time, each with a time-out of its own, and one that cannot be done says why.
//!
//! ```text
//!   Patient: streams, consumers, queues, agents ...   asked once, shared
//!      ^  ^  ^
//!   check check check ...  --> Finding { severity, seen, remedy, command } --> Report
//! ```
//!
//! ```no_run
//! # async fn example(client: client::Client) {
//! use sortie_doctor::{Patient, examine};
//!
//! let report = examine(&Patient::new(client)).await;
//! for finding in &report.findings {
//!     println!("{:?} {}: {}", finding.severity, finding.check, finding.seen);
//! }
//! # }
//! ```

mod checks;
mod examine;
mod finding;
mod letters;
mod monitor;
mod patient;
mod queue;

pub use checks::{CHECKS, Check};
pub use examine::{examine, examine_some, refused};
pub use finding::{Counts, Finding, Report, Severity};
pub use letters::latest_letters;
pub use monitor::Monitor;
pub use patient::{Patient, Unknown};
