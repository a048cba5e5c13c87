//! What a stream holds, without reading it: how much of each subject there is, and how it goes.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::{Connection, api, error::Error};

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

/// Purges a subject, up to (not including) a sequence if one is given; says how many messages went. A purge leaves what
/// was delivered in its consumer's ack-pending until the deadline: acknowledge those too.
///
/// # Errors
/// What the API says.
pub async fn purge(connection: &Connection, stream: &str, subject: &str, below: Option<u64>) -> Result<u64, Error> {
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

/// Deletes one message by sequence. Measured on 2.15.1: 0.04 ms, however much the stream holds, while its consumers have been
/// given all of it; milliseconds where they have not.
///
/// # Errors
/// `NotFound` where it is gone already; else what the API says.
pub async fn delete_message(connection: &Connection, stream: &str, sequence: u64) -> Result<(), Error> {
    let question = json!({ "seq": sequence, "no_erase": true });
    api::ask::<_, Value>(connection, &format!("STREAM.MSG.DELETE.{stream}"), &question).await.map(|_| ())
}
