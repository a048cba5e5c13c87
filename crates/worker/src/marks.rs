//! Poison marks and the tries of unique work, in the state bucket.

use std::time::Duration;

use broker::{Bucket, Connection, Delivery, Publisher};
use protocol::{
    InstanceId, limits,
    mark::{Mark, UniqueTries, mark_key, tries_key},
};
use serde::{Serialize, de::DeserializeOwned};

/// What is remembered about messages.
#[derive(Clone, Debug)]
pub(crate) struct Marks {
    bucket: Bucket,
    instance: InstanceId,
}

impl Marks {
    pub(crate) fn new(connection: &Connection, publisher: &Publisher, bucket: String, instance: InstanceId) -> Self {
        Self { bucket: Bucket::new(connection, publisher, bucket), instance }
    }

    /// The marks on a message.
    pub(crate) async fn get(&self, delivery: &Delivery) -> Result<Mark, broker::Error> {
        let entry = self.bucket.get(&mark_key(delivery.stream(), delivery.sequence)).await?;
        Ok(read(entry.and_then(|entry| entry.value).as_ref()))
    }

    /// Puts this worker's mark on a message that was delivered before, and gives all that are there.
    pub(crate) async fn put(&self, delivery: &Delivery) -> Result<Mark, broker::Error> {
        let key = mark_key(delivery.stream(), delivery.sequence);
        let written = self
            .bucket
            .change(&key, Some(limits::MARK_TTL), |value| {
                let mut mark: Mark = read(value);
                mark.takers.push(self.instance.clone());
                write(&mark)
            })
            .await?;
        Ok(read(Some(&written)))
    }

    /// Takes this worker's mark back: the message is given back alive.
    pub(crate) async fn take_back(&self, delivery: &Delivery) -> Result<(), broker::Error> {
        let key = mark_key(delivery.stream(), delivery.sequence);
        let change = |value: Option<&bytes::Bytes>| {
            let mut mark: Mark = read(value);
            if let Some(at) = mark.takers.iter().rposition(|taker| *taker == self.instance) {
                mark.takers.remove(at);
            }
            write(&mark)
        };
        self.bucket.change(&key, Some(limits::MARK_TTL), change).await.map(|_| ())
    }

    /// The tries of a unique request so far.
    pub(crate) async fn tries(&self, delivery: &Delivery) -> Result<Option<UniqueTries>, broker::Error> {
        let entry = self.bucket.get(&tries_key(delivery.stream(), delivery.sequence)).await?;
        Ok(entry.and_then(|entry| entry.value).map(|value| read(Some(&value))))
    }

    /// Remembers the tries of a unique request over its wait, and a day longer.
    pub(crate) async fn remember_tries(
        &self,
        delivery: &Delivery,
        tries: &UniqueTries,
        wait: Duration,
    ) -> Result<(), broker::Error> {
        let key = tries_key(delivery.stream(), delivery.sequence);
        let change = |value: Option<&bytes::Bytes>| {
            let found: UniqueTries = read(value);
            // A worker that was late tells of tries that are overtaken.
            let is_overtaken = (found.attempt, found.snoozes) > (tries.attempt, tries.snoozes);
            write(if is_overtaken { &found } else { tries })
        };
        self.bucket.change(&key, Some(wait + limits::MARK_TTL), change).await.map(|_| ())
    }
}

fn read<T: DeserializeOwned + Default>(value: Option<&bytes::Bytes>) -> T {
    value.and_then(|value| serde_json::from_slice(value).ok()).unwrap_or_default()
}

fn write<T: Serialize>(value: &T) -> bytes::Bytes {
    serde_json::to_vec(value).unwrap_or_default().into()
}
