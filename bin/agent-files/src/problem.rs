//! What can go wrong with a file, and what that is to a caller.

use std::{io, path::PathBuf};

use protocol::{Failure, failure::Category};

/// What came, or why nothing did.
pub type Result<T> = std::result::Result<T, Problem>;

/// Why a file or folder could not be looked at, or a report not written.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// There is none of this name.
    #[error("{} does not exist on this machine", .0.display())]
    NotFound(PathBuf),
    /// It is outside of the folder that this agent may read.
    #[error("{} is outside of what this agent may read", .0.display())]
    Forbidden(PathBuf),
    /// The operating system does not let the agent read it.
    #[error("this agent has no permission to read {}", .0.display())]
    Unreadable(PathBuf),
    /// A folder, a pipe, a device or a socket.
    #[error("{} is no regular file", .0.display())]
    NotAFile(PathBuf),
    /// Something else than a folder.
    #[error("{} is no folder", .0.display())]
    NotAFolder(PathBuf),
    /// The disk or the machine failed.
    #[error("cannot read {}", .0.display())]
    Io(PathBuf, #[source] io::Error),
    /// What a report cannot be called.
    #[error("{0:?} is no name of a report: letters, digits, `.`, `-`, `_` and spaces, `.md` at its end")]
    NotAName(String),
    /// It is there, and it is nothing that this agent wrote.
    #[error("{} is there and is no report of this agent: name another one", .0.display())]
    NotAReport(PathBuf),
    /// The disk or the machine does not take it.
    #[error("cannot write {}", .0.display())]
    Unwritten(PathBuf, #[source] io::Error),
    /// Nobody wants the answer any more.
    #[error("was told to stop")]
    Stopped,
}

impl Problem {
    /// What an error of the operating system means for this path.
    pub(crate) fn of_io(path: &std::path::Path, error: io::Error) -> Self {
        let path = path.to_owned();
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Self::NotFound(path),
            // What no machine can have under such a name: a NUL in it, or too long.
            io::ErrorKind::InvalidInput | io::ErrorKind::InvalidFilename => Self::NotFound(path),
            io::ErrorKind::PermissionDenied => Self::Unreadable(path),
            io::ErrorKind::IsADirectory => Self::NotAFile(path),
            _ => Self::Io(path, error),
        }
    }

    /// The stable code that callers see.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotFound(_) => "not_found",
            Self::Forbidden(_) => "forbidden",
            Self::Unreadable(_) => "unreadable",
            Self::NotAFile(_) => "not_a_file",
            Self::NotAFolder(_) => "not_a_folder",
            Self::Io(..) => "read_failed",
            Self::NotAName(_) => "not_a_name",
            Self::NotAReport(_) => "not_a_report",
            Self::Unwritten(..) => "write_failed",
            Self::Stopped => "stopped",
        }
    }

    /// What a caller is told. `?` alone would make a failure of it that has lost its code.
    pub fn failure(&self) -> Failure {
        let mut failure = Failure::from_error(self).category(self.category());
        failure.code = self.code().to_owned();
        // A disk may recover and a new worker may be asked; all else stays as it is.
        match self {
            Self::Io(..) | Self::Unwritten(..) | Self::Stopped => failure,
            _ => failure.give_up(),
        }
    }

    fn category(&self) -> Category {
        match self {
            Self::Forbidden(_) | Self::Unreadable(_) | Self::NotAReport(_) => Category::Permission,
            Self::NotFound(_) | Self::NotAFile(_) | Self::NotAFolder(_) | Self::NotAName(_) => Category::Validation,
            Self::Io(..) | Self::Unwritten(..) => Category::Resource,
            Self::Stopped => Category::Execution,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn only_what_may_pass_is_tried_again() {
        let path = Path::new("/x");
        for (kind, code, retryable) in [
            (io::ErrorKind::NotFound, "not_found", false),
            (io::ErrorKind::NotADirectory, "not_found", false),
            (io::ErrorKind::InvalidInput, "not_found", false),
            (io::ErrorKind::PermissionDenied, "unreadable", false),
            (io::ErrorKind::IsADirectory, "not_a_file", false),
            (io::ErrorKind::Other, "read_failed", true),
        ] {
            let failure = Problem::of_io(path, kind.into()).failure();
            assert_eq!((failure.code.as_str(), failure.retryable), (code, retryable), "{kind}");
        }
        let forbidden = Problem::Forbidden("/x".into()).failure();
        assert_eq!((forbidden.code.as_str(), forbidden.category), ("forbidden", Category::Permission));
    }

    #[test]
    fn the_cause_is_told() {
        let failure = Problem::of_io(Path::new("/x"), io::Error::other("bad sector")).failure();
        assert_eq!(failure.message, "cannot read /x");
        assert_eq!(failure.causes, ["bad sector"]);
    }
}
