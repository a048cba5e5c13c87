//! The capabilities `write-report` and `delete-report`: the one folder that this agent writes into.

mod markdown;

use std::{
    fs,
    io::{self, Read, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{FileReport, Problem, Result, Secret};

/// The first line of every report. What does not begin with it is never written over and never deleted.
const MARK: &str = "<!-- a report of sortie agent-files -->";

/// The longest name of a report, in bytes.
const NAME_BYTES_MAX: usize = 200;

/// The folder of reports. Files in it that are no reports are left alone.
#[derive(Debug, Clone)]
pub struct Reports(PathBuf);

/// What to write a report of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WriteReport {
    /// What the report is called: a name that ends with `.md`, without folders. A report of that name is replaced.
    pub name: String,
    /// The folder that was examined, as the report shows it.
    pub folder: PathBuf,
    /// What `examine-file` said of each file.
    pub files: Vec<FileReport>,
    /// Files that could not be examined. Defaults to 0.
    #[serde(default)]
    pub missing: u64,
    /// What `find-secrets` found. Defaults to nothing.
    #[serde(default)]
    pub secrets: Vec<Secret>,
    /// Who approved it although there are secrets. Defaults to nobody.
    #[serde(default)]
    pub approved_by: String,
}

/// A report that was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Written {
    /// What it is called.
    pub name: String,
    /// Where it is, on the agent's machine.
    pub path: PathBuf,
    /// How many files it is about.
    pub files: u64,
    /// Its size.
    pub bytes: u64,
}

/// Which report to delete.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeleteReport {
    /// What it is called.
    pub name: String,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Deleted {
    /// Whether there was one.
    pub deleted: bool,
}

impl Reports {
    /// In this folder.
    ///
    /// # Errors
    /// It is no folder.
    pub fn folder(path: &Path) -> Result<Self> {
        let folder = path.canonicalize().map_err(|error| Problem::of_io(path, error))?;
        if !folder.is_dir() {
            return Err(Problem::NotAFolder(path.to_owned()));
        }
        Ok(Self(folder))
    }

    /// Writes a report, whole or not at all; the same one twice is one. It blocks while it writes.
    ///
    /// # Errors
    /// The name is none, or that of a file that is no report; the folder cannot be written into.
    pub fn write(&self, input: &WriteReport) -> Result<Written> {
        let path = self.place(&input.name)?;
        let text = format!("{MARK}\n{}", markdown::text(input));
        let unwritten = |error| Problem::Unwritten(path.clone(), error);
        let mut file = tempfile::Builder::new()
            .prefix(".report-")
            .permissions(fs::Permissions::from_mode(0o644))
            .tempfile_in(&self.0)
            .map_err(unwritten)?;
        file.write_all(text.as_bytes()).map_err(unwritten)?;
        file.persist(&path).map_err(|error| unwritten(error.error))?;
        Ok(Written { name: input.name.clone(), files: input.files.len() as u64, bytes: text.len() as u64, path })
    }

    /// Deletes a report.
    ///
    /// # Errors
    /// The name is none, or that of a file that is no report; the folder cannot be written into.
    pub fn delete(&self, input: &DeleteReport) -> Result<Deleted> {
        let path = self.place(&input.name)?;
        match fs::remove_file(&path) {
            Ok(()) => Ok(Deleted { deleted: true }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Deleted { deleted: false }),
            Err(error) => Err(Problem::Unwritten(path, error)),
        }
    }

    /// Whether a report of this name may be written.
    ///
    /// # Errors
    /// The name is none, or that of a file that is no report.
    pub fn check(&self, name: &str) -> Result<()> {
        self.place(name).map(|_| ())
    }

    /// Where a report lies or will lie.
    fn place(&self, name: &str) -> Result<PathBuf> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b' ');
        let is_name = name.ends_with(".md") && !name.starts_with('.') && name.len() <= NAME_BYTES_MAX;
        if !is_name || !name.bytes().all(is_plain) {
            return Err(Problem::NotAName(name.chars().take(NAME_BYTES_MAX).collect()));
        }
        let path = self.0.join(name);
        match is_report(&path) {
            Ok(true) => Ok(path),
            Ok(false) => Err(Problem::NotAReport(path)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(path),
            Err(error) => Err(Problem::Unwritten(path, error)),
        }
    }
}

fn is_report(path: &Path) -> io::Result<bool> {
    if !path.symlink_metadata()?.is_file() {
        return Ok(false);
    }
    let mut beginning = Vec::new();
    fs::File::open(path)?.take(MARK.len() as u64).read_to_end(&mut beginning)?;
    Ok(beginning == MARK.as_bytes())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
    use super::*;

    fn report(name: &str) -> WriteReport {
        WriteReport {
            name: name.to_owned(),
            folder: "/src".into(),
            files: Vec::new(),
            missing: 0,
            secrets: Vec::new(),
            approved_by: String::new(),
        }
    }

    #[test]
    fn a_report_is_written_again_and_deleted_once() {
        let folder = tempfile::tempdir().unwrap();
        let reports = Reports::folder(folder.path()).unwrap();
        let first = reports.write(&report("a.md")).unwrap();
        assert_eq!(first.bytes, fs::metadata(&first.path).unwrap().len());
        assert_eq!(reports.write(&report("a.md")).unwrap(), first);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
        let delete = |name: &str| reports.delete(&DeleteReport { name: name.to_owned() });
        assert!(delete("a.md").unwrap().deleted);
        assert!(!delete("a.md").unwrap().deleted);
    }

    #[test]
    fn nothing_else_is_touched() {
        let folder = tempfile::tempdir().unwrap();
        let reports = Reports::folder(folder.path()).unwrap();
        fs::write(folder.path().join("mine.md"), "# Mine\n").unwrap();
        std::os::unix::fs::symlink("/etc/hostname", folder.path().join("link.md")).unwrap();
        for (name, code) in [
            ("mine.md", "not_a_report"),
            ("link.md", "not_a_report"),
            ("../a.md", "not_a_name"),
            ("/tmp/a.md", "not_a_name"),
            ("a.txt", "not_a_name"),
            (".md", "not_a_name"),
            ("", "not_a_name"),
        ] {
            assert_eq!(reports.write(&report(name)).unwrap_err().code(), code, "{name}");
            let deleted = reports.delete(&DeleteReport { name: name.to_owned() });
            assert_eq!(deleted.unwrap_err().code(), code, "{name}");
        }
        assert_eq!(fs::read_to_string(folder.path().join("mine.md")).unwrap(), "# Mine\n");
        assert_eq!(Reports::folder(Path::new("/dev/null")).unwrap_err().code(), "not_a_folder");
    }
}
