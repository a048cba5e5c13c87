//! Lines of the input, each bounded.

use std::io;

use protocol::limits;
use tokio::io::{AsyncBufRead, AsyncBufReadExt};

/// One line.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// Its number, from 1.
    pub(super) number: u64,
    /// What stands in it, without its end; none where it is longer than a body may be.
    pub(super) bytes: Option<Vec<u8>>,
}

/// Reads line by line. [`Lines::next`] may be dropped and called again.
#[derive(Debug)]
pub(super) struct Lines<R> {
    input: R,
    skips_blank: bool,
    number: u64,
    partial: Vec<u8>,
    is_too_long: bool,
}

impl<R: AsyncBufRead + Unpin> Lines<R> {
    pub(super) fn new(input: R, skips_blank: bool) -> Self {
        Self { input, skips_blank, number: 0, partial: Vec::new(), is_too_long: false }
    }

    /// The next line; none at the end. The last one need not have an end of its own.
    pub(super) async fn next(&mut self) -> io::Result<Option<Line>> {
        loop {
            let available = self.input.fill_buf().await?;
            if available.is_empty() {
                let rest = !self.partial.is_empty() || self.is_too_long;
                return Ok(if rest { self.end_line() } else { None });
            }
            let end = available.iter().position(|byte| *byte == b'\n');
            let part = &available[..end.unwrap_or(available.len())];
            if self.is_too_long || self.partial.len() + part.len() > limits::BODY_BYTES_MAX {
                self.is_too_long = true;
                self.partial = Vec::new();
            } else {
                self.partial.extend_from_slice(part);
            }
            let read = part.len() + usize::from(end.is_some());
            self.input.consume(read);
            if end.is_some()
                && let Some(line) = self.end_line()
            {
                return Ok(Some(line));
            }
        }
    }

    fn end_line(&mut self) -> Option<Line> {
        self.number += 1;
        let mut bytes = std::mem::take(&mut self.partial);
        if std::mem::take(&mut self.is_too_long) {
            return Some(Line { number: self.number, bytes: None });
        }
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
        let is_passed_over = self.skips_blank && bytes.iter().all(u8::is_ascii_whitespace);
        (!is_passed_over).then_some(Line { number: self.number, bytes: Some(bytes) })
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::BufReader;

    use super::*;

    async fn read(text: &[u8], skips_blank: bool, buffer: usize) -> Vec<(u64, Option<Vec<u8>>)> {
        let mut lines = Lines::new(BufReader::with_capacity(buffer, text), skips_blank);
        let mut all = Vec::new();
        while let Some(line) = lines.next().await.unwrap() {
            all.push((line.number, line.bytes));
        }
        all
    }

    #[tokio::test]
    async fn lines_keep_their_numbers() {
        let one = |number, text: &str| (number, Some(text.as_bytes().to_vec()));
        for buffer in [1, 3, 4096] {
            assert_eq!(read(b"1\r\n\n  \n[2]", true, buffer).await, [one(1, "1"), one(4, "[2]")]);
            assert_eq!(read(b"a\n\nb\n", false, buffer).await, [one(1, "a"), one(2, ""), one(3, "b")]);
            assert_eq!(read(b"", false, buffer).await, []);
        }
    }

    #[tokio::test]
    async fn a_line_without_bounds_is_passed_over_and_told() {
        let mut text = vec![b'x'; limits::BODY_BYTES_MAX + 1];
        text.extend_from_slice(b"\nnext");
        let lines = read(&text, true, 1 << 20).await;
        assert_eq!(lines, [(1, None), (2, Some(b"next".to_vec()))]);
    }
}
