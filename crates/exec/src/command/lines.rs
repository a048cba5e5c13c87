//! What a command says on stderr, as lines that come within bounds, and its last words.

use protocol::limits;
use tokio::time::Instant;

/// One line, in bytes; the rest of a longer one is left out.
pub const LINE_BYTES_MAX: usize = 4 * 1024;

/// Lines handed on for one attempt; what comes after is counted and left out.
pub const LINES_MAX: usize = 10_000;

/// Lines handed on at once before [`LINES_PER_SECOND`] counts.
pub const LINES_BURST: u32 = 100;

/// Lines handed on each second; what comes faster is counted and left out.
pub const LINES_PER_SECOND: u32 = 50;

/// What is kept of the end of stderr for a failure, in bytes.
pub const STDERR_TAIL_BYTES_MAX: usize = 4 * 1024;

/// Cuts stderr into lines at `\n` and `\r` (progress bars), and keeps its end.
pub(super) struct Lines {
    partial: Vec<u8>,
    tail: Vec<u8>,
    allowance: f64,
    allowed_at: Instant,
    handed: usize,
    left_out: u64,
}

impl Lines {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            partial: Vec::new(),
            tail: Vec::new(),
            allowance: f64::from(LINES_BURST),
            allowed_at: now,
            handed: 0,
            left_out: 0,
        }
    }

    /// Takes what was read and hands on every line that is complete.
    pub(super) fn take(&mut self, chunk: &[u8], now: Instant, on_line: &(dyn Fn(&str) + Send + Sync)) {
        self.remember(chunk);
        for piece in chunk.split_inclusive(|byte| matches!(byte, b'\n' | b'\r')) {
            let (text, ends) = match piece.split_last() {
                Some((b'\n' | b'\r', text)) => (text, true),
                _ => (piece, false),
            };
            // One byte past the bound is kept, to know that something was left out.
            let room = (LINE_BYTES_MAX + 1).saturating_sub(self.partial.len());
            self.partial.extend_from_slice(&text[..text.len().min(room)]);
            if ends {
                self.hand(now, on_line);
            }
        }
    }

    /// Hands on what the last line is without an end, and says how many lines were left out.
    pub(super) fn finish(&mut self, on_line: &(dyn Fn(&str) + Send + Sync)) {
        self.hand(self.allowed_at, on_line);
        if self.left_out > 0 {
            on_line(&format!("({} more lines on stderr were left out)", self.left_out));
        }
    }

    /// The end of stderr, from the beginning of a line where that is to be had.
    pub(super) fn tail(&self) -> String {
        let start = self.tail.len().saturating_sub(STDERR_TAIL_BYTES_MAX);
        let mut end = &self.tail[start..];
        if start > 0
            && let Some(border) = end.iter().position(|byte| *byte == b'\n')
            && border + 1 < end.len()
        {
            end = &end[border + 1..];
        }
        limits::truncate(&String::from_utf8_lossy(end), STDERR_TAIL_BYTES_MAX)
    }

    fn remember(&mut self, chunk: &[u8]) {
        self.tail.extend_from_slice(chunk);
        if self.tail.len() > 4 * STDERR_TAIL_BYTES_MAX {
            // One byte more than is shown tells that there was more.
            self.tail.drain(..self.tail.len() - STDERR_TAIL_BYTES_MAX - 1);
        }
    }

    fn hand(&mut self, now: Instant, on_line: &(dyn Fn(&str) + Send + Sync)) {
        if self.partial.is_empty() {
            return;
        }
        let earned = now.saturating_duration_since(self.allowed_at).as_secs_f64() * f64::from(LINES_PER_SECOND);
        self.allowance = (self.allowance + earned).min(f64::from(LINES_BURST));
        self.allowed_at = now;
        if self.allowance < 1.0 || self.handed >= LINES_MAX {
            self.left_out += 1;
        } else {
            self.allowance -= 1.0;
            self.handed += 1;
            // Control characters would reach the terminal of whoever watches.
            let text = String::from_utf8_lossy(&self.partial).replace(|c: char| c.is_control() && c != '\t', "");
            on_line(&limits::truncate(&text, LINE_BYTES_MAX));
        }
        self.partial.clear();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use std::{sync::Mutex, time::Duration};

    use super::*;

    fn cut(chunks: &[&[u8]]) -> (Vec<String>, String) {
        let seen = Mutex::new(Vec::new());
        let on_line = |line: &str| seen.lock().unwrap().push(line.to_owned());
        let mut lines = Lines::new(Instant::now());
        for chunk in chunks {
            lines.take(chunk, lines.allowed_at, &on_line);
        }
        lines.finish(&on_line);
        let tail = lines.tail();
        (seen.into_inner().unwrap(), tail)
    }

    #[test]
    fn lines_are_whole_however_they_come() {
        assert_eq!(cut(&[b"on", b"e\ntw", b"o\r\n10%\r20%\r", b"end"]).0, ["one", "two", "10%", "20%", "end"]);
        assert_eq!(cut(&[b"\xff\x1b[31mred\n"]).0, ["\u{fffd}[31mred"]);
        assert!(cut(&[b"", b"\n\n"]).0.is_empty());
    }

    #[test]
    fn a_long_line_is_cut() {
        let (lines, tail) = cut(&[&[b'x'; 3_000], &[b'y'; 3_000], b"\nshort\n"]);
        assert_eq!((lines.len(), lines[1].as_str()), (2, "short"));
        assert!(lines[0].len() <= LINE_BYTES_MAX && lines[0].ends_with("y…"));
        assert_eq!(tail, "short\n");
    }

    #[test]
    fn a_flood_is_counted_and_left_out() {
        let flood = b"line\n".repeat(100_000);
        let (lines, tail) = cut(&[&flood]);
        assert_eq!(lines.len(), LINES_BURST as usize + 1);
        assert!(lines.last().unwrap().contains("99900 more"), "{:?}", lines.last());
        assert!(tail.len() <= STDERR_TAIL_BYTES_MAX && tail.starts_with("line\n"));
    }

    #[test]
    fn time_earns_more_lines_up_to_the_end_of_an_attempt() {
        let count = Mutex::new(0_usize);
        let on_line = |_: &str| *count.lock().unwrap() += 1;
        let start = Instant::now();
        let mut lines = Lines::new(start);
        for second in 0..1_000 {
            lines.take(&b"x\n".repeat(200), start + Duration::from_secs(second), &on_line);
        }
        assert_eq!(*count.lock().unwrap(), LINES_MAX);
    }
}
