//! Runs of workflows, and the duties that nobody else has: dead letters of last resort, overdue schedules, recurring requests, deadlines and
//! the unserved, agents gone, wishes of operators.
//!
//! A coordinator keeps nothing of its own: what it knows it reads from the streams, and any number of them may run.
//! Periodic duties are done by whoever holds their lease; advisories of the broker are shared by one durable consumer. A
//! lease is no mutual exclusion, so every action is harmless when done twice. It runs no requests, and no request waits
//! for it: without a coordinator the fleet works, and only what went wrong stays where it is.
//!
//! ```text
//!   FLEET_REQUESTS, FLEET_UNIQUE ── deadlines ──────► outcome `expired`, event `unserved`
//!   FLEET_REQUESTS, advisories ──── dead letters ───► outcome `failed`, dead letter
//!   FLEET_REQUESTS (later.*) ────── overdue ────────► the schedule once more
//!   FLEET_REQUESTS (cron.*) ─────── overdue ────────► the schedule once more, and what it missed
//!   specs, schedules (cron.*) ───── crons ──────────► schedules as their specs say
//!   FLEET_REQUESTS (fire.*) ─────── fires ──────────► unique work, or event `skipped`
//!   FLEET_EVENTS, specs ─────────── triggers ───────► a run, a request, a signal
//!   registry, events `joined` ───── agents ─────────► event `gone`
//!   desired bucket ──────────────── wishes ─────────► consumers paused, resumed, limited
//!   all of them ─────────────────── gauges ─────────► metrics of the fleet as a whole
//!   FLEET_DEAD, rules ───────────── redrive ────────► a schedule of the letter's request, by rule
//!   FLEET_RUNS, outcomes ────────── strays ─────────► facts of no run removed
//!   FLEET_RUNS ──────────────────── timers ─────────► timers that the broker has lost are set again
//!                      └─ each under a lease in the locks bucket
//!
//!   FLEET_REQUESTS (start.*) ────── starts ─────────► a run's first fact
//!   FLEET_RUNS (by partition) ───── runs ───────────► requests, timers, events; at the end outcome, summary, purge
//!                      └─ starts shared by one consumer; each partition pinned to one coordinator
//! ```
//!
//! ```no_run
//! use sortie_coordinator::{Config, Coordinator};
//!
//! # async fn example() -> Result<(), broker::Error> {
//! let connection = broker::Connection::open(broker::Options::default()).await?;
//! let coordinator = Coordinator::start(&connection, Config::default(), &prometheus::Registry::new()).await?;
//! coordinator.handle().stop();
//! coordinator.stopped().await;
//! # Ok(())
//! # }
//! ```

mod config;
mod coordinator;
mod duty;
mod gauges;
mod metrics;
mod post;
mod queues;
mod recorder;
mod runs;
pub mod serve;

pub use config::Config;
pub use coordinator::{Coordinator, Handle};
pub use gauges::FleetGauges;
pub use metrics::Metrics;
pub use runs::RunMetrics;
pub use serve::serve;
