//! Frames of the NATS client protocol: as much as is needed to tell one message from the next and what it is about.

use std::io;

use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt};

/// A line may be an INFO of a large cluster, never more.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// One frame.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    /// What it is, in capitals.
    pub(super) verb: String,
    /// Of a message; empty otherwise.
    pub(super) subject: String,
    /// Where the answer to a message goes.
    pub(super) reply: Option<String>,
    /// The frame as it came, line and payload.
    pub(super) raw: Vec<u8>,
    payload_at: usize,
}

impl Frame {
    /// Reads the next frame; none at the end.
    pub(super) async fn read(from: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Option<Self>> {
        let mut raw = Vec::new();
        let limit = u64::try_from(LINE_BYTES_MAX).unwrap_or(u64::MAX);
        let read = (&mut *from).take(limit).read_until(b'\n', &mut raw).await?;
        if read == 0 {
            return Ok(None);
        }
        let line = String::from_utf8_lossy(&raw).into_owned();
        let tokens: Vec<&str> = line.split_whitespace().collect();
        let (subject, reply, size) = match tokens.as_slice() {
            ["PUB", subject, size] => (*subject, None, Some(*size)),
            ["PUB", subject, reply, size] => (*subject, Some(*reply), Some(*size)),
            ["HPUB", subject, _, size] => (*subject, None, Some(*size)),
            ["HPUB", subject, reply, _, size] => (*subject, Some(*reply), Some(*size)),
            ["MSG", subject, _, size] => (*subject, None, Some(*size)),
            ["MSG", subject, _, reply, size] => (*subject, Some(*reply), Some(*size)),
            ["HMSG", subject, _, _, size] => (*subject, None, Some(*size)),
            ["HMSG", subject, _, reply, _, size] => (*subject, Some(*reply), Some(*size)),
            _ => ("", None, None),
        };
        let payload_at = raw.len();
        if let Some(size) = size {
            let size: usize =
                size.parse().map_err(|_| io::Error::other(format!("no size in `{}`", line.trim_end())))?;
            raw.resize(payload_at + size + 2, 0);
            from.read_exact(&mut raw[payload_at..]).await?;
        }
        let verb = tokens.first().map(|verb| verb.to_ascii_uppercase()).unwrap_or_default();
        Ok(Some(Self { verb, subject: subject.to_owned(), reply: reply.map(str::to_owned), raw, payload_at }))
    }

    /// Headers and body of a message, with the line end behind them.
    pub(super) fn payload(&self) -> &[u8] {
        &self.raw[self.payload_at..]
    }

    /// Whether the client publishes with it.
    pub(super) fn is_publish(&self) -> bool {
        self.verb == "PUB" || self.verb == "HPUB"
    }

    /// Whether the server delivers with it.
    pub(super) fn is_message(&self) -> bool {
        self.verb == "MSG" || self.verb == "HMSG"
    }

    /// Takes the other ways to the server out of its greeting: a client that learned them would leave the proxy.
    pub(super) fn without_other_ways(&mut self) {
        let Some(json) = self.raw.get(5..).filter(|_| self.verb == "INFO") else { return };
        let Ok(serde_json::Value::Object(mut info)) = serde_json::from_slice(json) else { return };
        if info.remove("connect_urls").is_some() {
            self.raw = format!("INFO {}\r\n", serde_json::Value::Object(info)).into_bytes();
            self.payload_at = self.raw.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn frames_are_told_apart() {
        let mut stream: &[u8] = b"INFO {\"port\":1,\"connect_urls\":[\"a:1\"]}\r\nPING\r\nPUB a.b 3\r\nx\r\n\r\n\
            HPUB a.c r 12 14\r\nNATS/1.0\r\n\r\nhi\r\nMSG d 7 $JS.ACK.x 0\r\n\r\nHMSG e 7 r 12 12\r\nNATS/1.0\r\n\r\n\r\n";
        let mut seen = Vec::new();
        while let Some(mut frame) = Frame::read(&mut stream).await.unwrap() {
            frame.without_other_ways();
            if frame.verb == "INFO" {
                assert_eq!(frame.raw, b"INFO {\"port\":1}\r\n");
            }
            seen.push((frame.verb.clone(), frame.subject.clone(), frame.reply.clone(), frame.payload().len()));
        }
        let expected = [
            ("INFO", "", None, 0),
            ("PING", "", None, 0),
            ("PUB", "a.b", None, 5),
            ("HPUB", "a.c", Some("r"), 16),
            ("MSG", "d", Some("$JS.ACK.x"), 2),
            ("HMSG", "e", Some("r"), 14),
        ];
        let seen: Vec<_> =
            seen.iter().map(|(verb, subject, reply, size)| (&**verb, &**subject, reply.as_deref(), *size)).collect();
        assert_eq!(seen, expected);
    }

    #[tokio::test]
    async fn a_message_without_its_size_is_no_frame() {
        assert!(Frame::read(&mut &b"PUB a x\r\n"[..]).await.is_err());
    }
}
