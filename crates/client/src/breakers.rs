//! Circuit breakers: what the fleet knows of what its handlers call.

use broker::Kind;
use protocol::{
    BreakerName,
    breaker::{self, Breaker, State},
};
use serde::Serialize;

use crate::{Client, Error, ErrorKind};

/// How often a reset is tried against others who write the breaker.
const RESET_TRIES: u32 = 20;

/// One breaker.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NamedBreaker {
    /// Its name, unless told otherwise that of a capability.
    pub name: BreakerName,
    /// Where it stands now: an open one whose time is over is half open, whatever was written last.
    pub now: State,
    /// As it was last written.
    #[serde(flatten)]
    pub breaker: Breaker,
}

impl Client {
    /// Every breaker that ever opened, by name.
    ///
    /// # Errors
    /// `StreamsMissing`, and what reading says.
    pub async fn breakers(&self) -> Result<Vec<NamedBreaker>, Error> {
        let bucket = &self.names().state;
        let entries = match self.bucket(bucket).list(breaker::KEY_FILTER).await {
            Ok(entries) => entries,
            Err(error) => return Err(self.explained(error, &Self::bucket_stream(bucket)).await),
        };
        let now = self.now().await?;
        let read = |entry: &broker::Entry| {
            let breaker: Breaker = serde_json::from_slice(entry.value.as_deref()?).ok()?;
            Some(NamedBreaker { name: breaker::name_of(&entry.key)?, now: breaker.state_at(now), breaker })
        };
        let mut breakers: Vec<NamedBreaker> = entries.iter().filter_map(read).collect();
        breakers.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(breakers)
    }

    /// Closes a breaker at once, and gives it as it was before.
    ///
    /// # Errors
    /// `NotFound` where none of this name ever opened, `StreamsMissing`, and what reading and storing say.
    pub async fn reset_breaker(&self, name: &BreakerName) -> Result<NamedBreaker, Error> {
        let (bucket, key) = (self.bucket(&self.names().state), breaker::key(name));
        for _ in 0..RESET_TRIES {
            let found = match bucket.get(&key).await {
                Ok(found) => found,
                Err(error) => return Err(self.explained(error, &Self::bucket_stream(bucket.name())).await),
            };
            let now = self.now().await?;
            let revision = found.as_ref().map_or(0, |entry| entry.revision);
            let value = found.and_then(|entry| entry.value);
            let Some(before) = value.and_then(|value| serde_json::from_slice::<Breaker>(&value).ok()) else {
                let message =
                    format!("no circuit breaker {name} ever opened; `sortie breaker list` shows those that did");
                return Err(Error::new(ErrorKind::NotFound, message));
            };
            let mut after = before.clone();
            after.reset(now);
            let value = serde_json::to_vec(&after).map_err(|error| Error::invalid(error.to_string()))?;
            match bucket.update(&key, value, revision, None).await {
                Ok(_) => return Ok(NamedBreaker { name: name.clone(), now: before.state_at(now), breaker: before }),
                Err(error) if matches!(error.kind(), Kind::WrongSequence | Kind::Contended) => {
                    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(Error::new(ErrorKind::TimedOut, format!("circuit breaker {name} is written by others all the time")))
    }
}
