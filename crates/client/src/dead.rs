//! Dead letters: what was given up, why, and once more from the start.

use std::collections::VecDeque;

use broker::StoredMessage;
use bytes::Bytes;
use protocol::{
    Backoff, Capability, ContentType, DeadLetter, Headers, RequestId, TraceContext, duration, header, retry,
    subject::filter,
};

use crate::{Client, Error, ErrorKind, Receipt, RequestBuilder};

/// Messages that one read asks for: their bodies come along, so this is less than the server would give.
const PAGE: usize = 64;

/// A dead letter as it is kept: its story, and the request itself.
#[derive(Clone, Debug)]
pub struct StoredLetter {
    /// Why and how it was given up.
    pub letter: DeadLetter,
    /// The headers that stand beside the story: the request's own, and what is needed to send it again.
    pub headers: Headers,
    /// How the body is encoded.
    pub content_type: ContentType,
    /// The request's body.
    pub body: Bytes,
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
        let stream = &self.names().dead;
        let filter = filter::dead(self.namespace(), capability);
        let mut latest = VecDeque::new();
        let mut from = Some(1);
        while let Some(sequence) = from {
            let page = match self.reader().page(stream, &filter, sequence, PAGE).await {
                Ok(page) => page,
                Err(error) => return Err(self.explained(error, stream).await),
            };
            latest.extend(page.messages.iter().filter_map(|message| DeadLetter::read(&message.headers)));
            latest.drain(..latest.len().saturating_sub(count_max));
            from = page.next;
        }
        Ok(latest.into())
    }

    /// The dead letter of a request, with its body, wherever that lives; none if there is none.
    ///
    /// # Errors
    /// `StreamsMissing`, `Unreadable` for a large body that is gone, and what reading says.
    pub async fn dead_letter(&self, id: &RequestId) -> Result<Option<StoredLetter>, Error> {
        let Some(mut stored) = self.stored_letter(id).await? else { return Ok(None) };
        if let Some(object) = stored.headers.get(header::PAYLOAD_REF) {
            stored.body = self.payloads().get(object).await.map_err(|error| {
                Error::new(ErrorKind::Unreadable, format!("the body of request {id} cannot be read: {error}")).about(id)
            })?;
        }
        Ok(Some(stored))
    }

    /// Sends the request of a dead letter again, as a new request with a new id that names the old one: its first
    /// attempt, in the lane it came by, with its body, its headers and its policy, without its deadline. The dead letter
    /// stays. What was unique has lost its key and comes back as an ordinary request.
    ///
    /// # Errors
    /// `NotFound` when there is no such dead letter; else those of [`RequestBuilder::submit`].
    pub async fn replay(&self, id: &RequestId) -> Result<Receipt, Error> {
        let missing = || Error::new(ErrorKind::NotFound, format!("there is no dead letter of request {id}")).about(id);
        let stored = self.stored_letter(id).await?.ok_or_else(missing)?;
        self.again(stored).submit().await
    }

    fn again(&self, stored: StoredLetter) -> RequestBuilder<'static> {
        let StoredLetter { letter, headers, content_type, body } = stored;
        let mut builder = self.request_encoded(&letter.capability, content_type, body).lane(letter.lane);
        let wish = &mut builder.wish;
        wish.replay_of = Some(letter.id);
        wish.payload_ref = headers.get(header::PAYLOAD_REF).map(str::to_owned);
        wish.parent = headers.get(header::PARENT).map(str::to_owned);
        // What cannot be read was refused when the request was given up, and must not refuse it again.
        wish.timeout = headers.get(header::TIMEOUT).and_then(|text| duration::parse(text).ok());
        wish.attempts = headers.get(header::MAX_ATTEMPTS).and_then(|text| retry::parse_attempts(text).ok());
        wish.backoff = headers.get(header::BACKOFF).and_then(|text| text.parse::<Backoff>().ok());
        wish.trace = TraceContext::read(&headers);
        wish.headers = headers.foreign();
        builder
    }

    async fn stored_letter(&self, id: &RequestId) -> Result<Option<StoredLetter>, Error> {
        let stream = &self.names().dead;
        let filter = filter::dead_of(self.namespace(), id);
        match self.reader().last_of_each(stream, &[filter]).await {
            Ok(mut found) => Ok(found.pop().and_then(stored_letter)),
            Err(error) => Err(self.explained(error, stream).await),
        }
    }
}

fn stored_letter(message: StoredMessage) -> Option<StoredLetter> {
    let letter = DeadLetter::read(&message.headers)?;
    let content_type = ContentType::read(message.headers.get(header::CONTENT_TYPE));
    Some(StoredLetter { letter, headers: message.headers, content_type, body: message.body })
}
