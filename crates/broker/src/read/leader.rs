//! Reading message by message from the leader, which answers in JSON: whatever a publisher wrote can be read so, and the
//! answer is certain. It is slower by far, and more work for the server.

use async_nats::StatusCode;
use base64::{Engine, prelude::BASE64_STANDARD};
use protocol::{Headers, limits};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    PAGE_BYTES_MAX, Page, StoredMessage,
    direct::{parse_time, strip},
};
use crate::{
    Connection, api,
    error::{Error, Kind},
};

#[derive(Deserialize)]
struct Answer {
    message: Found,
}

#[derive(Deserialize)]
struct Found {
    subject: String,
    seq: u64,
    time: String,
    #[serde(default)]
    hdrs: String,
    #[serde(default)]
    data: String,
}

/// The message that a question names.
pub(super) async fn message(
    connection: &Connection,
    stream: &str,
    question: &Value,
) -> Result<Option<StoredMessage>, Error> {
    let found = match api::ask::<_, Answer>(connection, &format!("STREAM.MSG.GET.{stream}"), question).await {
        Ok(answer) => answer.message,
        Err(error) if error.kind() == Kind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let decoded =
        |text: &str| BASE64_STANDARD.decode(text).map_err(|error| Error::new(Kind::Invalid, error.to_string()));
    let (headers, is_readable) = read_block(&decoded(&found.hdrs)?);
    Ok(Some(StoredMessage {
        subject: found.subject,
        sequence: found.seq,
        time: parse_time(&found.time),
        headers,
        is_readable,
        body: decoded(&found.data)?.into(),
    }))
}

/// As the reader's own page.
pub(super) async fn page(
    connection: &Connection,
    stream: &str,
    filter: &str,
    from: u64,
    count: usize,
) -> Result<Page, Error> {
    let mut page = Page { messages: Vec::new(), next: Some(from), remaining: None };
    let mut bytes = 0;
    while let Some(sequence) = page.next.filter(|_| page.messages.len() < count && bytes < PAGE_BYTES_MAX) {
        let found = message(connection, stream, &json!({ "next_by_subj": filter, "seq": sequence })).await?;
        page.next = found.as_ref().map(|message| message.sequence + 1);
        bytes += found.as_ref().map_or(0, |message| message.body.len());
        page.messages.extend(found);
    }
    Ok(page)
}

/// As the reader's own; of a subject with wildcards only one message is found.
pub(super) async fn last_of_each(
    connection: &Connection,
    stream: &str,
    subjects: &[String],
) -> Result<Vec<StoredMessage>, Error> {
    let mut all = Vec::new();
    for subject in subjects {
        all.extend(message(connection, stream, &json!({ "last_by_subj": subject })).await?);
    }
    all.sort_by_key(|message| message.sequence);
    Ok(all)
}

/// Reads a block of headers as the client library does (`Connection::try_read_op` of async-nats 0.51), except that what it cannot
/// read costs only that line. The first of such lines becomes a name that no header can have. Says whether there was none: whoever
/// looks for what broke a connection takes only what it may have broken over. That is also a block without its end: the server cuts
/// two bytes off before it adds headers of its own.
fn read_block(block: &[u8]) -> (Headers, bool) {
    let mut headers = Headers::new();
    let text = String::from_utf8_lossy(block);
    let mut fault = std::str::from_utf8(block).is_err().then(|| "not UTF-8".to_owned());
    if !block.is_empty() && !block.ends_with(b"\r\n\r\n") {
        fault.get_or_insert_with(|| "no end".to_owned());
    }
    let mut lines = text.lines().peekable();
    if let Some(first) = lines.next().filter(|first| !is_first_line(first)) {
        fault.get_or_insert_with(|| quoted(first));
    }
    while let Some(line) = lines.next() {
        if line.is_empty() {
            continue;
        }
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let mut value = value.trim_start().to_owned();
        while let Some(more) = lines.next_if(|line| line.starts_with(char::is_whitespace)) {
            value.push_str(more);
        }
        let value = value.trim_end();
        if line.contains(':') && is_name(name) && !value.contains('\r') {
            headers.push(name, value);
        } else {
            fault.get_or_insert_with(|| quoted(line));
        }
    }
    strip(&mut headers);
    let is_readable = fault.is_none();
    if let Some(fault) = fault {
        headers.mark_unreadable(&fault);
    }
    (headers, is_readable)
}

/// `NATS/1.0`, or `NATS/1.0 503 No Responders`.
fn is_first_line(line: &str) -> bool {
    let Some(rest) = line.strip_prefix("NATS/1.0").map(str::trim) else { return false };
    let status = rest.split_once(' ').map_or(rest, |(status, _)| status.trim());
    status.is_empty() || status.parse::<StatusCode>().is_ok()
}

fn is_name(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_graphic())
}

fn quoted(line: &str) -> String {
    format!("{:?}", limits::truncate(line, 60))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_costs_its_line_and_is_told() {
        for (block, is_readable) in [
            (&b""[..], true),
            (b"NATS/1.0\r\nX-Tenant: blue\r\n\r\n", true),
            (b"NATS/1.0\r\nX-Tenant:\r\n blue\r\nNats-Subject: forged\r\n\r\n", true),
            (b"NATS/1.0\nX-Tenant: blue\r\n\r\n", true),
            (b"NATS/1.0\r\nX-Tenant: blue", false),
            (b"NATS/1.0\r\nX-Tenant: blue\r\nnonsense\r\n\r\n", false),
            (b"NATS/1.0\r\nX-Tenant: blue\r\nX: a\rb\r\n\r\n", false),
            (b"NATS/1.0\r\nX-Tenant: blue\r\nX Y: a\r\n\r\n", false),
            (b"NATS/1.0\r\nX-Tenant: blue\r\nX: \xff\r\n\r\n", false),
            (b"HTTP/1.1\r\nX-Tenant: blue\r\n\r\n", false),
            (b"NATS/1.0 503 No Responders\r\nX-Tenant: blue\r\n\r\n", true),
            (b"NATS/1.0 busy\r\nX-Tenant: blue\r\n\r\n", false),
            (b"NATS/1.0\r\nX-Tenant: blue\r\n\r\n and more\r\n\r\n", false),
            (b"NATS/1.0\r\nX-Tenant: blue\r\nX:\r\n \ra\r\n\r\n", false),
        ] {
            let (headers, found) = read_block(block);
            let shown = String::from_utf8_lossy(block);
            assert_eq!(found, is_readable, "{shown}");
            assert_eq!(headers.check().is_ok(), is_readable, "{shown}");
            assert_eq!(headers.unreadable().is_none(), is_readable, "{shown}");
            assert_eq!(headers.get("X-Tenant").is_some(), !block.is_empty(), "{shown}");
            assert_eq!(headers.get("Nats-Subject"), None, "{shown}");
        }
    }
}
