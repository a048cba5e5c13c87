//! What can be measured.

mod backlog;
mod fanout;
mod latency;
mod open;
mod requests;
mod runs;
mod sleepers;
mod timers;

pub use self::backlog::Backlog;
pub use self::fanout::Fanout;
pub use self::latency::OneByOne;
pub use self::open::Open;
pub use self::requests::Requests;
pub use self::runs::Runs;
pub use self::sleepers::Sleepers;
pub use self::timers::Timers;
pub use crate::rounds::Rounds;

use std::time::Duration;

use bytes::Bytes;
use protocol::{Capability, Status};

use crate::{
    Error, Report, Stage,
    agent::{self, Load},
};

/// How long anything that was asked for may take before the measurement is given up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// Something that can be measured.
#[derive(Clone, Debug)]
pub enum Workload {
    /// Many requests, many at once.
    Requests(Requests),
    /// One request at a time.
    Latency(OneByOne),
    /// Requests at a fixed rate.
    Open(Open),
    /// Runs of steps one after the other.
    Runs(Runs),
    /// Runs of one step over many items.
    Fanout(Fanout),
    /// Requests that were queued before anybody served them.
    Backlog(Backlog),
    /// Delayed requests that are due at one moment.
    Timers(Timers),
    /// Runs that wait.
    Sleepers(Sleepers),
}

impl Workload {
    /// Measures it.
    ///
    /// # Errors
    /// Anything that ended otherwise than it should: such a run measures nothing.
    pub async fn measure(&self, stage: &mut Stage<'_>, rounds: Rounds) -> Result<Report, Error> {
        let mut report = match self {
            Self::Requests(workload) => workload.measure(stage, rounds).await?,
            Self::Latency(workload) => workload.measure(stage, rounds).await?,
            Self::Open(workload) => workload.measure(stage, rounds).await?,
            Self::Runs(workload) => workload.measure(stage, rounds).await?,
            Self::Fanout(workload) => workload.measure(stage, rounds).await?,
            Self::Backlog(workload) => workload.measure(stage, rounds).await?,
            Self::Timers(workload) => workload.measure(stage, rounds).await?,
            Self::Sleepers(workload) => workload.measure(stage).await?,
        };
        report.taken_at = protocol::time::now();
        Ok(report)
    }
}

/// The capability of this number.
fn capability(number: usize) -> Result<Capability, Error> {
    Capability::parse(&agent::capability(number)).map_err(|error| Error::Wrong(error.to_string()))
}

/// A body for the yardstick, of the bytes that the fleet is asked with.
fn body(load: &Load) -> Bytes {
    serde_json::to_vec(load).unwrap_or_default().into()
}

fn completed(outcome: &protocol::Outcome) -> Result<(), Error> {
    match outcome.status {
        Status::Completed => Ok(()),
        status => {
            let why = outcome.failure().map(|failure| failure.message).unwrap_or_default();
            Err(Error::Wrong(format!("{} ended as {status}: {why}", outcome.id)))
        }
    }
}
