//! The folder that keeps what the server stores, held by one `sortie up` at a time.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use process::{
    ExitCode, Problem,
    settings::{Environment, environment as variable},
};

/// The folder, locked until this is dropped: two servers on one store would destroy it.
#[derive(Debug)]
pub(super) struct Store {
    folder: PathBuf,
    _lock: File,
}

impl Store {
    /// Makes the folder if it is not there, and takes it.
    ///
    /// # Errors
    /// It cannot be made or written, or another one has it.
    pub(super) fn open(chosen: Option<PathBuf>, environment: &Environment) -> Result<Self, Problem> {
        let folder = chosen.map_or_else(|| default_folder(environment), Ok)?;
        let unusable = |error: io::Error| {
            Problem::new(ExitCode::Configuration, format!("{} cannot be the store: {error}", folder.display()))
                .advise("name another folder with --store")
        };
        fs::create_dir_all(&folder).map_err(unusable)?;
        let folder = fs::canonicalize(&folder).map_err(unusable)?;
        let lock = File::create(folder.join("up.lock")).map_err(unusable)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { folder, _lock: lock }),
            Err(fs::TryLockError::Error(error)) => Err(unusable(error)),
            Err(fs::TryLockError::WouldBlock) => {
                let message = format!("{} is the store of another `sortie up` that runs", folder.display());
                Err(Problem::new(ExitCode::Configuration, message).advise("name another folder with --store"))
            }
        }
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }
}

fn default_folder(environment: &Environment) -> Result<PathBuf, Problem> {
    match (environment.get(variable::XDG_DATA_HOME), environment.get(variable::HOME)) {
        (Some(data), _) => Ok(Path::new(data).join("sortie")),
        (None, Some(home)) => Ok(Path::new(home).join(".local/share/sortie")),
        (None, None) => {
            Err(Problem::new(ExitCode::Configuration, "HOME is not set, so there is no place for the store")
                .advise("name a folder with --store"))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
    use super::*;

    #[test]
    fn a_store_is_held_by_one_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let open = || Store::open(Some(folder.path().join("new")), &Environment::default());
        let held = open().unwrap();
        let refused = open().unwrap_err();
        assert!(refused.code == ExitCode::Configuration && refused.to_string().contains("--store"), "{refused}");
        drop(held);
        assert!(open().is_ok());
    }

    #[test]
    fn the_default_is_where_data_of_users_goes() {
        let folder = |variables: &[(&'static str, &str)]| default_folder(&Environment::of(variables.to_vec()));
        assert_eq!(folder(&[("HOME", "/h")]), Ok("/h/.local/share/sortie".into()));
        assert_eq!(folder(&[("HOME", "/h"), ("XDG_DATA_HOME", "/d")]), Ok("/d/sortie".into()));
        assert!(folder(&[]).is_err());
    }
}
