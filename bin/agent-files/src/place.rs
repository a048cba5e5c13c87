//! Which file a request means, and whether this agent may look at it.

use std::{
    fs::{File, Metadata, OpenOptions},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use nix::fcntl::OFlag;

use crate::{Problem, Result};

/// The folder that an agent may read. Defaults to everything.
///
/// Symbolic links are followed first and judged by where they lead. It guards against what requests ask for, not
/// against somebody who swaps folders on the agent's own disk in the same instant.
#[derive(Debug, Clone, Default)]
pub struct Root(Option<PathBuf>);

impl Root {
    /// Everything that the operating system lets the agent read.
    pub fn everything() -> Self {
        Self(None)
    }

    /// Only what is in this folder.
    ///
    /// # Errors
    /// It is no folder that can be read.
    pub fn folder(path: &Path) -> Result<Self> {
        let root = path.canonicalize().map_err(|error| Problem::of_io(path, error))?;
        if !root.is_dir() {
            return Err(Problem::NotAFolder(path.to_owned()));
        }
        Ok(Self(Some(root)))
    }

    /// Where `path` leads: inside of `base` if there is one, and inside of this folder.
    ///
    /// A relative path begins at `base`, a relative base at this folder, or at the working directory.
    ///
    /// # Errors
    /// It does not exist, or is outside.
    pub fn resolve(&self, base: Option<&Path>, path: &Path) -> Result<PathBuf> {
        let start = self.0.as_deref().unwrap_or(Path::new(""));
        let Some(base) = base else { return self.real(&start.join(path), path) };
        let real_base = self.real(&start.join(base), base)?;
        let real = self.real(&real_base.join(path), path)?;
        if !real.starts_with(&real_base) {
            return Err(Problem::Forbidden(path.to_owned()));
        }
        Ok(real)
    }

    fn real(&self, full: &Path, asked: &Path) -> Result<PathBuf> {
        let real = match full.canonicalize() {
            Ok(real) => real,
            // Whether something exists outside is nobody's business either.
            Err(_) if self.leads_outside(full) => return Err(Problem::Forbidden(asked.to_owned())),
            Err(error) => return Err(Problem::of_io(asked, error)),
        };
        match &self.0 {
            Some(root) if !real.starts_with(root) => Err(Problem::Forbidden(asked.to_owned())),
            _ => Ok(real),
        }
    }

    /// For a path that cannot be resolved: whether the part of it that can be is outside.
    fn leads_outside(&self, full: &Path) -> bool {
        let Some(root) = &self.0 else { return false };
        let known = full.ancestors().find_map(|part| part.canonicalize().ok());
        known.is_none_or(|known| !known.starts_with(root))
    }
}

/// Opens a regular file, and nothing else.
pub(crate) fn open_file(path: &Path, asked: &Path) -> Result<(File, Metadata)> {
    let failed = |error| Problem::of_io(asked, error);
    // Else the open itself would wait for a writer, if this is a pipe.
    let flags = OFlag::O_NONBLOCK.bits();
    let seen = path.metadata().map_err(failed)?;
    if !seen.is_file() {
        return Err(Problem::NotAFile(asked.to_owned()));
    }
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(Problem::NotAFile(asked.to_owned()));
    }
    Ok((file, metadata))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    /// `outside`, `in/a`, `in/deep/b`, `in/out -> ../outside`, `in/ok -> deep/b`, `in/gone -> ../nothing`
    fn tree() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let at = |path: &str| folder.path().join(path);
        fs::create_dir_all(at("in/deep")).unwrap();
        for path in ["outside", "in/a", "in/deep/b"] {
            fs::write(at(path), "x").unwrap();
        }
        symlink("../outside", at("in/out")).unwrap();
        symlink("deep/b", at("in/ok")).unwrap();
        symlink("../nothing", at("in/gone")).unwrap();
        folder
    }

    fn code(result: Result<PathBuf>) -> &'static str {
        result.map_or_else(|problem| problem.code(), |_| "fine")
    }

    #[test]
    fn a_root_confines_with_links_followed() {
        let tree = tree();
        let root = Root::folder(&tree.path().join("in")).unwrap();
        let outside = tree.path().join("outside");
        let inside = tree.path().join("in/a");
        let prefix = tree.path().join("in-not");
        fs::create_dir(&prefix).unwrap();
        for (path, expected) in [
            (Path::new("a"), "fine"),
            (Path::new("ok"), "fine"),
            (Path::new("deep/../a"), "fine"),
            (&inside, "fine"),
            (Path::new("."), "fine"),
            (Path::new("out"), "forbidden"),
            (Path::new("../outside"), "forbidden"),
            (Path::new("../nothing"), "forbidden"),
            (Path::new("/nowhere/at/all"), "forbidden"),
            (&outside, "forbidden"),
            (&prefix, "forbidden"),
            (Path::new("missing"), "not_found"),
            (Path::new("a/b"), "not_found"),
            (Path::new("nul\0"), "not_found"),
        ] {
            assert_eq!(code(root.resolve(None, path)), expected, "{}", path.display());
        }
    }

    #[test]
    fn a_request_may_confine_itself_further() {
        let tree = tree();
        let base = tree.path().join("in/deep");
        let resolve = |root: &Root, base: &Path, path: &str| code(root.resolve(Some(base), Path::new(path)));
        let everything = Root::everything();
        assert_eq!(resolve(&everything, &base, "b"), "fine");
        assert_eq!(resolve(&everything, &base, "../a"), "forbidden");
        let root = Root::folder(&tree.path().join("in")).unwrap();
        assert_eq!(resolve(&root, Path::new("deep"), "b"), "fine");
        assert_eq!(resolve(&root, Path::new(".."), "outside"), "forbidden");
    }

    #[test]
    fn a_root_is_a_folder() {
        let tree = tree();
        let code = |path: &str| Root::folder(&tree.path().join(path)).map_or_else(|problem| problem.code(), |_| "fine");
        assert_eq!((code("in"), code("in/a"), code("none")), ("fine", "not_a_folder", "not_found"));
    }

    #[test]
    fn only_regular_files_are_opened_and_a_pipe_does_not_block() {
        let tree = tree();
        let pipe = tree.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        for path in [pipe, tree.path().join("in")] {
            assert_eq!(open_file(&path, &path).unwrap_err().code(), "not_a_file");
        }
        assert!(open_file(&tree.path().join("in/a"), Path::new("a")).is_ok());
    }
}
