//! Reading what is stored, without consumers: by direct get, which any replica answers.
//!
//! On a replicated stream a replica may be behind right after an acknowledgement (3 to 5 % of reads measured): whoever
//! needs certainty reads from the leader, or lets an expected sequence decide.

use std::time::Duration;

use bytes::Bytes;
use protocol::{Headers, time::Timestamp};
use serde_json::json;

use crate::{
    Connection,
    error::{Error, Kind},
    topology,
};

mod apart;
mod direct;
mod leader;

use apart::Apart;

/// How long the answer to a direct get is waited for, and then once more. A read is harmless to repeat, and what a server
/// has in hand when it leaves is never answered.
const READ_TIMEOUTS: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(2)];

/// Subjects that one multi-get may name: the server stops at 1,024 results.
const MANY_MAX: usize = 1_000;

/// The status with which the server says that there would be more than that.
const TOO_MANY_RESULTS: u64 = 413;

/// What one answer may take, in bytes; it holds one message at least.
const PAGE_BYTES_MAX: usize = 8 * 1024 * 1024;

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
    /// Whether its headers are headers. Else they are what could be read of them, and [`Headers::check`] refuses them.
    pub is_readable: bool,
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
    /// How many there are beyond these, as the broker counts; none where it does not say.
    pub remaining: Option<u64>,
}

/// Reads streams.
///
/// What its publisher wrote into a message's headers may be such that the client library cannot read them, and drops the
/// connection. Such a message, and what lies around it, is read from the leader, which answers in another form.
#[derive(Clone, Debug)]
pub struct Reader {
    connection: Connection,
    apart: Option<Apart>,
}

impl Reader {
    /// One for a connection.
    pub fn new(connection: &Connection) -> Self {
        Self { connection: connection.clone(), apart: None }
    }

    /// One that reads over a connection of its own: what cannot be read ends only that one, and another is made.
    pub fn apart(connection: &Connection) -> Self {
        Self { connection: connection.clone(), apart: Some(Apart::new(connection)) }
    }

    /// The last message of a subject.
    ///
    /// # Errors
    /// `TimedOut`, `NoResponders` when the stream is not there.
    pub async fn last(&self, stream: &str, subject: &str) -> Result<Option<StoredMessage>, Error> {
        match self.one(format!("$JS.API.DIRECT.GET.{stream}.{subject}"), Bytes::new()).await? {
            Some(found) => Ok(found),
            None => leader::message(&self.connection, stream, &json!({ "last_by_subj": subject })).await,
        }
    }

    /// The message with a sequence.
    ///
    /// # Errors
    /// `TimedOut`, `NoResponders` when the stream is not there.
    pub async fn by_sequence(&self, stream: &str, sequence: u64) -> Result<Option<StoredMessage>, Error> {
        let question = json!({ "seq": sequence });
        match self.one(format!("$JS.API.DIRECT.GET.{stream}"), question.to_string().into()).await? {
            Some(found) => Ok(found),
            None => leader::message(&self.connection, stream, &question).await,
        }
    }

    /// The last message of each of these subjects, which may have wildcards; absent ones are left out. By sequence; a
    /// subject that is written meanwhile may come twice.
    ///
    /// # Errors
    /// `TimedOut`, `NoResponders` when the stream is not there.
    pub async fn last_of_each(&self, stream: &str, subjects: &[String]) -> Result<Vec<StoredMessage>, Error> {
        let mut found = Vec::new();
        self.each_last(stream, subjects, &mut |message| found.push(message)).await?;
        Ok(found)
    }

    /// The same, handed over as they come: no more than 8 MiB of them are held, however many subjects there are.
    ///
    /// # Errors
    /// `TimedOut`, `NoResponders` when the stream is not there.
    pub async fn each_last(
        &self,
        stream: &str,
        subjects: &[String],
        each: &mut (dyn FnMut(StoredMessage) + Send),
    ) -> Result<(), Error> {
        let mut rest: Vec<&[String]> = subjects.chunks(MANY_MAX).rev().collect();
        while let Some(some) = rest.pop() {
            // Without a bound of its own the server ends an answer at 64 MiB, and says nothing of what is missing.
            let mut from = Some(1);
            while let Some(sequence) = from {
                let question = json!({ "multi_last": some, "seq": sequence, "max_bytes": PAGE_BYTES_MAX });
                let page = match self.many(stream, question.to_string()).await {
                    // Wildcards that mean more than the server's 1,024 results.
                    Err(error) if error.kind() == Kind::Api(TOO_MANY_RESULTS) && some.len() > 1 => {
                        let (first, second) = some.split_at(some.len() / 2);
                        rest.extend([second, first]);
                        break;
                    }
                    page => page?,
                };
                let Some(page) = page else {
                    leader::last_of_each(&self.connection, stream, some).await?.into_iter().for_each(&mut *each);
                    break;
                };
                page.messages.into_iter().for_each(&mut *each);
                from = page.next;
            }
        }
        Ok(())
    }

    /// Up to `count` messages under a filter, from a sequence on; fewer where they would take more than 8 MiB.
    ///
    /// # Errors
    /// `TimedOut`, `NoResponders` when the stream is not there.
    pub async fn page(&self, stream: &str, filter: &str, from: u64, count: usize) -> Result<Page, Error> {
        let from = from.max(1);
        if !self.apart.as_ref().is_some_and(|apart| apart.is_unreadable(stream, filter, from)) {
            let question = json!({ "batch": count, "next_by_subj": filter, "seq": from, "max_bytes": PAGE_BYTES_MAX });
            if let Some(page) = self.many(stream, question.to_string()).await? {
                return Ok(page);
            }
        }
        let page = leader::page(&self.connection, stream, filter, from, count).await?;
        if let Some(apart) = &self.apart {
            apart.note(stream, filter, from, &page);
        }
        Ok(page)
    }

    /// How many messages lie under a filter, without reading more than the first.
    ///
    /// # Errors
    /// `TimedOut`, `NoResponders` when the stream is not there.
    pub async fn count(&self, stream: &str, filter: &str) -> Result<u64, Error> {
        let page = self.page(stream, filter, 1, 1).await?;
        Ok(page.messages.len() as u64 + page.remaining.unwrap_or(0))
    }

    /// The sequence of the first message under a filter that was stored at this moment or later; none where there is none.
    ///
    /// # Errors
    /// `TimedOut`, `NoResponders` when the stream is not there.
    pub async fn first_since(&self, stream: &str, filter: &str, since: Timestamp) -> Result<Option<u64>, Error> {
        let since = protocol::time::format(since);
        let question = json!({ "batch": 1, "next_by_subj": filter, "start_time": since });
        match self.many(stream, question.to_string()).await? {
            Some(page) => Ok(page.messages.first().map(|message| message.sequence)),
            // The answer breaks the connection: whoever reads from the beginning finds it all the same.
            None => Ok(Some(1)),
        }
    }

    /// Whether anything lies under a filter: the certain answer on a replicated stream, and also where the server cannot
    /// read its files. The leader's index of subjects says it.
    ///
    /// # Errors
    /// `TimedOut`, `NoResponders` when there is no leader, or no stream.
    pub async fn has(&self, stream: &str, filter: &str) -> Result<bool, Error> {
        match topology::subject_counts(&self.connection, stream, filter).await {
            Ok(counts) => Ok(!counts.is_empty()),
            Err(error) if error.kind() == Kind::NotFound => Err(Error::new(Kind::NoResponders, error.to_string())),
            Err(error) => Err(error),
        }
    }

    /// The last message of a subject, from the leader: the certain answer on a replicated stream.
    ///
    /// # Errors
    /// `TimedOut`, also when it is there and the server cannot read it; `NoResponders` when there is no leader.
    pub async fn last_at_leader(&self, stream: &str, subject: &str) -> Result<Option<StoredMessage>, Error> {
        let found = self.last_as_leader_reads(stream, subject).await?;
        // Measured on 2.15.1: a server that has no files left to open, or cannot read one, answers "no message found".
        if found.is_some() || !self.has(stream, subject).await? {
            return Ok(found);
        }
        let stored_meanwhile = self.last_as_leader_reads(stream, subject).await?;
        stored_meanwhile.map_or_else(|| Err(Error::unread(stream, subject)), |message| Ok(Some(message)))
    }

    /// The same in one question, where none is the usual answer, and a wrong one does little harm: none also when it is there and
    /// the server cannot read it.
    ///
    /// # Errors
    /// `TimedOut`, `NoResponders` when there is no leader.
    pub async fn last_as_leader_reads(&self, stream: &str, subject: &str) -> Result<Option<StoredMessage>, Error> {
        leader::message(&self.connection, stream, &json!({ "last_by_subj": subject })).await
    }

    /// Up to `count` messages under a filter, from a sequence on, one by one from the leader: the certain answer on a
    /// replicated stream.
    ///
    /// # Errors
    /// `TimedOut`, `NoResponders` when there is no leader.
    pub async fn page_at_leader(&self, stream: &str, filter: &str, from: u64, count: usize) -> Result<Page, Error> {
        leader::page(&self.connection, stream, filter, from.max(1), count).await
    }

    /// The same, of which only sequence and time are wanted.
    ///
    /// # Errors
    /// Those of [`last_at_leader`](Self::last_at_leader).
    pub async fn last_sequence_at_leader(
        &self,
        stream: &str,
        subject: &str,
    ) -> Result<Option<(u64, Timestamp)>, Error> {
        let found = self.last_at_leader(stream, subject).await?;
        Ok(found.map(|message| (message.sequence, message.time)))
    }

    /// Whether the leader still has the message with this sequence: the certain answer on a replicated stream.
    ///
    /// # Errors
    /// `TimedOut`, `NoResponders` when there is no leader.
    pub async fn is_at_leader(&self, stream: &str, sequence: u64) -> Result<bool, Error> {
        let found = leader::message(&self.connection, stream, &json!({ "seq": sequence })).await?;
        Ok(found.is_some_and(|message| message.sequence == sequence))
    }

    /// None when the connection broke over it.
    async fn one(&self, subject: String, body: Bytes) -> Result<Option<Option<StoredMessage>>, Error> {
        let asking = |connection, timeout| direct::one(connection, subject.clone(), body.clone(), timeout);
        self.ask(asking).await.map_err(|error| error.during(&subject))
    }

    /// None when the connection broke over it.
    async fn many(&self, stream: &str, body: String) -> Result<Option<Page>, Error> {
        self.ask(|connection, timeout| direct::many(connection, stream, body.clone(), timeout)).await
    }

    /// Asks until there is an answer, or every timeout has passed. None when the connection broke meanwhile, and again
    /// when that was asked once more: it is the answer that breaks it.
    async fn ask<T, F, Fut>(&self, ask: F) -> Result<Option<T>, Error>
    where
        F: Fn(Connection, Duration) -> Fut,
        Fut: Future<Output = Result<T, Error>>,
    {
        let mut breaks = 0;
        let mut silence = Error::new(Kind::TimedOut, "the connection broke before the answer came");
        for timeout in READ_TIMEOUTS {
            let connection = match &self.apart {
                Some(apart) => apart.side.connection().await?,
                None => self.connection.clone(),
            };
            tokio::select! {
                biased;
                () = connection.broken() => breaks += 1,
                answered = ask(connection.clone(), timeout) => match answered {
                    Err(error) if connection.has_ended().await => {
                        breaks += 1;
                        silence = error;
                    }
                    Err(error) if error.kind() == Kind::TimedOut => {
                        // A panic that prints where it came from takes seconds, in which its connection is neither there
                        // nor gone. What nobody answers over a connection of its own is asked of the leader.
                        if let Some(apart) = &self.apart {
                            apart.side.leave(&connection);
                            breaks += 1;
                        }
                        silence = error;
                    }
                    answered => return answered.map(Some),
                },
            }
            if breaks == 2 {
                return Ok(None);
            }
        }
        Err(silence)
    }
}
