//! How far it is, on standard error, for whoever sits before it.

use std::{
    io::{self, IsTerminal},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};
use process::ExitCode;

use super::ask::End;

/// How often it is drawn anew while nothing happens.
const TICK: Duration = Duration::from_millis(200);

/// Counts ends, and shows them where standard error is a terminal.
#[derive(Debug)]
pub(super) struct Meter {
    bar: ProgressBar,
    shares_terminal: bool,
    done: u64,
    failed: u64,
    pending: u64,
}

impl Meter {
    pub(super) fn new() -> Self {
        let bar = if io::stderr().is_terminal() { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
        if let Ok(style) = ProgressStyle::with_template("{spinner} {pos} lines in {elapsed}, {per_sec}  {msg}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(TICK);
        Self { bar, shares_terminal: io::stdout().is_terminal(), done: 0, failed: 0, pending: 0 }
    }

    pub(super) fn count(&mut self, end: End, in_flight: usize) {
        match end {
            End::Done => self.done += 1,
            End::Failed => self.failed += 1,
            End::Pending => self.pending += 1,
        }
        self.bar.inc(1);
        self.bar.set_message(format!("{} failed, {in_flight} in flight", self.failed));
    }

    /// Lines that have an end.
    pub(super) fn ended(&self) -> u64 {
        self.done + self.failed + self.pending
    }

    /// Prints without being in each other's way on one terminal.
    pub(super) fn beside<T>(&self, print: impl FnOnce() -> T) -> T {
        // To step aside is to draw anew, which for every line costs more than the line.
        if self.shares_terminal { self.bar.suspend(print) } else { print() }
    }

    /// Says what was not well, and what it all comes to.
    pub(super) fn finish(self) -> ExitCode {
        self.bar.finish_and_clear();
        let all = self.ended();
        if self.failed > 0 {
            eprintln!("{} of {all} lines failed", self.failed);
        }
        if self.pending > 0 {
            eprintln!("{} of {all} lines have no outcome yet", self.pending);
        }
        match (self.failed, self.pending) {
            (0, 0) => ExitCode::Done,
            (0, _) => ExitCode::Again,
            _ => ExitCode::WorkFailed,
        }
    }
}
