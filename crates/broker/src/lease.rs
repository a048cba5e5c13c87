//! A lease on a duty that one of many processes does at a time. It is no mutual exclusion: a frozen holder comes back
//! unaware. So whatever is done under it is harmless when done twice.

use std::time::{Duration, Instant};

use crate::{
    Bucket,
    error::{Error, Kind},
};

/// A lease, held or not.
#[derive(Debug)]
pub struct Lease {
    bucket: Bucket,
    key: String,
    owner: String,
    ttl: Duration,
    held_until: Option<Instant>,
}

impl Lease {
    /// On a key, for an owner, running out after `ttl` when it is not renewed.
    pub fn new(bucket: Bucket, key: impl Into<String>, owner: impl Into<String>, ttl: Duration) -> Self {
        Self { bucket, key: key.into(), owner: owner.into(), ttl, held_until: None }
    }

    /// Takes or renews it. Call it at least three times per `ttl`.
    ///
    /// # Errors
    /// What reading and publishing say; the lease may still be held then, see [`Lease::is_held`].
    pub async fn hold(&mut self) -> Result<bool, Error> {
        let asked = Instant::now();
        let entry = self.bucket.get(&self.key).await?;
        let revision = entry.as_ref().map_or(0, |entry| entry.revision);
        let owner = entry.and_then(|entry| entry.value);
        if owner.as_ref().is_some_and(|owner| owner != self.owner.as_bytes()) {
            self.held_until = None;
            return Ok(false);
        }
        match self.bucket.update(&self.key, self.owner.clone(), revision, Some(self.ttl)).await {
            Ok(_) => {
                self.held_until = Some(asked + self.ttl);
                Ok(true)
            }
            Err(error) if matches!(error.kind(), Kind::WrongSequence | Kind::Contended) => Ok(self.is_held()),
            Err(error) => Err(error),
        }
    }

    /// Whether it is held, by this process's monotonic clock.
    pub fn is_held(&self) -> bool {
        self.held_until.is_some_and(|until| Instant::now() < until)
    }

    /// Gives it back, so that another one need not wait until it runs out.
    ///
    /// # Errors
    /// What publishing says.
    pub async fn release(&mut self) -> Result<(), Error> {
        if self.held_until.take().is_none() {
            return Ok(());
        }
        let Some(entry) = self.bucket.get(&self.key).await? else { return Ok(()) };
        if entry.value.is_none_or(|owner| owner != self.owner.as_bytes()) {
            return Ok(());
        }
        match self.bucket.remove_at(&self.key, entry.revision).await {
            // It ran out, and another one has it since.
            Err(error) if error.kind() == Kind::WrongSequence => Ok(()),
            ended => ended,
        }
    }
}
