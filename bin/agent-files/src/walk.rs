//! The files of a folder: those that ignore files leave, in one order.

use std::{
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use ignore::WalkBuilder;

use crate::{Problem, Result, Root};

/// What was passed over.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Passed {
    /// Entries that could not be read, or whose name is not UTF-8.
    pub(crate) skipped: u64,
}

/// Shows every regular file at any depth, links not followed: where it is, and its name relative to the folder. It blocks
/// while it reads; `on_file` may break it off.
///
/// # Errors
/// `asked` is no folder that can be read, and what `on_file` says.
pub(crate) fn walk(
    root: &Root,
    asked: &Path,
    hidden: bool,
    mut on_file: impl FnMut(PathBuf, &str) -> Result<ControlFlow<()>>,
) -> Result<Passed> {
    let folder = root.resolve(None, asked)?;
    if !folder.is_dir() {
        return Err(Problem::NotAFolder(asked.to_owned()));
    }
    // Found out here, because the walk would only skip it.
    std::fs::read_dir(&folder).map_err(|error| Problem::of_io(asked, error))?;
    let mut passed = Passed::default();
    let entries = WalkBuilder::new(&folder)
        .hidden(!hidden)
        // What is listed follows from the tree, not from the agent's user or from what lies above a tree without git.
        .require_git(false)
        .parents(folder.ancestors().any(|above| above.join(".git").exists()))
        .git_global(false)
        // In this order a list that is cut is the beginning of the whole list.
        .sort_by_file_name(std::ffi::OsStr::cmp)
        .filter_entry(|entry| entry.file_name() != ".git")
        .build();
    for entry in entries {
        let Ok(entry) = entry else {
            passed.skipped += 1;
            continue;
        };
        if !entry.file_type().is_some_and(|kind| kind.is_file()) {
            continue;
        }
        let path = entry.into_path();
        let Some(name) = path.strip_prefix(&folder).ok().and_then(Path::to_str).map(str::to_owned) else {
            passed.skipped += 1;
            continue;
        };
        if on_file(path, &name)?.is_break() {
            break;
        }
    }
    Ok(passed)
}
