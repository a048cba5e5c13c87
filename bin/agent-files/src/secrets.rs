//! The capability `find-secrets`.

mod rules;

use std::{io::Read, ops::ControlFlow, path::PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Problem, Result, Root, place, walk::walk};

/// How many findings an answer has if the request says nothing.
pub const SECRETS_DEFAULT: usize = 100;
/// How many findings an answer can have.
pub const SECRETS_MAX: usize = 10_000;
/// What is read of one file; larger ones are data, and their beginning tells.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// A longer line was made by a program. Its beginning is looked at.
const LINE_BYTES_MAX: usize = 4_096;

/// Where to look for secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FindSecrets {
    /// The folder. If it is relative, it begins at the agent's root or working directory.
    pub path: PathBuf,
    /// Whether to look into files and folders whose name begins with a dot. Git's own folder never is. Defaults to false.
    #[serde(default)]
    pub hidden: bool,
    /// How many findings to tell, 10,000 at most. Defaults to 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<usize>,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SecretList {
    /// The folder, as it was asked for.
    pub path: PathBuf,
    /// Lines that look like they have a secret in them, in the order of the files.
    pub secrets: Vec<Secret>,
    /// Whether there are more than these.
    pub truncated: bool,
    /// How many texts were looked at.
    pub texts: u64,
}

/// A line that looks like it has a secret in it. What it says is told to nobody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Secret {
    /// The file, relative to the folder.
    pub file: String,
    /// The line, from 1.
    pub line: u64,
    /// What it looks like, such as `private key`.
    pub looks_like: String,
}

/// Looks for secrets in the texts of a folder that ignore files leave, links not followed: 4 MiB of each file, 4 KiB of each
/// line. `on_file` hears how many were looked at so far, and may break it off. It blocks while it reads.
///
/// # Errors
/// [`Problem`] lists them.
pub fn find(input: &FindSecrets, root: &Root, mut on_file: impl FnMut(u64) -> ControlFlow<()>) -> Result<SecretList> {
    let max = input.max.unwrap_or(SECRETS_DEFAULT).min(SECRETS_MAX);
    let mut list = SecretList { path: input.path.clone(), secrets: Vec::new(), truncated: false, texts: 0 };
    walk(root, &input.path, input.hidden, |path, name| {
        // What vanished or cannot be read meanwhile is examined by nobody either.
        let Ok((file, _)) = place::open_file(&path, &path) else { return Ok(ControlFlow::Continue(())) };
        let mut bytes = Vec::new();
        if file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).is_err() || bytes.contains(&0) {
            return Ok(ControlFlow::Continue(()));
        }
        list.texts += 1;
        for (number, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
            let line = String::from_utf8_lossy(&line[..line.len().min(LINE_BYTES_MAX)]);
            let Some(looks_like) = rules::looks_like(&line) else { continue };
            if list.secrets.len() == max {
                list.truncated = true;
                return Ok(ControlFlow::Break(()));
            }
            let (file, line, looks_like) = (name.to_owned(), number as u64 + 1, looks_like.to_owned());
            list.secrets.push(Secret { file, line, looks_like });
        }
        match on_file(list.texts) {
            ControlFlow::Break(()) => Err(Problem::Stopped),
            ControlFlow::Continue(()) => Ok(ControlFlow::Continue(())),
        }
    })?;
    Ok(list)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
    use std::fs;

    use super::*;

    fn find_in(folder: &tempfile::TempDir, hidden: bool, max: Option<usize>) -> SecretList {
        let input = FindSecrets { path: folder.path().to_owned(), hidden, max };
        find(&input, &Root::everything(), |_| ControlFlow::Continue(())).unwrap()
    }

    #[test]
    fn secrets_are_told_by_file_and_line_and_never_themselves() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &[u8]| fs::write(folder.path().join(name), text).unwrap();
        write("a.env", b"user=ann\nAWS_KEY=AKIAIOSFODNN7EXAMPLE\n");
        write("b.pem", b"-----BEGIN RSA PRIVATE KEY-----\r\nMIIE\n");
        write("c.bin", b"AKIAIOSFODNN7EXAMPLE\0");
        write("d.txt", b"nothing \xff here\n");
        write(".hidden", b"AKIAIOSFODNN7EXAMPLE");
        let list = find_in(&folder, false, None);
        let found: Vec<_> = list.secrets.iter().map(|one| (one.file.as_str(), one.line, &*one.looks_like)).collect();
        assert_eq!(found, [("a.env", 2, "AWS access key"), ("b.pem", 1, "private key")]);
        assert_eq!((list.truncated, list.texts), (false, 3));
        assert!(!serde_json::to_string(&list).unwrap().contains("AKIA"));
        assert_eq!(find_in(&folder, true, None).secrets.len(), 3);
        let cut = find_in(&folder, false, Some(1));
        assert_eq!((cut.secrets.len(), cut.truncated), (1, true));
    }

    #[test]
    fn it_can_be_broken_off_and_needs_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a"), "").unwrap();
        let look = |path: PathBuf| {
            let input = FindSecrets { path, hidden: false, max: None };
            find(&input, &Root::everything(), |_| ControlFlow::Break(())).unwrap_err().code()
        };
        assert_eq!(look(folder.path().to_owned()), "stopped");
        assert_eq!(look(folder.path().join("a")), "not_a_folder");
    }
}
