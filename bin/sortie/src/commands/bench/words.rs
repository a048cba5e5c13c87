//! What can be measured, as it stands on the command line.

use std::{path::PathBuf, time::Duration};

use bench::{
    Workload,
    workload::{Backlog, Fanout, OneByOne, Open, Requests, Runs, Sleepers, Timers},
};
use clap::Subcommand;
use protocol::duration;

use super::How;

/// A workload.
#[derive(Debug, Subcommand)]
pub(super) enum Words {
    /// Many requests, many at once, and the outcome of each
    Requests {
        /// How many
        #[arg(long, value_name = "N", default_value_t = 20_000)]
        number: usize,
        /// The size of an input, in bytes
        #[arg(long, value_name = "N", default_value_t = 256)]
        bytes: usize,
        /// How many at once
        #[arg(long, value_name = "N", default_value_t = 256)]
        in_flight: usize,
        /// Attempts at once in the agent
        #[arg(long, value_name = "N", default_value_t = 256)]
        slots: usize,
        /// Capabilities that the agent serves, asked in turn
        #[arg(long, value_name = "N", default_value_t = 1)]
        capabilities: usize,
        /// How long the handler sleeps
        #[arg(long, value_name = "10ms", value_parser = duration::parse, default_value = "0s")]
        nap: Duration,
        #[command(flatten)]
        how: How,
    },
    /// One request at a time, from submit to outcome
    Latency {
        /// How many
        #[arg(long, value_name = "N", default_value_t = 2_000)]
        number: usize,
        /// The size of an input, in bytes
        #[arg(long, value_name = "N", default_value_t = 256)]
        bytes: usize,
        #[command(flatten)]
        how: How,
    },
    /// Requests at a fixed rate; latency from the moment when each was due, so that no stall is hidden
    Open {
        /// Requests a second
        #[arg(long, value_name = "N", default_value_t = 1_000.0, value_parser = parse_rate)]
        rate: f64,
        /// For how long
        #[arg(long = "for", value_name = "10s", value_parser = duration::parse, default_value = "10s")]
        lasting: Duration,
        /// The size of an input, in bytes
        #[arg(long, value_name = "N", default_value_t = 256)]
        bytes: usize,
        #[command(flatten)]
        how: How,
    },
    /// Runs of steps one after the other, from start to outcome
    Runs {
        /// How many
        #[arg(long, value_name = "N", default_value_t = 1_000)]
        number: usize,
        /// Steps of each
        #[arg(long, value_name = "N", default_value_t = 3)]
        steps: usize,
        /// How many at once
        #[arg(long, value_name = "N", default_value_t = 100)]
        in_flight: usize,
        /// The size of an input, in bytes
        #[arg(long, value_name = "N", default_value_t = 256)]
        bytes: usize,
        #[command(flatten)]
        how: How,
    },
    /// One run at a time of one step over many items, until all is gathered
    Fanout {
        /// How many runs
        #[arg(long, value_name = "N", default_value_t = 20)]
        number: usize,
        /// Items of each
        #[arg(long, value_name = "N", default_value_t = 200)]
        items: usize,
        /// The size of an item, in bytes
        #[arg(long, value_name = "N", default_value_t = 64)]
        bytes: usize,
        #[command(flatten)]
        how: How,
    },
    /// Many requests queued before any agent is there; held against the fleet with an empty queue
    Backlog {
        /// How many
        #[arg(long, value_name = "N", default_value_t = 100_000)]
        number: usize,
        /// The size of an input, in bytes
        #[arg(long, value_name = "N", default_value_t = 256)]
        bytes: usize,
        #[command(flatten)]
        how: How,
    },
    /// Delayed requests that are all due at one moment
    Timers {
        /// How many
        #[arg(long, value_name = "N", default_value_t = 10_000)]
        number: usize,
        /// The size of an input, in bytes
        #[arg(long, value_name = "N", default_value_t = 64)]
        bytes: usize,
        #[command(flatten)]
        how: How,
    },
    /// Runs that sleep until one moment: what each costs the coordinator, and how fast they end
    Sleepers {
        /// How many
        #[arg(long, value_name = "N", default_value_t = 10_000)]
        number: usize,
        #[command(flatten)]
        how: How,
    },
    /// What changed from one report to another; exits 1 if anything is worse by more than a tenth
    Compare {
        /// A report that --json or --out wrote
        before: PathBuf,
        /// A later one of the same workload
        after: PathBuf,
    },
}

/// What the words ask for.
pub(super) enum Asked {
    /// To measure, and how.
    Measure(Workload, How),
    /// To hold two reports against each other.
    Compare { before: PathBuf, after: PathBuf },
}

impl Words {
    /// How it is measured; none where nothing is.
    pub(super) fn how(&self) -> Option<&How> {
        match self {
            Self::Requests { how, .. }
            | Self::Latency { how, .. }
            | Self::Open { how, .. }
            | Self::Runs { how, .. }
            | Self::Fanout { how, .. }
            | Self::Backlog { how, .. }
            | Self::Timers { how, .. }
            | Self::Sleepers { how, .. } => Some(how),
            Self::Compare { .. } => None,
        }
    }

    /// What they ask for.
    pub(super) fn asked(self) -> Asked {
        let (workload, how) = match self {
            Self::Requests { number, bytes, in_flight, slots, capabilities, nap, how } => {
                (Workload::Requests(Requests { number, bytes, in_flight, slots, capabilities, nap }), how)
            }
            Self::Latency { number, bytes, how } => (Workload::Latency(OneByOne { number, bytes }), how),
            Self::Open { rate, lasting, bytes, how } => (Workload::Open(Open { rate, lasting, bytes }), how),
            Self::Runs { number, steps, in_flight, bytes, how } => {
                (Workload::Runs(Runs { number, steps, in_flight, bytes }), how)
            }
            Self::Fanout { number, items, bytes, how } => (Workload::Fanout(Fanout { number, items, bytes }), how),
            Self::Backlog { number, bytes, how } => (Workload::Backlog(Backlog { number, bytes }), how),
            Self::Timers { number, bytes, how } => (Workload::Timers(Timers { number, bytes }), how),
            Self::Sleepers { number, how } => (Workload::Sleepers(Sleepers { number }), how),
            Self::Compare { before, after } => return Asked::Compare { before, after },
        };
        Asked::Measure(workload, how)
    }
}

fn parse_rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| "a number of requests a second, such as 1000".to_owned())?;
    (rate.is_finite() && (0.1..=1_000_000.0).contains(&rate)).then_some(rate).ok_or("0.1 to 1,000,000".to_owned())
}
