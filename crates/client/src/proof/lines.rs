//! The file, some thousand lines at a time.

use std::{
    fs::File,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
};

use protocol::accepted::{Accepted, LINE_BYTES_MAX, Unread};

use crate::Error;

/// Lines that are looked for together.
pub(super) const LINES: usize = 10_000;

/// Reads it.
pub(super) struct Lines {
    file: BufReader<File>,
    path: PathBuf,
    number: u64,
    read: u64,
    torn: u64,
}

impl Lines {
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let file = File::open(path).map_err(|error| Error::invalid(format!("{}: {error}", path.display())))?;
        Ok(Self { file: BufReader::new(file), path: path.to_owned(), number: 0, read: 0, torn: 0 })
    }

    /// The next lines; none at the end. Of a torn one nothing is known but that it was there.
    pub(super) fn next_many(&mut self) -> Result<Vec<Accepted>, Error> {
        let mut some = Vec::new();
        let mut line = Vec::new();
        while some.len() < LINES {
            line.clear();
            // What is longer than any line is none of ours, and must not be held whole.
            let mut bounded = (&mut self.file).take(LINE_BYTES_MAX as u64 + 1);
            bounded.read_until(b'\n', &mut line).map_err(|error| self.refused(&error.to_string()))?;
            if line.is_empty() {
                break;
            }
            self.number += 1;
            if line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            if line.len() > LINE_BYTES_MAX {
                return Err(self.refused("it is longer than any line of such a file"));
            }
            match Accepted::read(&line) {
                Ok(accepted) => some.push(accepted),
                Err(Unread::Torn) => self.torn += 1,
                Err(Unread::Foreign(why)) => return Err(self.refused(&why)),
            }
        }
        self.read += some.len() as u64;
        Ok(some)
    }

    /// Lines that were read.
    pub(super) fn read(&self) -> u64 {
        self.read
    }

    /// Lines that end too early.
    pub(super) fn torn(&self) -> u64 {
        self.torn
    }

    fn refused(&self, why: &str) -> Error {
        Error::invalid(format!(
            "{}, line {}: {why}; a file of what was accepted is written by `sortie submit`, `sortie map` and `sortie run \
             start` with --accepted FILE",
            self.path.display(),
            self.number
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str =
        "{\"id\":\"ID\",\"request\":\"echo\",\"stream\":\"S\",\"seq\":4,\"at\":\"2026-11-20T07:17:00Z\"}\n";

    fn lines(text: &str) -> (tempfile::NamedTempFile, Lines) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let lines = Lines::open(file.path()).unwrap();
        (file, lines)
    }

    #[test]
    fn torn_and_blank_lines_are_passed_over() {
        let text = format!("{LINE}\n{}\n{}{}", &LINE[..30], LINE.replace("ID", "b"), &LINE[..7]);
        let (_file, mut lines) = lines(&text);
        let ids: Vec<String> = lines.next_many().unwrap().iter().map(|accepted| accepted.id.to_string()).collect();
        assert_eq!((ids, lines.read(), lines.torn()), (vec!["ID".to_owned(), "b".to_owned()], 2, 2));
        assert_eq!(lines.next_many().unwrap(), []);
    }

    #[test]
    fn many_lines_come_in_parts() {
        let (_file, mut lines) = lines(&LINE.repeat(LINES + 1));
        assert_eq!([lines.next_many().unwrap().len(), lines.next_many().unwrap().len()], [LINES, 1]);
    }

    #[test]
    fn another_file_is_refused_with_the_line() {
        let endless = "x".repeat(LINE_BYTES_MAX + 1);
        for foreign in ["{\"id\":17}\n", "#!/bin/sh\n", &endless] {
            let (_file, mut lines) = lines(&format!("{LINE}{foreign}"));
            let refused = lines.next_many().unwrap_err().to_string();
            assert!(refused.contains(", line 2: ") && refused.contains("--accepted FILE"), "{refused}");
        }
    }
}
