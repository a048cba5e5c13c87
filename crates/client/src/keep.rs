//! Keys of the configuration and workflow buckets, written only where nobody was in between.

use std::time::{Duration, Instant};

use broker::{Bucket, Disposition, Kind};
use protocol::topology;

use crate::{Client, Error, ErrorKind};

/// How long one write is tried: longer than a replicated bucket goes without a leader.
const WRITTEN_WITHIN: Duration = Duration::from_secs(15);

/// How far apart tries are.
const WAIT: Duration = Duration::from_millis(50);

impl Client {
    pub(crate) fn config_bucket(&self) -> Bucket {
        self.bucket(&self.names().config)
    }

    /// Writes a key of the configuration, as [`Client::keep_in`] does.
    ///
    /// # Errors
    /// `Conflict` when somebody was first; else what publishing says.
    pub(crate) async fn keep(&self, key: &str, value: Vec<u8>, revision: u64) -> Result<u64, Error> {
        self.keep_in(&self.config_bucket(), key, value, revision).await
    }

    /// Writes a key if its revision is this one, 0 where it was never written, and says the new one. Whatever has to be
    /// tried again for it, it is written once: a refusal after a time-out may be this very write, so it is compared.
    ///
    /// # Errors
    /// `Conflict` when somebody was first; else what publishing says.
    pub(crate) async fn keep_in(
        &self,
        bucket: &Bucket,
        key: &str,
        value: Vec<u8>,
        revision: u64,
    ) -> Result<u64, Error> {
        let until = Instant::now() + WRITTEN_WITHIN;
        let mut is_unsure = false;
        loop {
            match bucket.update(key, value.clone(), revision, None).await {
                Ok(revision) => return Ok(revision),
                Err(error) if error.kind() == Kind::WrongSequence => {
                    let found = bucket.get(key).await.map_err(Error::from)?;
                    let is_ours = |entry: &broker::Entry| entry.value.as_deref() == Some(value.as_slice());
                    return match found.filter(|entry| is_unsure && is_ours(entry)) {
                        Some(entry) => Ok(entry.revision),
                        None => Err(Error::new(
                            ErrorKind::Conflict,
                            format!(
                                "somebody changed {key} meanwhile; nothing was changed: look again and decide anew"
                            ),
                        )),
                    };
                }
                Err(error)
                    if error.disposition() == Disposition::Retry
                        && error.kind() != Kind::StoreFull
                        && Instant::now() < until =>
                {
                    is_unsure = true;
                    tokio::time::sleep(WAIT).await;
                }
                Err(error) => return Err(self.explained(error, &topology::bucket_stream(bucket.name())).await),
            }
        }
    }

    pub(crate) fn config_stream(&self) -> String {
        topology::bucket_stream(&self.names().config)
    }
}
