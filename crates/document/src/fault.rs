//! What is wrong with a definition, and where.

use std::{fmt, path::PathBuf};

/// One thing to put right in a definition file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The line, from 1; 0 where no place in the text is to blame.
    pub line: u64,
    /// The column, from 1; 0 where no place in the text is to blame.
    pub column: u64,
    /// The keys that lead there, with dots between them; empty for the whole document.
    pub path: String,
    /// What is wrong and what would be right.
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line > 0 {
            write!(f, "{}:{}: ", self.line, self.column)?;
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)
    }
}

/// Why a definition cannot be used. Prints one line per fault, each beginning with the file's name.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file could not be read.
    #[error("{}: cannot be read: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file was read and is wrong: every fault, in the order of the text.
    #[error("{}", lines(path, faults))]
    Faulty {
        /// The file.
        path: PathBuf,
        /// All of them, never empty.
        faults: Vec<Fault>,
    },
}

fn lines(path: &std::path::Path, faults: &[Fault]) -> String {
    let lines: Vec<String> = faults.iter().map(|fault| format!("{}:{fault}", path.display())).collect();
    lines.join("\n")
}
