//! Dead letters as a thing: found by what they say, told as a whole story, sent again, dropped, carried elsewhere.
//!
//! A letter lies in its stream at `dead.<capability>.<id>` with the request's own body, until it is dropped or its time is
//! over. A replay is a new request beside it; the mark of one lies in the same stream, and lives at least as long.

mod archive;
mod bulk;
mod dropping;
mod filter;
mod groups;
mod letters;
mod marks;
mod replay;
mod rules;
mod story;

use broker::StoredMessage;
use bytes::Bytes;
use protocol::{Capability, ContentType, DeadLetter, Headers, RequestId, header, subject::filter as subjects};

pub use self::archive::{Archived, ArchivedBody, Imported};
pub use self::bulk::{ENDED_MIN, Pace, Rate, Tally};
pub use self::filter::Filter;
pub use self::groups::{Group, GroupBy};
pub use self::letters::Listed;
pub use self::replay::{Again, How, Replayed};
pub use self::rules::StoredRule;
pub use self::story::{Followed, Story};
use crate::{Client, Error};

/// A dead letter as it is kept: its story, and the request itself.
#[derive(Clone, Debug)]
pub struct StoredLetter {
    /// Why and how it was given up.
    pub letter: DeadLetter,
    /// The headers that stand beside the story: the request's own, and what is needed to send it again.
    pub headers: Headers,
    /// How the body is encoded.
    pub content_type: ContentType,
    /// The request's body; empty where it cannot be read.
    pub body: Bytes,
    /// Why the body cannot be read, where it lives in an object that is not there.
    pub body_fault: Option<String>,
    /// Its sequence in its stream.
    pub sequence: u64,
}

impl Client {
    /// The latest dead letters of one capability, or of all, at most `count_max`, oldest first.
    ///
    /// # Errors
    /// `StreamsMissing`, and what reading says.
    pub async fn dead_letters(
        &self,
        capability: Option<&Capability>,
        count_max: usize,
    ) -> Result<Vec<DeadLetter>, Error> {
        let filter = Filter { capability: capability.cloned(), ..Filter::default() };
        let found = self.dead_list(&filter, count_max).await?;
        Ok(found.into_iter().map(|listed| listed.letter).collect())
    }

    /// The dead letter of a request, with its body, wherever that lives; none if there is none. A body that is gone is
    /// told in the letter: the story is there all the same.
    ///
    /// # Errors
    /// `StreamsMissing`, and what reading says.
    pub async fn dead_letter(&self, id: &RequestId) -> Result<Option<StoredLetter>, Error> {
        match self.stored_letter(id).await? {
            Some(stored) => Ok(Some(self.with_letter_body(stored).await)),
            None => Ok(None),
        }
    }

    /// How many dead letters are kept. The marks of replays lie in the same stream and do not count.
    ///
    /// # Errors
    /// What asking says.
    pub async fn dead_count(&self) -> Result<u64, Error> {
        let stream = &self.names().dead;
        let all = match broker::topology::stream_state(self.connection(), stream).await {
            Ok(state) => state.messages,
            Err(error) => return Err(self.explained(error, stream).await),
        };
        let marks = self.reader().count(stream, &subjects::replayed(self.namespace(), None)).await?;
        Ok(all.saturating_sub(marks))
    }

    /// The letter with its body, if that lives in an object.
    async fn with_letter_body(&self, mut stored: StoredLetter) -> StoredLetter {
        let Some(object) = stored.headers.get(header::PAYLOAD_REF) else { return stored };
        match self.payload(object).await {
            Ok(body) => stored.body = body,
            Err(error) => stored.body_fault = Some(format!("object {object} cannot be read: {error}")),
        }
        stored
    }

    /// The letter as its message is, its body still a reference where it is one.
    pub(crate) async fn stored_letter(&self, id: &RequestId) -> Result<Option<StoredLetter>, Error> {
        let stream = &self.names().dead;
        let filter = subjects::dead_of(self.namespace(), id);
        match self.reader().last_of_each(stream, &[filter]).await {
            Ok(mut found) => Ok(found.pop().and_then(stored_letter)),
            Err(error) => Err(self.explained(error, stream).await),
        }
    }
}

fn stored_letter(message: StoredMessage) -> Option<StoredLetter> {
    let letter = DeadLetter::read(&message.headers)?;
    let content_type = ContentType::read(message.headers.get(header::CONTENT_TYPE));
    let StoredMessage { headers, body, sequence, .. } = message;
    Some(StoredLetter { letter, headers, content_type, body, body_fault: None, sequence })
}
