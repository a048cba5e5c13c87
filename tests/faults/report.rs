//! What is told in the end: a line for each round, a table, and one JSON document.

use std::{
    collections::BTreeMap,
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::{Result, ensure};
use serde::Serialize;

use crate::flags::Flags;

/// What came of one round.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Row {
    pub(crate) fault: String,
    pub(crate) seed: u64,
    /// Requests and runs that the broker acknowledged.
    pub(crate) accepted: u64,
    /// Outcomes that were ever stored, of steps and of recurring requests too.
    pub(crate) outcomes: u64,
    /// What was done to the fleet, how often, and how long it then took at most until the next outcome was stored.
    pub(crate) strikes: BTreeMap<&'static str, Strikes>,
    /// What `sortie audit --accepted` did not find.
    pub(crate) lost: u64,
    /// Acknowledged requests that a power cut took where the server does not flush them.
    pub(crate) gone: u64,
    /// Requests of which more than one outcome was ever stored, and steps of which one stands twice in a run's log.
    pub(crate) duplicated: u64,
    /// Accepted requests without an outcome, and messages still queued, when everything should have come to rest.
    pub(crate) stuck: u64,
    /// Requests that ended otherwise than they should have; not those that were set aside as poison.
    pub(crate) wrong: u64,
    /// Requests that three deaths met.
    pub(crate) poisoned: u64,
    /// Submissions that the client gave up without an acknowledgement.
    pub(crate) refused: u64,
    /// Submissions that were said again under their id, by what the client answered.
    pub(crate) said_again: BTreeMap<String, u64>,
    /// Attempts that agents began more than once, as their diary tells: duplicate deliveries that were worked on.
    pub(crate) begun_again: u64,
    /// From the end of the fire until nothing was left to do, in seconds.
    pub(crate) rest_secs: f64,
    /// What was left to do last.
    pub(crate) left_last: Vec<String>,
    /// What was left to do after 20 s, where it was.
    pub(crate) left_long: Vec<String>,
    /// The longest that a plain request took from its acceptance to its outcome, in seconds.
    pub(crate) slowest_secs: f64,
    /// Why it was not tried at all.
    pub(crate) skipped: Option<String>,
    /// What is wrong, in sentences.
    pub(crate) faults: Vec<String>,
}

/// One way of hurting a fleet.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Strikes {
    pub(crate) count: u64,
    /// In seconds, from the end of the fault.
    pub(crate) recovery_secs_max: f64,
}

impl Row {
    pub(crate) fn skipped(name: &str, seed: u64, why: &str) -> Self {
        Self { fault: name.to_owned(), seed, skipped: Some(why.to_owned()), ..Self::default() }
    }

    pub(crate) fn strike(&mut self, what: &'static str) {
        self.strikes.entry(what).or_default().count += 1;
    }

    pub(crate) fn recovery(&mut self, what: &'static str, took: Duration) {
        let longest = &mut self.strikes.entry(what).or_default().recovery_secs_max;
        *longest = longest.max(took.as_secs_f64());
    }

    /// Whether everything held.
    ///
    /// # Errors
    /// What did not.
    pub(crate) fn verdict(&self) -> Result<()> {
        ensure!(self.faults.is_empty(), "{}", self.faults.join("\n"));
        Ok(())
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(why) = &self.skipped {
            return write!(f, "{}: {why}", self.fault);
        }
        let strikes = self
            .strikes
            .iter()
            .map(|(what, told)| format!("{} {what} (next outcome within {:.2} s)", told.count, told.recovery_secs_max));
        write!(
            f,
            "{}, seed {}: {} accepted, {} lost, {} duplicated, {} stuck, {} wrong, {} poisoned, {} gone where they may, {} refused, said again {:?}, {} \
             attempts begun again; {}; at rest after {:.1} s (last: {}; after 20 s: {}), slowest plain request {:.1} s",
            self.fault,
            self.seed,
            self.accepted,
            self.lost,
            self.duplicated,
            self.stuck,
            self.wrong,
            self.poisoned,
            self.gone,
            self.refused,
            self.said_again,
            self.begun_again,
            strikes.collect::<Vec<_>>().join(", "),
            self.rest_secs,
            self.left_last.join(", "),
            self.left_long.join(", "),
            self.slowest_secs,
        )
    }
}

/// All rounds. Clones are the same report.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    rows: Arc<Mutex<Vec<Row>>>,
    out: Option<PathBuf>,
    seed: u64,
}

impl Report {
    pub(crate) fn new(flags: &Flags) -> Self {
        if !flags.is_list {
            println!("faults: --seed {}", flags.seed);
        }
        Self { rows: Arc::default(), out: flags.out.clone(), seed: flags.seed }
    }

    pub(crate) fn add(&self, row: Row) {
        self.rows.lock().unwrap().push(row);
    }

    /// Prints the table, and writes the document.
    pub(crate) fn show(&self) {
        let rows = self.rows.lock().unwrap();
        if let Some(out) = &self.out {
            let document = serde_json::json!({ "seed": self.seed, "rounds": *rows });
            if let Err(error) = std::fs::write(out, format!("{document:#}\n")) {
                eprintln!("the report cannot be written to {}: {error}", out.display());
            }
        }
        if rows.is_empty() {
            return;
        }
        println!(
            "{:<14} {:>6} {:>9} {:>8} {:>5} {:>10} {:>6} {:>6} {:>6} {:>8}  longest until the next outcome",
            "fault", "rounds", "accepted", "strikes", "lost", "duplicated", "stuck", "wrong", "gone", "slowest"
        );
        for (fault, all) in by_fault(&rows) {
            let sum = |of: fn(&Row) -> u64| all.iter().map(|row| of(row)).sum::<u64>();
            println!(
                "{:<14} {:>6} {:>9} {:>8} {:>5} {:>10} {:>6} {:>6} {:>6} {:>6.1} s  {}",
                fault,
                all.len(),
                sum(|row| row.accepted),
                sum(|row| row.strikes.values().map(|strikes| strikes.count).sum()),
                sum(|row| row.lost),
                sum(|row| row.duplicated),
                sum(|row| row.stuck),
                sum(|row| row.wrong),
                sum(|row| row.gone),
                all.iter().map(|row| row.slowest_secs).fold(0.0, f64::max),
                longest(&all),
            );
        }
    }
}

/// Rounds of each fault, in the order in which they were first tried.
fn by_fault(rows: &[Row]) -> Vec<(&str, Vec<&Row>)> {
    let mut faults: Vec<(&str, Vec<&Row>)> = Vec::new();
    for row in rows {
        match faults.iter_mut().find(|(fault, _)| *fault == row.fault) {
            Some((_, all)) => all.push(row),
            None => faults.push((&row.fault, vec![row])),
        }
    }
    faults
}

fn longest(rows: &[&Row]) -> String {
    let mut all: BTreeMap<&str, f64> = BTreeMap::new();
    for (what, strikes) in rows.iter().flat_map(|row| &row.strikes) {
        let longest = all.entry(what).or_default();
        *longest = longest.max(strikes.recovery_secs_max);
    }
    all.iter().map(|(what, secs)| format!("{what} {secs:.2} s")).collect::<Vec<_>>().join(", ")
}
