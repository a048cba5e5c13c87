//! What is told on the way: sentences and a bar on standard error, where results are not.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// Tells people what happens; nothing where they asked for one document.
#[derive(Debug)]
pub(crate) struct Narrator {
    bar: ProgressBar,
    is_quiet: bool,
}

impl Narrator {
    pub(crate) fn new(is_quiet: bool) -> Self {
        Self { bar: ProgressBar::hidden(), is_quiet }
    }

    /// A sentence, above the bar if there is one.
    pub(crate) fn tell(&self, sentence: &str) {
        if !self.is_quiet {
            self.bar.suspend(|| eprintln!("{sentence}"));
        }
    }

    /// Begins a bar; on a terminal only.
    pub(crate) fn begin(&mut self, total: u64) {
        if self.is_quiet {
            return;
        }
        let style = ProgressStyle::with_template("{bar:40} {human_pos}/{human_len} outcomes  {elapsed}  {msg}");
        self.bar = ProgressBar::new(total).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        self.bar.enable_steady_tick(Duration::from_millis(200));
    }

    /// How far it is, and what to know about it.
    pub(crate) fn advance(&self, done: u64, message: &str) {
        self.bar.set_position(done);
        if self.bar.message() != message {
            self.bar.set_message(message.to_owned());
        }
    }

    /// Takes the bar away.
    pub(crate) fn end(&self) {
        self.bar.finish_and_clear();
    }
}
