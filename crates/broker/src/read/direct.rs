//! Direct gets.

use std::time::{Duration, Instant};

use bytes::Bytes;
use chrono::DateTime;
use protocol::{Headers, time::Timestamp};

use super::{Page, StoredMessage};
use crate::{
    Connection, Message, Outgoing,
    error::{Error, Kind},
};

/// What the server adds to a stored message that it answers with.
const SUBJECT: &str = "Nats-Subject";
const SEQUENCE: &str = "Nats-Sequence";
const TIME: &str = "Nats-Time-Stamp";
/// What it adds to the end of an answer, too.
const PENDING: &str = "Nats-Num-Pending";

/// Asks for one message.
pub(super) async fn one(
    connection: Connection,
    subject: String,
    body: Bytes,
    timeout: Duration,
) -> Result<Option<StoredMessage>, Error> {
    let answer = connection.request(subject, None, body, timeout).await?;
    match said(&answer) {
        Some((404, _)) => Ok(None),
        Some((code, text)) => Err(Error::new(Kind::Api(u64::from(code)), text)),
        None => stored(answer).map(Some),
    }
}

/// Asks for many messages.
pub(super) async fn many(connection: Connection, stream: &str, body: String, timeout: Duration) -> Result<Page, Error> {
    let inbox = connection.new_inbox();
    let mut answers = connection.subscribe(inbox.clone()).await?;
    let question = Outgoing::new(format!("$JS.API.DIRECT.GET.{stream}"), body);
    let (subject, began) = (question.subject.clone(), Instant::now());
    connection.publish_asking(question, inbox.clone()).await?;
    let unanswered = connection.unanswered_asking(&subject, &inbox, began);
    tokio::pin!(unanswered);
    let mut page = Page { messages: Vec::new(), next: None, remaining: Some(0) };
    loop {
        let silence = || Error::new(Kind::TimedOut, format!("reading {stream}: no answer"));
        let answer = tokio::select! {
            answer = tokio::time::timeout(timeout, answers.next()) => answer.map_err(|_| silence())?,
            error = &mut unanswered => return Err(error.during(&format!("reading {stream}"))),
        };
        let answer = answer.ok_or_else(silence)?;
        match said(&answer) {
            None => {
                let message = stored(answer)?;
                if page.messages.last().is_some_and(|last| last.sequence >= message.sequence) {
                    return Err(Error::new(Kind::Invalid, format!("reading {stream}: sequences do not grow")));
                }
                page.messages.push(message);
            }
            Some((204, _)) => {
                let pending = answer.headers.last(PENDING).and_then(|text| text.parse().ok());
                page.remaining = pending;
                if pending.unwrap_or(0_u64) > 0 {
                    page.next = page.messages.last().map(|message| message.sequence + 1);
                }
                return Ok(page);
            }
            Some((404, _)) => return Ok(page),
            Some((503, _)) => return Err(Error::new(Kind::NoResponders, format!("stream {stream} is not there"))),
            Some((code, text)) => return Err(Error::new(Kind::Api(u64::from(code)), text)),
        }
    }
}

/// What the broker says instead of a message. A publisher may have stored a status, too: that one has a sequence behind it.
fn said(answer: &Message) -> Option<(u16, String)> {
    answer.status.clone().filter(|_| answer.headers.last(SEQUENCE).is_none())
}

/// A direct get's answer carries subject, sequence and time as headers, behind those of the publisher, who may have
/// written the same names: the last of each counts.
fn stored(answer: Message) -> Result<StoredMessage, Error> {
    let mut headers = answer.headers;
    let unread = || Error::new(Kind::Invalid, "an answer without subject or sequence");
    let found = StoredMessage {
        subject: headers.last(SUBJECT).ok_or_else(unread)?.to_owned(),
        sequence: headers.last(SEQUENCE).and_then(|text| text.parse().ok()).ok_or_else(unread)?,
        time: headers.last(TIME).map(parse_time).unwrap_or_default(),
        headers: Headers::new(),
        is_readable: true,
        body: answer.body,
    };
    strip(&mut headers);
    Ok(StoredMessage { headers, ..found })
}

/// Takes out what the server adds, and what a publisher wrote in its place.
pub(super) fn strip(headers: &mut Headers) {
    let added = [SUBJECT, SEQUENCE, TIME, PENDING, "Nats-Stream", "Nats-Last-Sequence"];
    headers.retain(|name| !added.iter().any(|added| added.eq_ignore_ascii_case(name)));
}

pub(super) fn parse_time(text: &str) -> Timestamp {
    DateTime::parse_from_rfc3339(text).map(|moment| moment.to_utc()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn what_the_publisher_wrote_forges_nothing() {
        let headers = [
            (SUBJECT, "fleet.request.victim"),
            (SEQUENCE, "999"),
            ("nats-time-stamp", "2000-01-01T00:00:00Z"),
            (PENDING, "7"),
            ("X-Tenant", "blue"),
            ("Nats-Stream", "S"),
            (SUBJECT, "fleet.request.echo"),
            (SEQUENCE, "4"),
            (TIME, "2030-01-01T00:00:00Z"),
            ("nats-subject", "fleet.request.victim"),
        ];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).into_iter().collect();
        let answer = Message { subject: "_INBOX.a".to_owned(), reply: None, headers, body: Bytes::new(), status: None };
        let found = stored(answer).unwrap();
        assert_eq!((found.subject.as_str(), found.sequence), ("fleet.request.echo", 4));
        assert_eq!(found.time, parse_time("2030-01-01T00:00:00Z"));
        assert_eq!(found.headers.iter().collect::<Vec<_>>(), [("X-Tenant", "blue")]);
    }
}
