//! Output cut into lines within bounds.

use std::io;

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};

/// The longest piece that is handed on at once, in bytes; what is longer comes in several.
const LINE_BYTES_MAX: usize = 16 * 1024;

/// Hands on every line until the end of the stream, without its line ending.
pub(super) async fn each<R, F>(stream: R, mut hand: F) -> io::Result<()>
where
    R: AsyncRead + Unpin,
    F: FnMut(&[u8]),
{
    let mut reader = BufReader::new(stream);
    let mut line = Vec::new();
    loop {
        let chunk = reader.fill_buf().await?;
        if chunk.is_empty() {
            break;
        }
        let room = LINE_BYTES_MAX - line.len();
        let seen = &chunk[..chunk.len().min(room)];
        let end = seen.iter().position(|byte| *byte == b'\n');
        let taken = end.map_or(seen.len(), |at| at + 1);
        line.extend_from_slice(&seen[..taken]);
        reader.consume(taken);
        if end.is_some() || line.len() >= LINE_BYTES_MAX {
            hand(without_ending(&line));
            line.clear();
        }
    }
    if !line.is_empty() {
        hand(without_ending(&line));
    }
    Ok(())
}

fn without_ending(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
    use super::*;

    async fn cut(text: &[u8]) -> Vec<Vec<u8>> {
        let mut lines = Vec::new();
        each(text, |line| lines.push(line.to_vec())).await.unwrap();
        lines
    }

    #[tokio::test]
    async fn lines_come_whole_and_the_last_one_without_an_end_too() {
        assert_eq!(cut(b"one\r\n\ntwo\nend").await, [&b"one"[..], b"", b"two", b"end"]);
        assert!(cut(b"").await.is_empty());
    }

    #[tokio::test]
    async fn a_long_line_comes_in_pieces() {
        let lines = cut(&[b'x'; 2 * LINE_BYTES_MAX + 5]).await;
        assert_eq!(lines.iter().map(Vec::len).collect::<Vec<_>>(), [LINE_BYTES_MAX, LINE_BYTES_MAX, 5]);
    }
}
