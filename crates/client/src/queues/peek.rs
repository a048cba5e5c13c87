//! Looking at what lies in a queue, without taking it.

use broker::StoredMessage;
use bytes::Bytes;
use protocol::{
    Capability, ContentType, Headers, Request, RequestId, Subject, UniqueKey,
    time::Timestamp,
    topology::{Source, worker_consumer},
};

use crate::{Client, Error};

/// Messages that one read asks for: their bodies come along, so this is less than the server would give.
const PAGE: usize = 64;

/// A message as it lies in a queue.
#[derive(Clone, Debug)]
pub struct Peeked {
    /// The request's id.
    pub id: RequestId,
    /// The message's sequence in its stream.
    pub sequence: u64,
    /// The key, of unique work.
    pub key: Option<UniqueKey>,
    /// When it was published, on the broker's clock.
    pub published_at: Timestamp,
    /// Whether it was delivered at least once: then an agent has it, or it waits for its redelivery.
    pub was_delivered: bool,
    /// Which attempt comes next, from 1; 1 where its headers are refused.
    pub attempt: u32,
    /// After which nobody starts it.
    pub deadline: Option<Timestamp>,
    /// Why whoever takes it will refuse it, where its headers say nonsense.
    pub fault: Option<String>,
    /// How the body is encoded.
    pub content_type: ContentType,
    /// The object that holds the body, where it is a large one.
    pub payload_ref: Option<String>,
    /// Its headers.
    pub headers: Headers,
    /// Its body; empty where it is an object.
    pub body: Bytes,
}

impl Client {
    /// The first messages of a queue, at most `count_max`, the oldest first. They stay where they are.
    ///
    /// # Errors
    /// `StreamsMissing`, and what reading says.
    pub async fn peek(&self, capability: &Capability, source: Source, count_max: usize) -> Result<Vec<Peeked>, Error> {
        let consumer = worker_consumer(self.namespace(), capability, source, 1);
        let delivered =
            match broker::topology::consumer_state(self.connection(), &consumer.stream, &consumer.name).await {
                Ok(state) => state.delivered,
                // Nobody served it yet.
                Err(error) if error.kind() == broker::Kind::NotFound => 0,
                Err(error) => return Err(self.explained(error, &consumer.stream).await),
            };
        let (mut found, mut from) = (Vec::new(), Some(1));
        while let Some(sequence) = from
            && found.len() < count_max
        {
            let count = PAGE.min(count_max - found.len());
            let page = match self.reader().page(&consumer.stream, &consumer.filter, sequence, count).await {
                Ok(page) => page,
                Err(error) => return Err(self.explained(error, &consumer.stream).await),
            };
            found.extend(page.messages.into_iter().map(|message| self.peeked(message, source, delivered)));
            from = page.next;
        }
        Ok(found)
    }

    fn peeked(&self, message: StoredMessage, source: Source, delivered: u64) -> Peeked {
        let fallback = id_of_sequence(source, message.sequence);
        let (request, fault) = match Request::read(&message.headers, fallback.clone()) {
            Ok(request) => (Some(request), None),
            Err(invalid) => (None, Some(invalid.failure.message)),
        };
        let key = match Subject::parse(self.namespace(), &message.subject) {
            Some(Subject::Unique { key, .. }) => Some(key),
            _ => None,
        };
        Peeked {
            id: request.as_ref().map_or(fallback, |request| request.id.clone()),
            sequence: message.sequence,
            key,
            published_at: message.time,
            was_delivered: message.sequence <= delivered,
            attempt: request.as_ref().map_or(1, |request| request.attempt),
            deadline: request.as_ref().and_then(|request| request.deadline),
            fault,
            content_type: ContentType::read(message.headers.get(protocol::header::CONTENT_TYPE)),
            payload_ref: message.headers.get(protocol::header::PAYLOAD_REF).map(str::to_owned),
            headers: message.headers,
            body: message.body,
        }
    }
}

/// The id of a message that names none.
pub(crate) fn id_of_sequence(source: Source, sequence: u64) -> RequestId {
    match source {
        Source::Lane(_) => RequestId::of_sequence(sequence),
        Source::Unique => RequestId::of_unique_sequence(sequence),
    }
}
