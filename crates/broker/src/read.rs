//! Reading what is stored, without consumers: by direct get, which any replica answers.
//!
//! On a replicated stream a replica may be behind right after an acknowledgement (3 to 5 % of reads measured): whoever
//! needs certainty reads from the leader, or lets an expected sequence decide.

use std::time::Duration;

use bytes::Bytes;
use chrono::DateTime;
use protocol::{Headers, time::Timestamp};
use serde::Deserialize;
use serde_json::json;

use crate::{
    Connection, Message, Outgoing, api,
    error::{Error, Kind},
};

/// How long the answer to a direct get is waited for, and then once more. A read is harmless to repeat, and what a server
/// has in hand when it leaves is never answered.
const READ_TIMEOUTS: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(2)];

/// Subjects that one multi-get may name: the server stops at 1,024 results.
const MANY_MAX: usize = 1_000;

/// What the server adds to a stored message that it answers with.
const SUBJECT: &str = "Nats-Subject";
const SEQUENCE: &str = "Nats-Sequence";
const TIME: &str = "Nats-Time-Stamp";
/// What it adds to the end of an answer, too.
const PENDING: &str = "Nats-Num-Pending";

/// A message as it is stored.
#[derive(Clone, Debug)]
pub struct StoredMessage {
    /// Its subject.
    pub subject: String,
    /// Its sequence.
    pub sequence: u64,
    /// When it was stored.
    pub time: Timestamp,
    /// Its headers.
    pub headers: Headers,
    /// Its body.
    pub body: Bytes,
}

/// Some messages of a scan, and where to go on.
#[derive(Clone, Debug)]
pub struct Page {
    /// The messages, by sequence.
    pub messages: Vec<StoredMessage>,
    /// The sequence to go on from; none at the end.
    pub next: Option<u64>,
}

/// Reads streams.
#[derive(Clone, Debug)]
pub struct Reader {
    connection: Connection,
}

#[derive(Deserialize)]
struct LeaderAnswer {
    message: LeaderMessage,
}

#[derive(Deserialize)]
struct LeaderMessage {
    subject: String,
    seq: u64,
    time: String,
}

impl Reader {
    /// One for a connection.
    pub fn new(connection: &Connection) -> Self {
        Self { connection: connection.clone() }
    }

    /// The last message of a subject.
    ///
    /// # Errors
    /// `TimedOut`, `NoResponders` when the stream is not there.
    pub async fn last(&self, stream: &str, subject: &str) -> Result<Option<StoredMessage>, Error> {
        self.one(format!("$JS.API.DIRECT.GET.{stream}.{subject}"), Bytes::new()).await
    }

    /// The message with a sequence.
    ///
    /// # Errors
    /// `TimedOut`, `NoResponders` when the stream is not there.
    pub async fn by_sequence(&self, stream: &str, sequence: u64) -> Result<Option<StoredMessage>, Error> {
        let body = json!({ "seq": sequence }).to_string();
        self.one(format!("$JS.API.DIRECT.GET.{stream}"), body.into()).await
    }

    /// The last message of each of these subjects, which may have wildcards; absent ones are left out.
    ///
    /// # Errors
    /// `TimedOut`, `NoResponders` when the stream is not there.
    pub async fn last_of_each(&self, stream: &str, subjects: &[String]) -> Result<Vec<StoredMessage>, Error> {
        let mut found = Vec::new();
        for some in subjects.chunks(MANY_MAX) {
            let body = json!({ "multi_last": some }).to_string();
            found.extend(self.many(stream, body).await?.messages);
        }
        Ok(found)
    }

    /// Up to `count` messages under a filter, from a sequence on.
    ///
    /// # Errors
    /// `TimedOut`, `NoResponders` when the stream is not there.
    pub async fn page(&self, stream: &str, filter: &str, from: u64, count: usize) -> Result<Page, Error> {
        let body = json!({ "batch": count, "next_by_subj": filter, "seq": from.max(1) }).to_string();
        self.many(stream, body).await
    }

    /// Whether the leader has a message on this subject, by its sequence: the certain answer on a replicated stream.
    ///
    /// # Errors
    /// `TimedOut`, `NoResponders` when there is no leader.
    pub async fn last_sequence_at_leader(
        &self,
        stream: &str,
        subject: &str,
    ) -> Result<Option<(u64, Timestamp)>, Error> {
        let what = format!("STREAM.MSG.GET.{stream}");
        match api::ask::<_, LeaderAnswer>(&self.connection, &what, &json!({ "last_by_subj": subject })).await {
            Ok(LeaderAnswer { message }) if message.subject == subject || subject.contains('*') => {
                Ok(Some((message.seq, parse_time(&message.time))))
            }
            Ok(_) => Ok(None),
            Err(error) if error.kind() == Kind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether the leader still has the message with this sequence: the certain answer on a replicated stream.
    ///
    /// # Errors
    /// `TimedOut`, `NoResponders` when there is no leader.
    pub async fn is_at_leader(&self, stream: &str, sequence: u64) -> Result<bool, Error> {
        let what = format!("STREAM.MSG.GET.{stream}");
        match api::ask::<_, LeaderAnswer>(&self.connection, &what, &json!({ "seq": sequence })).await {
            Ok(LeaderAnswer { message }) => Ok(message.seq == sequence),
            Err(error) if error.kind() == Kind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn one(&self, subject: String, body: Bytes) -> Result<Option<StoredMessage>, Error> {
        let asking = |timeout| self.connection.request(subject.clone(), None, body.clone(), timeout);
        let answer = again(asking).await.map_err(|error| error.during(&subject))?;
        match answer.status.clone().filter(|_| answer.headers.last(SEQUENCE).is_none()) {
            Some((404, _)) => Ok(None),
            Some((code, text)) => Err(Error::new(Kind::Api(u64::from(code)), text)),
            None => stored(answer).map(Some),
        }
    }

    async fn many(&self, stream: &str, body: String) -> Result<Page, Error> {
        again(|timeout| self.many_once(stream, body.clone(), timeout)).await
    }

    async fn many_once(&self, stream: &str, body: String, timeout: Duration) -> Result<Page, Error> {
        let inbox = self.connection.new_inbox();
        let mut answers = self.connection.subscribe(inbox.clone()).await?;
        let question = Outgoing::new(format!("$JS.API.DIRECT.GET.{stream}"), body);
        self.connection.publish_asking(question, inbox).await?;
        let mut page = Page { messages: Vec::new(), next: None };
        loop {
            let silence = || Error::new(Kind::TimedOut, format!("reading {stream}: no answer"));
            let answer = tokio::time::timeout(timeout, answers.next()).await.map_err(|_| silence())?;
            let answer = answer.ok_or_else(silence)?;
            // A publisher may have stored a status; only the broker's own has no sequence behind it.
            let Some((code, text)) = answer.status.clone().filter(|_| answer.headers.last(SEQUENCE).is_none()) else {
                let message = stored(answer)?;
                if page.messages.last().is_some_and(|last| last.sequence >= message.sequence) {
                    return Err(Error::new(Kind::Invalid, format!("reading {stream}: sequences do not grow")));
                }
                page.messages.push(message);
                continue;
            };
            match code {
                204 => {
                    let pending = answer.headers.last(PENDING).and_then(|text| text.parse().ok());
                    if pending.unwrap_or(0_u64) > 0 {
                        page.next = page.messages.last().map(|message| message.sequence + 1);
                    }
                    return Ok(page);
                }
                404 => return Ok(page),
                503 => return Err(Error::new(Kind::NoResponders, format!("stream {stream} is not there"))),
                _ => return Err(Error::new(Kind::Api(u64::from(code)), text)),
            }
        }
    }
}

/// Asks until there is an answer, or every timeout has passed.
async fn again<T, F, Fut>(ask: F) -> Result<T, Error>
where
    F: Fn(Duration) -> Fut,
    Fut: Future<Output = Result<T, Error>>,
{
    let [first @ .., last] = READ_TIMEOUTS;
    for timeout in first {
        match ask(timeout).await {
            Err(error) if error.kind() == Kind::TimedOut => {}
            answered => return answered,
        }
    }
    ask(last).await
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
        body: answer.body,
    };
    for name in [SUBJECT, SEQUENCE, TIME, PENDING, "Nats-Stream", "Nats-Last-Sequence"] {
        headers.remove(name);
    }
    Ok(StoredMessage { headers, ..found })
}

fn parse_time(text: &str) -> Timestamp {
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
