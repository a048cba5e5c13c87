//! The file that the server's words go to, and the end of it for error messages.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

/// Enough to hold the reason, few enough for an error message.
const LINES_MAX: usize = 5;

/// Of a long log only the end is read.
const BYTES_MAX: u64 = 16 * 1024;

#[derive(Debug)]
pub(crate) struct Log {
    path: PathBuf,
    /// Where the words of the present start begin.
    begin: u64,
}

impl Log {
    /// Opens the file for another start; what stands in it stays.
    pub(crate) fn open(path: &Path) -> io::Result<(Self, File)> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let begin = file.metadata()?.len();
        Ok((Self { path: path.to_owned(), begin }, file))
    }

    /// The last lines since the start, without their time, in one line.
    pub(crate) fn tail(&self) -> String {
        let text = self.read().unwrap_or_else(|error| format!("(its log cannot be read: {error})"));
        let lines: Vec<_> = text.lines().map(without_time).filter(|line| !line.is_empty()).collect();
        lines[lines.len().saturating_sub(LINES_MAX)..].join("; ")
    }

    fn read(&self) -> io::Result<String> {
        let mut file = File::open(&self.path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(self.begin.max(length.saturating_sub(BYTES_MAX))))?;
        let mut bytes = Vec::new();
        file.take(BYTES_MAX).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// `[7865] 2026/11/20 07:25:52.498745 [INF] Server is ready` becomes `[INF] Server is ready`.
fn without_time(line: &str) -> &str {
    let line = line.trim();
    match line.find(" [") {
        Some(at) if line.starts_with('[') => &line[at + 1..],
        _ => line,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::io::Write;

    use super::*;

    #[test]
    fn the_tail_is_the_end_of_the_present_start() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let (_, mut file) = Log::open(&path).unwrap();
        writeln!(file, "of an earlier start").unwrap();
        let (log, mut file) = Log::open(&path).unwrap();
        assert_eq!(log.tail(), "");
        for number in 0..9 {
            writeln!(file, "[77] 2026/11/20 07:25:52.498745 [INF] line {number}").unwrap();
        }
        writeln!(file, "\nnats-server: a [plain] word").unwrap();
        assert_eq!(log.tail(), "[INF] line 5; [INF] line 6; [INF] line 7; [INF] line 8; nats-server: a [plain] word");
    }
}
