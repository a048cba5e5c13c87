//! Programs for tests.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Puts an executable shell script at `path`.
///
/// Another process writes it: had this one ever held it open for writing, a child started by another thread at that
/// moment would hold it too, and running it would fail with "text file busy".
pub(crate) fn script(path: PathBuf, text: &str) -> PathBuf {
    let plain = path.with_extension("text");
    fs::write(&plain, format!("#!/bin/sh\n{text}\n")).unwrap_or_else(|error| panic!("{}: {error}", plain.display()));
    let installed = Command::new("install").args(["-m", "755"]).args([plain.as_path(), Path::new(&path)]).status();
    assert!(installed.is_ok_and(|status| status.success()), "{} cannot be made", path.display());
    path
}
