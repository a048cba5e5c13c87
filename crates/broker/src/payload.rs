//! Large bodies: stored in the object store before whatever refers to them, read chunk by chunk by direct get.
//!
//! The client library reads an object through a consumer of its own, and a stream stops at 1,000 of those; direct gets
//! need none.

use bytes::Bytes;
use protocol::{header, limits, topology::object_stream};
use serde::Deserialize;

use crate::{
    Connection, Outgoing, Reader,
    error::{Error, Kind},
    topology,
};

/// Chunks that are read at once.
const PAGE: usize = 64;

/// Stores and reads large bodies.
#[derive(Clone, Debug)]
pub struct PayloadStore {
    connection: Connection,
    reader: Reader,
    bucket: String,
}

#[derive(Deserialize)]
struct ObjectInfo {
    nuid: String,
    #[serde(default)]
    size: u64,
    #[serde(default)]
    deleted: bool,
}

/// What was read of a subject, where more is missed.
struct Less {
    subject: String,
    read: u64,
}

impl PayloadStore {
    /// The object store with this name, which the topology makes.
    pub fn new(connection: &Connection, bucket: impl Into<String>) -> Self {
        Self { connection: connection.clone(), reader: Reader::new(connection), bucket: bucket.into() }
    }

    /// The same, read by this reader.
    #[must_use]
    pub fn read_by(self, reader: &Reader) -> Self {
        Self { reader: reader.clone(), ..self }
    }

    /// A name that no other object has.
    pub fn new_name() -> String {
        format!("body-{}", uuid::Uuid::now_v7().simple())
    }

    /// Stores a body once under a new name, which is what a message refers to. Who tries again does so with
    /// [`put_as`](Self::put_as), or every try leaves an object of its own.
    ///
    /// # Errors
    /// Those of [`put_as`](Self::put_as).
    pub async fn put(&self, body: &[u8]) -> Result<String, Error> {
        let name = Self::new_name();
        self.put_as(&name, body).await?;
        Ok(name)
    }

    /// Stores a body under a name from [`new_name`](Self::new_name). The same body under the same name again is stored
    /// once: what an earlier try has stored whole stays, whatever that try was told.
    ///
    /// # Errors
    /// `TooLarge` past [`limits::BODY_BYTES_MAX`]; else what the store says.
    pub async fn put_as(&self, name: &str, body: &[u8]) -> Result<(), Error> {
        check_size(body.len() as u64, limits::BODY_BYTES_MAX)?;
        if matches!(self.read(name, limits::BODY_BYTES_MAX).await, Ok(Ok(stored)) if stored == body) {
            return Ok(());
        }
        let failed = |error: String| Error::new(Kind::TimedOut, format!("storing a large body: {error}"));
        let jetstream = async_nats::jetstream::new(self.connection.client().clone());
        let store = jetstream.get_object_store(&self.bucket).await.map_err(|error| failed(error.to_string()))?;
        let mut reader = body;
        store.put(name, &mut reader).await.map_err(|error| failed(error.to_string()))?;
        Ok(())
    }

    /// Makes a message fit: a body over [`limits::BODY_INLINE_BYTES_MAX`], or one that leaves no room for its headers in
    /// what the server takes, moves into the store, and the message refers to it.
    ///
    /// # Errors
    /// Those of [`PayloadStore::put`].
    pub async fn lighten(&self, outgoing: Outgoing) -> Result<Outgoing, Error> {
        self.lighten_as(&Self::new_name(), outgoing).await
    }

    /// The same under a name from [`new_name`](Self::new_name), for who tries again.
    ///
    /// # Errors
    /// Those of [`PayloadStore::put_as`].
    pub async fn lighten_as(&self, name: &str, mut outgoing: Outgoing) -> Result<Outgoing, Error> {
        let inline_max = self.connection.payload_bytes_max().saturating_sub(2 * limits::HEADERS_BYTES_MAX);
        if outgoing.body.len() > inline_max.min(limits::BODY_INLINE_BYTES_MAX) {
            self.put_as(name, &outgoing.body).await?;
            outgoing.headers.set(header::PAYLOAD_REF, name);
            outgoing.body = Bytes::new();
        }
        Ok(outgoing)
    }

    /// Reads a body.
    ///
    /// # Errors
    /// `NotFound` when it is not there, not whole (a replica may be behind: try again) or contradicts itself; `TooLarge`;
    /// or what reading says.
    pub async fn get(&self, name: &str) -> Result<Bytes, Error> {
        self.get_up_to(name, limits::BODY_BYTES_MAX).await
    }

    /// Reads a body of at most so many bytes; of a larger one nothing is read.
    ///
    /// # Errors
    /// Those of [`get`](Self::get).
    pub async fn get_up_to(&self, name: &str, bytes_max: usize) -> Result<Bytes, Error> {
        match self.read(name, bytes_max).await? {
            Ok(body) => Ok(body),
            Err(less) => Err(self
                .unread(&less)
                .await
                .unwrap_or_else(|| Error::new(Kind::NotFound, format!("object {name} is not in {}", self.bucket)))),
        }
    }

    async fn read(&self, name: &str, bytes_max: usize) -> Result<Result<Bytes, Less>, Error> {
        let stream = object_stream(&self.bucket);
        let meta = format!("$O.{}.M.{}", self.bucket, encoded(name));
        let Some(info) = self.reader.last(&stream, &meta).await? else {
            return Ok(Err(Less { subject: meta, read: 0 }));
        };
        let lies = |what: &str| Error::new(Kind::NotFound, format!("object {name} of {}: {what}", self.bucket));
        let info: ObjectInfo = serde_json::from_slice(&info.body).map_err(|_| lies("it is described by no JSON"))?;
        if info.deleted {
            return Err(lies("it was deleted"));
        }
        check_size(info.size, bytes_max)?;
        // Others may write here: a wildcard as its name would read everybody's chunks.
        if !is_plain_token(&info.nuid) {
            return Err(lies("its chunks have no plain name"));
        }
        let chunks = format!("$O.{}.C.{}", self.bucket, info.nuid);
        let (mut body, mut read) = (Vec::new(), 0);
        let mut from = Some(1);
        while let Some(sequence) = from {
            let page = self.reader.page(&stream, &chunks, sequence, PAGE).await?;
            read += page.messages.len() as u64;
            for chunk in page.messages {
                body.extend_from_slice(&chunk.body);
                if chunk.body.is_empty() || body.len() as u64 > info.size {
                    return Err(lies("its chunks are not those of its size"));
                }
            }
            from = page.next;
        }
        if body.len() as u64 != info.size {
            return Ok(Err(Less { subject: chunks, read }));
        }
        Ok(Ok(body.into()))
    }

    /// Whether the broker has more messages of a subject than were read: then it cannot open its files, or a replica is behind,
    /// and the object is there. Whoever may not ask so much is told what was read.
    async fn unread(&self, Less { subject, read }: &Less) -> Option<Error> {
        let stream = object_stream(&self.bucket);
        let counts = topology::subject_counts(&self.connection, &stream, subject).await.ok()?;
        (counts.into_values().sum::<u64>() > *read).then(|| Error::unread(&stream, subject))
    }
}

fn check_size(size: u64, bytes_max: usize) -> Result<(), Error> {
    if size > bytes_max as u64 {
        let message = format!("a body of {size} bytes; {bytes_max} are allowed");
        return Err(Error::new(Kind::TooLarge, message));
    }
    Ok(())
}

fn is_plain_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

/// Object names stand in subjects as URL-safe base64 with padding (NATS ADR-20).
fn encoded(name: &str) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for group in name.as_bytes().chunks(3) {
        let bits = group.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for index in 0..4 {
            let letter = ALPHABET[(bits >> (18 - 6 * index) & 63) as usize];
            text.push(if index <= group.len() { char::from(letter) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_encoded_as_in_the_standard() {
        for (name, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob?~", "Zm9vYj9-")] {
            assert_eq!(encoded(name), text);
        }
    }
}
