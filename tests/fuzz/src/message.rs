//! A message as text: its subject, its headers, an empty line, its body.

use protocol::Headers;

/// What stands between two messages.
const BETWEEN: &[u8] = b"\n%%\n";

/// More messages than these are not looked at.
const MESSAGES_MAX: usize = 200;

/// A message.
pub(crate) struct Message<'a> {
    pub(crate) subject: String,
    pub(crate) headers: Headers,
    pub(crate) body: &'a [u8],
}

impl<'a> Message<'a> {
    /// Reads one; what is missing is empty, and a line that is no header makes the headers unreadable ones.
    pub(crate) fn read(data: &'a [u8]) -> Self {
        let (subject, mut rest) = line(data);
        let mut headers = Headers::new();
        while !rest.is_empty() {
            let (text, after) = line(rest);
            rest = after;
            if text.is_empty() {
                break;
            }
            match text.split_once(':') {
                Some((name, value)) => headers.push(name, value.trim()),
                None => headers.mark_unreadable(&text),
            }
        }
        Self { subject, headers, body: rest }
    }

    /// Reads all.
    pub(crate) fn all(data: &'a [u8]) -> Vec<Self> {
        let mut messages = Vec::new();
        let mut rest = data;
        while messages.len() < MESSAGES_MAX {
            match rest.windows(BETWEEN.len()).position(|window| window == BETWEEN) {
                Some(at) => {
                    messages.push(Self::read(&rest[..at]));
                    rest = &rest[at + BETWEEN.len()..];
                }
                None => {
                    messages.push(Self::read(rest));
                    break;
                }
            }
        }
        messages
    }
}

fn line(data: &[u8]) -> (String, &[u8]) {
    let end = data.iter().position(|byte| *byte == b'\n');
    let (line, rest) = end.map_or((data, &[][..]), |at| (&data[..at], &data[at + 1..]));
    (String::from_utf8_lossy(line).into_owned(), rest)
}
