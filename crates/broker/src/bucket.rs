//! A key-value bucket, spoken to as the stream that it is.
//!
//! The client library's bucket loses a key's TTL on update, and its create falls back to an update without TTL over an
//! expired key, which leaks a lease for ever. A raw publish with the TTL and the expected revision does neither.

use std::time::Duration;

use bytes::Bytes;
use protocol::{
    Headers, header,
    topology::{bucket_stream, bucket_subject},
};

use crate::{
    Connection, Outgoing, Publisher, Reader, StoredMessage,
    error::{Error, Kind},
};

/// Messages that one read of a whole bucket asks for at a time.
const PAGE: usize = 500;

/// One key of a bucket.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Its revision; one that is expected by an update, and a fencing token for leases.
    pub revision: u64,
    /// Its value; none where it was deleted or has expired and the marker still stands.
    pub value: Option<Bytes>,
}

/// A bucket.
#[derive(Clone, Debug)]
pub struct Bucket {
    name: String,
    publisher: Publisher,
    reader: Reader,
}

impl Bucket {
    /// The bucket with this name, which the topology makes.
    pub fn new(connection: &Connection, publisher: &Publisher, name: impl Into<String>) -> Self {
        Self { name: name.into(), publisher: publisher.clone(), reader: Reader::new(connection) }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The same, read by this reader.
    #[must_use]
    pub fn read_by(self, reader: &Reader) -> Self {
        Self { reader: reader.clone(), ..self }
    }

    /// A key, by direct get: a replica may be behind. Correctness comes from the expected revision of the next write.
    ///
    /// # Errors
    /// What reading says.
    pub async fn get(&self, key: &str) -> Result<Option<Entry>, Error> {
        let found = self.reader.last(&bucket_stream(&self.name), &bucket_subject(&self.name, key)).await?;
        Ok(found.map(|message| self.entry(message)))
    }

    /// Several keys at once, absent ones left out.
    ///
    /// # Errors
    /// What reading says.
    pub async fn get_many(&self, keys: impl IntoIterator<Item = String>) -> Result<Vec<Entry>, Error> {
        let subjects: Vec<String> = keys.into_iter().map(|key| bucket_subject(&self.name, &key)).collect();
        if subjects.is_empty() {
            return Ok(Vec::new());
        }
        let found = self.reader.last_of_each(&bucket_stream(&self.name), &subjects).await?;
        Ok(found.into_iter().map(|message| self.entry(message)).collect())
    }

    /// Every live key under a filter such as `>` or `exec.*`, in the order in which they were written.
    ///
    /// # Errors
    /// What reading says.
    pub async fn list(&self, filter: &str) -> Result<Vec<Entry>, Error> {
        let (stream, filter) = (bucket_stream(&self.name), bucket_subject(&self.name, filter));
        let mut entries = std::collections::BTreeMap::new();
        let mut from = Some(1);
        while let Some(sequence) = from {
            let page = self.reader.page(&stream, &filter, sequence, PAGE).await?;
            for message in page.messages {
                let entry = self.entry(message);
                entries.insert(entry.key.clone(), entry);
            }
            from = page.next;
        }
        let mut live: Vec<Entry> = entries.into_values().filter(|entry| entry.value.is_some()).collect();
        live.sort_by_key(|entry| entry.revision);
        Ok(live)
    }

    /// Writes a key whatever it holds.
    ///
    /// # Errors
    /// What publishing says, after trying for five seconds.
    pub async fn put(&self, key: &str, value: impl Into<Bytes>, ttl: Option<Duration>) -> Result<u64, Error> {
        let outgoing = self.outgoing(key, value.into(), ttl);
        Ok(self.publisher.publish_within(&outgoing, Duration::from_secs(5)).await?.sequence)
    }

    /// Writes a key if its revision is this one; 0 means that it was never written.
    ///
    /// # Errors
    /// `WrongSequence` when somebody was first, `Contended` when that is not settled yet; else what publishing says.
    pub async fn update(
        &self,
        key: &str,
        value: impl Into<Bytes>,
        revision: u64,
        ttl: Option<Duration>,
    ) -> Result<u64, Error> {
        let outgoing = self.outgoing(key, value.into(), ttl).expecting(revision);
        Ok(self.publisher.publish(&outgoing).await?.sequence)
    }

    /// Removes a key, whatever it holds.
    ///
    /// # Errors
    /// What publishing says, after trying for five seconds.
    pub async fn remove(&self, key: &str) -> Result<(), Error> {
        self.publisher.publish_within(&self.removal(key), Duration::from_secs(5)).await.map(|_| ())
    }

    /// Removes a key if its revision is this one.
    ///
    /// # Errors
    /// `WrongSequence` when somebody wrote it meanwhile; else what publishing says, after trying for five seconds.
    pub async fn remove_at(&self, key: &str, revision: u64) -> Result<(), Error> {
        let outgoing = self.removal(key).expecting(revision);
        self.publisher.publish_within(&outgoing, Duration::from_secs(5)).await.map(|_| ())
    }

    /// Reads, changes and writes a key until nobody was in between, at most twenty times.
    ///
    /// # Errors
    /// What reading and publishing say; `Contended` when others were always first.
    pub async fn change<F>(&self, key: &str, ttl: Option<Duration>, mut change: F) -> Result<Bytes, Error>
    where
        F: FnMut(Option<&Bytes>) -> Bytes + Send,
    {
        for _ in 0..20 {
            let entry = self.get(key).await?;
            let revision = entry.as_ref().map_or(0, |entry| entry.revision);
            let value = change(entry.as_ref().and_then(|entry| entry.value.as_ref()));
            match self.update(key, value.clone(), revision, ttl).await {
                Ok(_) => return Ok(value),
                Err(error) if matches!(error.kind(), Kind::WrongSequence | Kind::Contended) => {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                Err(error) => return Err(error),
            }
        }
        Err(Error::new(Kind::Contended, format!("key {key} of {} is written by others all the time", self.name)))
    }

    fn removal(&self, key: &str) -> Outgoing {
        let mut outgoing = self.outgoing(key, Bytes::new(), None);
        outgoing.headers.set(header::KV_OPERATION, "PURGE");
        outgoing.headers.set("Nats-Rollup", "sub");
        outgoing
    }

    fn outgoing(&self, key: &str, value: Bytes, ttl: Option<Duration>) -> Outgoing {
        let outgoing = Outgoing::new(bucket_subject(&self.name, key), value).with_headers(Headers::new());
        match ttl {
            Some(ttl) => outgoing.with_ttl(ttl),
            None => outgoing,
        }
    }

    fn entry(&self, message: StoredMessage) -> Entry {
        let is_marker = message.headers.get(header::KV_OPERATION).is_some_and(|operation| operation != "PUT")
            || message.headers.get(header::NATS_MARKER_REASON).is_some();
        let prefix = bucket_subject(&self.name, "");
        Entry {
            key: message.subject.strip_prefix(&prefix).unwrap_or(&message.subject).to_owned(),
            revision: message.sequence,
            value: (!is_marker).then_some(message.body),
        }
    }
}
