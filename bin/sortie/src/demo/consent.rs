//! Whether the report may be written: asked on the terminal, where there is one.

use std::io::{self, IsTerminal, Write};

use agent_files::Secret;
use process::{ExitCode, Problem};
use tokio::task::JoinHandle;

/// Secrets that are named in the question.
const NAMED_MAX: usize = 10;

/// A question that is asked at most once.
#[derive(Debug)]
pub(crate) struct Consent {
    is_given: bool,
    asking: Option<JoinHandle<io::Result<bool>>>,
}

impl Consent {
    /// Given beforehand, or because there is nobody to ask.
    pub(crate) fn new(yes: bool) -> Self {
        let is_given = yes || !io::stdin().is_terminal() || !io::stderr().is_terminal();
        Self { is_given, asking: None }
    }

    /// Whether nobody is asked.
    pub(crate) fn is_given(&self) -> bool {
        self.is_given
    }

    /// Asks. The answer comes from [`Consent::answer`].
    pub(crate) fn ask(&mut self, secrets: &[Secret]) {
        let mut question = reason(secrets);
        question += "Write the report all the same? [y/N] ";
        // The thread waits for the terminal as long as it takes; the process does not wait for the thread.
        self.asking = Some(tokio::task::spawn_blocking(move || read(&question)));
    }

    /// What was answered. Never, where nothing was asked; may be dropped and called again.
    ///
    /// # Errors
    /// The terminal cannot be read.
    pub(crate) async fn answer(&mut self) -> Result<bool, Problem> {
        let Some(asking) = &mut self.asking else { return std::future::pending().await };
        let answered = asking.await;
        self.asking = None;
        let unread = |error: String| Problem::new(ExitCode::Internal, format!("the terminal cannot be read: {error}"));
        answered.map_err(|error| unread(error.to_string()))?.map_err(|error| unread(error.to_string()))
    }
}

/// Why somebody is asked.
pub(crate) fn reason(secrets: &[Secret]) -> String {
    let mut text = match secrets.len() {
        0 => "nobody could look for secrets\n".to_owned(),
        1 => "1 line looks like a secret:\n".to_owned(),
        lines => format!("{lines} lines look like secrets:\n"),
    };
    for Secret { file, line, looks_like } in secrets.iter().take(NAMED_MAX) {
        text += &format!("  {file}:{line}: {looks_like}\n");
    }
    match secrets.len().saturating_sub(NAMED_MAX) {
        0 => text,
        more => text + &format!("  and {more} more\n"),
    }
}

fn read(question: &str) -> io::Result<bool> {
    let mut terminal = io::stderr();
    terminal.write_all(question.as_bytes())?;
    terminal.flush()?;
    let mut line = String::new();
    io::stdin().read_line(&mut line)?;
    Ok(is_yes(&line))
}

fn is_yes(line: &str) -> bool {
    matches!(line.trim().to_lowercase().as_str(), "y" | "yes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_yes_is_yes() {
        for (line, expected) in [("y\n", true), ("Yes\r\n", true), ("\n", false), ("", false), ("no\n", false)] {
            assert_eq!(is_yes(line), expected, "{line:?}");
        }
    }

    #[test]
    fn the_reason_names_some_and_counts_the_rest() {
        let secret = Secret { file: "a.env".into(), line: 7, looks_like: "password".into() };
        assert_eq!(reason(std::slice::from_ref(&secret)), "1 line looks like a secret:\n  a.env:7: password\n");
        let many = reason(&vec![secret; NAMED_MAX + 2]);
        assert!(many.starts_with("12 lines look like secrets:\n") && many.ends_with("  and 2 more\n"), "{many}");
    }
}
