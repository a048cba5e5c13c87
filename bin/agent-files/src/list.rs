//! The capability `list-files`.

use std::{ops::ControlFlow, path::PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Problem, Result, Root, walk::walk};

/// How many files a list has if the request says nothing.
pub const FILES_DEFAULT: usize = 10_000;
/// How many files a list can have. At 100 bytes a name it is 10 MB.
pub const FILES_MAX: usize = 100_000;

/// Which files to list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListFiles {
    /// The folder. If it is relative, it begins at the agent's root or working directory.
    pub path: PathBuf,
    /// Whether to list files and folders whose name begins with a dot. Git's own folder never is. Defaults to false.
    #[serde(default)]
    pub hidden: bool,
    /// How many files to list, 100,000 at most. Defaults to 10,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<usize>,
}

/// The files of a folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FileList {
    /// The folder, as it was asked for.
    pub path: PathBuf,
    /// Regular files at any depth that `.gitignore` and `.ignore` leave, relative to the folder, in order.
    pub files: Vec<String>,
    /// Whether there are more than these.
    pub truncated: bool,
    /// Entries left out because they could not be read or their name is not UTF-8.
    pub skipped: u64,
}

/// Lists the files of a folder, links not followed. `on_file` hears how many were found so far, and may break it off.
/// It blocks while it reads.
///
/// # Errors
/// [`Problem`] lists them.
pub fn list(input: &ListFiles, root: &Root, mut on_file: impl FnMut(usize) -> ControlFlow<()>) -> Result<FileList> {
    let max = input.max.unwrap_or(FILES_DEFAULT).min(FILES_MAX);
    let mut list = FileList { path: input.path.clone(), files: Vec::new(), truncated: false, skipped: 0 };
    let passed = walk(root, &input.path, input.hidden, |_, name| {
        if list.files.len() == max {
            list.truncated = true;
            return Ok(ControlFlow::Break(()));
        }
        list.files.push(name.to_owned());
        match on_file(list.files.len()) {
            ControlFlow::Break(()) => Err(Problem::Stopped),
            ControlFlow::Continue(()) => Ok(ControlFlow::Continue(())),
        }
    })?;
    list.skipped = passed.skipped;
    Ok(list)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
    use std::{ffi::OsStr, fs, os::unix::ffi::OsStrExt, path::Path};

    use super::*;

    fn tree(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for path in files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        folder
    }

    fn list_of(folder: &Path, hidden: bool, max: Option<usize>) -> FileList {
        let input = ListFiles { path: folder.to_owned(), hidden, max };
        list(&input, &Root::everything(), |_| ControlFlow::Continue(())).unwrap()
    }

    #[test]
    fn files_come_in_order_without_what_is_ignored_or_hidden() {
        let folder = tree(&["b/x", "a-b", "a/z", "a/b/y", ".git/config", ".hidden", "target/out", "b/target/in"]);
        fs::write(folder.path().join(".gitignore"), "/target\n").unwrap();
        std::os::unix::fs::symlink("a-b", folder.path().join("link")).unwrap();
        let list = list_of(folder.path(), false, None);
        assert_eq!(list.files, ["a/b/y", "a/z", "a-b", "b/target/in", "b/x"]);
        assert!(list.files.is_sorted_by_key(Path::new));
        assert_eq!((list.truncated, list.skipped), (false, 0));
        let hidden = list_of(folder.path(), true, None);
        assert_eq!(hidden.files, [".gitignore", ".hidden", "a/b/y", "a/z", "a-b", "b/target/in", "b/x"]);
    }

    #[test]
    fn what_lies_above_counts_in_a_checkout_only() {
        let folder = tree(&["in/a.log", "in/b"]);
        fs::write(folder.path().join(".gitignore"), "*.log\n").unwrap();
        assert_eq!(list_of(&folder.path().join("in"), false, None).files, ["a.log", "b"]);
        fs::create_dir(folder.path().join(".git")).unwrap();
        assert_eq!(list_of(&folder.path().join("in"), false, None).files, ["b"]);
    }

    #[test]
    fn a_cut_list_is_the_beginning_of_the_whole_one() {
        let folder = tree(&["c", "a/2", "a/1", "b"]);
        let cut = list_of(folder.path(), false, Some(2));
        assert_eq!((cut.files, cut.truncated), (vec!["a/1".to_owned(), "a/2".to_owned()], true));
        assert!(!list_of(folder.path(), false, Some(4)).truncated);
    }

    #[test]
    fn names_that_json_cannot_carry_are_counted() {
        let folder = tree(&["a"]);
        fs::write(folder.path().join(OsStr::from_bytes(b"\xff")), "").unwrap();
        let list = list_of(folder.path(), false, None);
        assert_eq!((list.files, list.skipped), (vec!["a".to_owned()], 1));
    }

    #[test]
    fn only_folders_inside_are_listed() {
        let folder = tree(&["a/b"]);
        let root = Root::folder(&folder.path().join("a")).unwrap();
        let code = |path: &str| {
            let input = ListFiles { path: path.into(), hidden: false, max: None };
            list(&input, &root, |_| ControlFlow::Continue(())).map_or_else(|problem| problem.code(), |_| "fine")
        };
        assert_eq!([code("."), code("b"), code(".."), code("c")], ["fine", "not_a_folder", "forbidden", "not_found"]);
        let input = ListFiles { path: ".".into(), hidden: false, max: None };
        assert!(matches!(list(&input, &root, |_| ControlFlow::Break(())), Err(Problem::Stopped)));
    }
}
