//! What a stream holds, without reading it: how much of each subject there is, and how it goes.

use std::collections::BTreeMap;

use futures_util::{StreamExt, TryStreamExt, stream};
use serde::Deserialize;
use serde_json::{Value, json};

use super::stream_state;
use crate::{
    Connection, Reader, api,
    error::{Error, Kind},
};

/// Messages of a replicated stream that are read before they are deleted, and deletes that wait for their answers at once.
const PAGE: usize = 500;
const AT_ONCE: usize = 16;

/// What a stream holds under a filter, by the leader's index of subjects, which needs no file to be read.
#[derive(Clone, Debug)]
pub struct Counted {
    /// How many messages there are of each subject.
    pub subjects: BTreeMap<String, u64>,
    /// The last sequence of the whole stream, just before they were counted.
    pub last_sequence: u64,
}

/// How many messages a stream holds of each subject under a filter.
///
/// # Errors
/// `NotFound`, or what the API says.
pub async fn subject_counts(
    connection: &Connection,
    stream: &str,
    filter: &str,
) -> Result<BTreeMap<String, u64>, Error> {
    Ok(counted(connection, stream, filter).await?.subjects)
}

/// The same, with where the stream was then.
///
/// # Errors
/// `NotFound`, or what the API says.
pub async fn counted(connection: &Connection, stream: &str, filter: &str) -> Result<Counted, Error> {
    #[derive(Deserialize)]
    struct Info {
        state: State,
    }
    #[derive(Deserialize)]
    struct State {
        last_seq: u64,
        #[serde(default)]
        subjects: BTreeMap<String, u64>,
    }
    let mut counted = Counted { subjects: BTreeMap::new(), last_sequence: u64::MAX };
    loop {
        let before = counted.subjects.len();
        let question = json!({ "subjects_filter": filter, "offset": before });
        let info: Info = api::ask(connection, &format!("STREAM.INFO.{stream}"), &question).await?;
        counted.last_sequence = counted.last_sequence.min(info.state.last_seq);
        counted.subjects.extend(info.state.subjects);
        if counted.subjects.len() == before || !counted.subjects.len().is_multiple_of(100_000) {
            return Ok(counted);
        }
    }
}

/// Removes what lies at a subject, up to (not including) a sequence if one is given; says how many messages went. What was
/// delivered may stay in its consumer's ack-pending until the deadline: acknowledge those too.
///
/// On one node it is a purge. On more each message is deleted, the oldest first: a purge that a server carries out just when it
/// takes up the lead of a consumer that it has led before makes that consumer forget what it has delivered and nobody has
/// acknowledged. It then says that all of it was acknowledged, and delivers none of it again. That befalls the consumers that the
/// purged subject lies under the filter of (2.15.1, 2026-11-22: all of 20 messages forgotten after 76 changes of the lead beside
/// purges of other subjects, none after 400 beside deletes; `o.setLeader` lets go of the lock before it has read its state).
///
/// # Errors
/// What the API says. Some may be gone then.
pub async fn purge(connection: &Connection, stream: &str, subject: &str, below: Option<u64>) -> Result<u64, Error> {
    let state = stream_state(connection, stream).await?;
    if state.stream.replicas > 1 {
        return delete_all(connection, stream, subject, below.unwrap_or(state.last_sequence + 1)).await;
    }
    #[derive(Deserialize)]
    struct Purged {
        purged: u64,
    }
    let question = match below {
        Some(sequence) => json!({ "filter": subject, "seq": sequence }),
        None => json!({ "filter": subject }),
    };
    Ok(api::ask::<_, Purged>(connection, &format!("STREAM.PURGE.{stream}"), &question).await?.purged)
}

async fn delete_all(connection: &Connection, stream: &str, subject: &str, below: u64) -> Result<u64, Error> {
    let reader = Reader::new(connection);
    let (mut gone, mut from) = (0, Some(1));
    while let Some(sequence) = from {
        let page = reader.page_at_leader(stream, subject, sequence, PAGE).await?;
        let sequences: Vec<u64> = page.messages.iter().map(|one| one.sequence).filter(|one| *one < below).collect();
        from = page.next.filter(|next| *next < below);
        gone += sequences.len() as u64;
        let deletes = stream::iter(sequences).map(|one| delete_message(connection, stream, one));
        deletes.buffered(AT_ONCE).try_collect::<()>().await?;
    }
    Ok(gone)
}

/// Deletes one message by sequence, if it is there. Measured on 2.15.1: 0.04 ms, however much the stream holds, while its consumers have been
/// given all of it; milliseconds where they have not.
///
/// # Errors
/// What the API says.
pub async fn delete_message(connection: &Connection, stream: &str, sequence: u64) -> Result<(), Error> {
    let question = json!({ "seq": sequence, "no_erase": true });
    match api::ask::<_, Value>(connection, &format!("STREAM.MSG.DELETE.{stream}"), &question).await {
        // Whoever wanted it gone was second.
        Err(error) if error.kind() == Kind::NotFound => Ok(()),
        answer => answer.map(|_| ()),
    }
}
