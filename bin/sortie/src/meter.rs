//! How far a long command is, on standard error, for whoever sits before it.

use std::{
    io::{self, IsTerminal},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};

/// How often it is drawn anew while nothing happens.
const TICK: Duration = Duration::from_millis(200);

/// A bar where standard error is a terminal, and nothing elsewhere. It is gone when this is dropped.
#[derive(Debug)]
pub(crate) struct Meter {
    bar: ProgressBar,
}

impl Meter {
    /// Of so many; none where nobody knows how many there are.
    pub(crate) fn new(what: &str, all: Option<usize>) -> Self {
        let bar = match all {
            _ if !io::stderr().is_terminal() => ProgressBar::hidden(),
            Some(all) => ProgressBar::new(all as u64),
            None => ProgressBar::new_spinner(),
        };
        let template = match all {
            Some(_) => "{prefix} {bar:30} {pos}/{len}  {msg}",
            None => "{prefix} {spinner} {pos}  {msg}",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_prefix(what.to_owned());
        bar.enable_steady_tick(TICK);
        Self { bar }
    }

    /// So many are done, and what there is to say of them.
    pub(crate) fn at(&self, done: usize, message: impl Into<String>) {
        self.bar.set_position(done as u64);
        self.bar.set_message(message.into());
    }

    /// What there is to say meanwhile.
    pub(crate) fn tell(&self, message: impl Into<String>) {
        self.bar.set_message(message.into());
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
