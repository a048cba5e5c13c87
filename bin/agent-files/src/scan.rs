//! One pass over a file's bytes: everything that is counted, in bounded memory.

use std::{
    io::{self, Read},
    ops::ControlFlow,
};

use sha2::{Digest, Sha256};

use crate::terms::{Term, TermCounter};

const CHUNK_BYTES: usize = 64 * 1024;
const FIRST_LINE_BYTES_MAX: usize = 256;
const TERMS: usize = 5;

/// What one pass found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Scan {
    pub(crate) sha256: String,
    pub(crate) bytes: u64,
    /// `None` if it is no UTF-8 text.
    pub(crate) text: Option<Text>,
}

/// What is counted in a text only.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Text {
    pub(crate) lines: u64,
    pub(crate) words: u64,
    pub(crate) terms: Vec<Term>,
    /// Its beginning, cut, to see by what program it is run.
    pub(crate) first_line: String,
}

/// Reads to the end. `on_chunk` hears how many bytes were read so far, and may break it off: then there is no scan.
pub(crate) fn scan(mut input: impl Read, mut on_chunk: impl FnMut(u64) -> ControlFlow<()>) -> io::Result<Option<Scan>> {
    let mut buffer = vec![0; CHUNK_BYTES];
    let (mut hash, mut bytes, mut text) = (Sha256::new(), 0u64, TextReader::default());
    loop {
        let count = match input.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let chunk = &buffer[..count];
        hash.update(chunk);
        bytes += count as u64;
        text.feed(chunk);
        if on_chunk(bytes).is_break() {
            return Ok(None);
        }
    }
    let sha256 = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Some(Scan { sha256, bytes, text: text.end() }))
}

/// Turns chunks of bytes into characters, and counts them, until they are none.
#[derive(Debug, Default)]
struct TextReader {
    is_binary: bool,
    /// The begun character at the end of the last chunk, at most three bytes.
    rest: Vec<u8>,
    lines: u64,
    words: u64,
    in_word: bool,
    terms: TermCounter,
    first_line: String,
}

impl TextReader {
    fn feed(&mut self, chunk: &[u8]) {
        if self.is_binary {
            return;
        }
        let mut chunk = chunk;
        // Bytes one by one until the begun character is whole; a character has four at most.
        while !self.rest.is_empty() {
            let Some((&next, remaining)) = chunk.split_first() else { return };
            chunk = remaining;
            self.rest.push(next);
            let begun = std::mem::take(&mut self.rest);
            self.feed_whole(&begun);
        }
        self.feed_whole(chunk);
    }

    /// Counts what is whole, and keeps the begun character at the end.
    fn feed_whole(&mut self, bytes: &[u8]) {
        match std::str::from_utf8(bytes) {
            Ok(text) => self.count(text),
            Err(error) if error.error_len().is_some() => self.is_binary = true,
            Err(error) => {
                let (whole, rest) = bytes.split_at(error.valid_up_to());
                self.count(std::str::from_utf8(whole).unwrap_or_default());
                self.rest = rest.to_vec();
            }
        }
    }

    fn count(&mut self, text: &str) {
        for character in text.chars() {
            if self.lines == 0 && character != '\n' && self.first_line.len() < FIRST_LINE_BYTES_MAX {
                self.first_line.push(character);
            }
            match character {
                '\0' => self.is_binary = true,
                '\n' => self.lines += 1,
                _ => {}
            }
            let in_word = !character.is_whitespace();
            self.words += u64::from(in_word && !self.in_word);
            self.in_word = in_word;
            self.terms.feed(character);
        }
    }

    fn end(self) -> Option<Text> {
        let is_text = !self.is_binary && self.rest.is_empty();
        is_text.then(|| Text {
            lines: self.lines,
            words: self.words,
            terms: self.terms.most_frequent(TERMS),
            first_line: self.first_line,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
    use super::*;

    /// Gives its bytes in pieces of one size, as a slow disk might.
    struct Pieces<'a>(&'a [u8], usize);

    impl Read for Pieces<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = self.1.min(buffer.len());
            self.0.take(count as u64).read(buffer).inspect(|count| self.0 = &self.0[*count..])
        }
    }

    fn scan_of(bytes: &[u8]) -> Scan {
        scan(bytes, |_| ControlFlow::Continue(())).unwrap().unwrap()
    }

    #[test]
    fn lines_and_words_are_those_of_wc() {
        for (text, lines, words) in [
            ("", 0, 0),
            ("one", 0, 1),
            ("one\n", 1, 1),
            ("  one\ttwo\n\nthree ", 2, 3),
            ("a\r\nb\r\n", 2, 2),
            ("größer\u{2003}kleiner\n", 1, 2),
        ] {
            let found = scan_of(text.as_bytes()).text.unwrap();
            assert_eq!((found.lines, found.words), (lines, words), "{text:?}");
        }
    }

    #[test]
    fn the_digest_is_sha256() {
        let scan = scan_of(b"abc");
        assert_eq!(scan.sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(scan.bytes, 3);
    }

    #[test]
    fn where_a_read_ends_makes_no_difference() {
        let text = "Übermut tut 𝄞 selten gut,\nübermut 漢字 tut\n".repeat(50);
        let whole = scan_of(text.as_bytes());
        assert!(whole.text.is_some());
        for size in 1..9 {
            let pieces = scan(Pieces(text.as_bytes(), size), |_| ControlFlow::Continue(()));
            assert_eq!(pieces.unwrap().unwrap(), whole, "pieces of {size}");
        }
    }

    #[test]
    fn what_is_no_text_is_hashed_all_the_same() {
        for bytes in [&b"a\0b"[..], b"\xff\xfe", b"text, then \xc3", b"\xed\xa0\x80", b"ok \xf0\x9f\x92"] {
            for size in [1, 2, 100] {
                let scan = scan(Pieces(bytes, size), |_| ControlFlow::Continue(())).unwrap().unwrap();
                assert_eq!((scan.text, scan.bytes), (None, bytes.len() as u64), "{bytes:?} by {size}");
                assert_eq!(scan.sha256, scan_of(bytes).sha256);
            }
        }
    }

    #[test]
    fn it_can_be_broken_off_between_chunks() {
        let mut heard = Vec::new();
        let scan = scan(Pieces(&[b'x'; 30], 10), |bytes| {
            heard.push(bytes);
            if bytes < 20 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        assert_eq!(scan.unwrap(), None);
        assert_eq!(heard, [10, 20]);
    }
}
