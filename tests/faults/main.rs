//! Faults under load: each trial hurts a fleet for a while, lets it come to rest, and asks `sortie audit` whether anything that
//! was accepted is lost, there twice, or stuck. `tests/FAULTS.md` says what each does and how to read the report.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod aftermath;
mod clocks;
mod crew;
mod disk;
mod duplicates;
mod files;
mod fire;
mod flags;
mod frozen;
mod kills;
mod limits;
mod load;
mod network;
mod partition;
mod power;
mod proof;
mod recovery;
mod report;
mod storm;
mod three;
mod trial;

use std::process::ExitCode;

use self::{flags::Flags, report::Report, trial::Trial};

/// Every trial: its name, which a filter may name, and what it does. They run in this order, one after the other.
const TRIALS: [(&str, trial::Run); 19] = [
    ("kills", |trial| Box::pin(kills::run(trial))),
    ("frozen", |trial| Box::pin(frozen::run(trial))),
    ("network", |trial| Box::pin(network::run(trial))),
    ("duplicates", |trial| Box::pin(duplicates::run(trial))),
    ("clocks", |trial| Box::pin(clocks::run(trial))),
    ("storm", |trial| Box::pin(storm::run(trial))),
    ("limits", |trial| Box::pin(limits::run(trial))),
    ("power", |trial| Box::pin(power::durable(trial))),
    ("power-group", |trial| Box::pin(power::grouped(trial))),
    ("power-dev", |trial| Box::pin(power::dev(trial))),
    ("disk-full", |trial| Box::pin(disk::full(trial))),
    ("disk-read-only", |trial| Box::pin(disk::read_only(trial))),
    ("disk-slow", |trial| Box::pin(disk::slow(trial))),
    ("files", |trial| Box::pin(files::run(trial))),
    ("leaders", |trial| Box::pin(three::leaders(trial))),
    ("elections", |trial| Box::pin(three::elections(trial))),
    ("stopped", |trial| Box::pin(three::stopped(trial))),
    ("rolling", |trial| Box::pin(three::rolling(trial))),
    ("partition", |trial| Box::pin(partition::run(trial))),
];

fn main() -> ExitCode {
    let (flags, arguments) = match Flags::read(std::env::args(), &TRIALS.map(|(name, _)| name)) {
        Ok(read) => read,
        Err(problem) => {
            eprintln!("{problem}\n\n{}", flags::HELP);
            return ExitCode::from(2);
        }
    };
    let report = Report::new(&flags);
    let named = TRIALS.iter().filter(|(name, _)| flags.names.is_empty() || flags.names.iter().any(|one| one == name));
    let trials = named.map(|(name, run)| Trial::named(name, *run, &flags, &report)).collect();
    let ended = libtest_mimic::run(&arguments, trials);
    report.show();
    ended.exit_code()
}
