//! The proof that nothing which was accepted is lost.
//!
//! Each id of a file of acknowledgements is looked for where a request can be: its outcome, its dead letter, its schedule, the
//! queue, its run's log. Found in one of them it is not lost, whichever replica said so. Not found it is a *suspect*, because
//! the looks are not one look, and a request moves while they are made. Suspects are settled by two facts:
//!
//! - Whatever a request is in the stream of requests (work, a retry's schedule, work again), each move stores it at a higher
//!   sequence before it leaves the lower one. So who reads that stream upwards, until the leader says that nothing comes
//!   above what was read, has met every request that was in it all the time, however often it moved: it cannot get behind
//!   the reader. What a replica that is behind leaves out is above what it has.
//! - A request leaves that stream only when its run's first fact or its outcome is stored, and a run's log goes only when
//!   its outcome is stored. So who was not met is looked for there, in this order, at the leaders, after that reading: now it
//!   must be there.
//!
//! That is done twice, a moment apart, before anything is called lost. What was accepted longer ago than outcomes are kept may
//! have had one: that is told as too old.
//!
//! ```text
//!   file --10,000 lines--> Places: outcome, letter, schedule, own sequence, run     most are found here
//!                             | not found: suspects, up to 100,000
//!                             v
//!                          Sweep: the stream upwards --> leaders: run, outcome, letter --> lost
//! ```

mod drops;
mod lines;
mod nowhere;
mod places;
mod prover;
mod sweep;
mod twice;
mod upwards;

use std::path::Path;

use protocol::{RequestId, accepted::Accepted};
use serde::Serialize;

pub use self::nowhere::WANTED_MAX;
use self::{lines::Lines, prover::Prover};
use crate::{Client, Error};

/// What was proved of a file of acknowledgements, and what was not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Proof {
    /// Lines that were read.
    pub accepted: u64,
    /// Of them, those that name an id once more soon after it was named.
    pub again: u64,
    /// Lines that end too early: whoever wrote them was killed meanwhile, and what they would say is not known.
    pub torn: u64,
    /// Where they are.
    pub found: Tally,
    /// What was not proved.
    pub faults: Faults,
}

/// How many requests are where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Done.
    pub completed: u64,
    /// Failed, where that leaves no dead letter: runs.
    pub failed: u64,
    /// Their deadline had passed.
    pub expired: u64,
    /// Cancelled.
    pub cancelled: u64,
    /// Given up, with a dead letter.
    pub dead: u64,
    /// Given up, with a dead letter that somebody dropped since, as the audit trail says.
    pub dropped: u64,
    /// Waiting for their time: a delay or a retry.
    pub scheduled: u64,
    /// In a queue, delivered to nobody yet.
    pub waiting: u64,
    /// In a queue, and delivered: in the hands of an agent, or of one that has died, until somebody else is given it.
    pub running: u64,
    /// Runs that have begun.
    pub runs: u64,
    /// Accepted longer ago than outcomes are kept, and nowhere now.
    pub too_old: u64,
}

/// How many faults there are of each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Faults {
    /// Nowhere.
    pub lost: u64,
    /// With more than one outcome, also of requests that are not in the file.
    pub twice: u64,
    /// Given up without a dead letter.
    pub unburied: u64,
    /// Not met, while more was stored than could be read.
    pub undecided: u64,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "fault", rename_all = "snake_case")]
pub enum Fault {
    /// It is nowhere.
    Lost {
        /// As it was accepted.
        #[serde(flatten)]
        accepted: Accepted,
    },
    /// It has more than one outcome.
    Twice {
        /// The request.
        id: RequestId,
        /// Outcomes that are stored.
        outcomes: u64,
    },
    /// It was given up: its outcome says so, and there is no dead letter of it.
    Unburied {
        /// As it was accepted.
        #[serde(flatten)]
        accepted: Accepted,
    },
    /// More was stored meanwhile than could be read, so that nothing can be said of it: look again.
    Undecided {
        /// As it was accepted.
        #[serde(flatten)]
        accepted: Accepted,
    },
}

/// What is told while it is worked on.
#[derive(Debug)]
pub enum Sight<'a> {
    /// So many lines are read, and what was found of them but for so many suspects.
    Looked {
        /// Lines.
        lines: u64,
        /// Suspects.
        suspects: usize,
    },
    /// The stream of requests is read for suspects: up to this sequence, of this one.
    Swept {
        /// How far it is read.
        through: u64,
        /// How far it goes.
        last: u64,
    },
    /// A fault. Each is told once, and held by nobody.
    Fault(&'a Fault),
}

impl Proof {
    /// Whether everything that can be told is proved.
    pub fn holds(&self) -> bool {
        self.faults == Faults::default()
    }
}

impl Client {
    /// Proves of every line of a file of acknowledgements, see [`AcceptedFile`](crate::AcceptedFile), that its request has
    /// exactly one outcome, or waits, runs, is scheduled or dead; and tells where not. The file may grow meanwhile: it is
    /// read up to where it ends when that is reached. Memory is bounded, however many lines there are.
    ///
    /// # Errors
    /// `Invalid` where the file cannot be read, or is something else; `StreamsMissing`, and what reading says: then nothing is
    /// proved.
    pub async fn prove(&self, file: &Path, watch: &mut (dyn FnMut(Sight<'_>) + Send)) -> Result<Proof, Error> {
        let mut lines = Lines::open(file)?;
        let mut prover = Prover::new(self, watch).await?;
        let mut suspects = Vec::new();
        loop {
            let some = lines.next_many()?;
            if some.is_empty() {
                break;
            }
            prover.look(some, &mut suspects).await?;
            if suspects.len() >= sweep::SUSPECTS_MAX {
                prover.settle(std::mem::take(&mut suspects)).await?;
            }
        }
        prover.settle(suspects).await?;
        prover.repeated_outcomes().await?;
        Ok(Proof { accepted: lines.read(), torn: lines.torn(), ..prover.into_proof() })
    }
}
