//! Runs of workflows: their logs are read by partition, folded, and what they want done is carried out.
//!
//! ```text
//!   FLEET_RUNS ── partition (polls, extends) ──► keeper (decides)
//!                    └─ fence: is it still ours?
//! ```

mod fence;
mod hand;
mod partition;
mod share;

pub use metrics::RunMetrics;

mod metrics;
