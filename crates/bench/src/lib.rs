//! Workloads that measure a fleet, each beside a yardstick: a bare loop of the client library in the same process and the
//! same run, which makes the same acknowledged publishes and acknowledgements with none of our code. What counts is the
//! ratio of the two, because machines differ and are noisy.
//!
//! ```text
//!   round 0 (warm-up), 1, 2, ...:   yardstick, then the fleet        ratio = fleet / yardstick, the median of the rounds
//!   fleet:      this process --> nats-server --> agent-bench, coordinator (processes of their own)
//!   yardstick:  this process --> nats-server --> this process (a connection for each role)
//! ```

pub mod agent;
pub mod compare;
mod error;
mod measure;
pub mod plot;
mod report;
mod resources;
mod rounds;
mod stage;
pub mod workload;
mod yardstick;

pub use self::error::Error;
pub use self::measure::{Latency, Side};
pub use self::report::{Basis, Machine, Report, Round};
pub use self::resources::Used;
pub use self::stage::{Crew, Stage};
pub use self::workload::Workload;
