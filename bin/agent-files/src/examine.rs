//! The capability `examine-file`.

use std::{
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Problem, Result, Root, Term, language, place, scan};

/// Which file to examine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExamineFile {
    /// The file. If it is relative, it begins at `root`, else at the agent's own root or working directory.
    pub path: PathBuf,
    /// A folder that the file must not be outside of. Defaults to the agent's own root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<PathBuf>,
}

/// What a file is like.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FileReport {
    /// The file, as it was asked for.
    pub path: PathBuf,
    /// SHA-256 of its contents, in lower-case hexadecimal.
    pub sha256: String,
    /// Its size.
    pub bytes: u64,
    /// Line ends, as `wc -l` counts them. 0 in a binary file.
    pub lines: u64,
    /// Words between white space, as `wc -w` counts them. 0 in a binary file.
    pub words: u64,
    /// Its language by name, extension or `#!` line; `text` if none is known, `binary` if it is no UTF-8 text.
    pub language: String,
    /// The five most frequent terms of four letters or more, common words left out. None in a binary file.
    pub terms: Vec<Term>,
}

/// Examines a file in one pass. `on_chunk` hears how many bytes were read so far and how many there are, and may break
/// it off. It blocks while it reads.
///
/// # Errors
/// [`Problem`] lists them.
pub fn examine(
    input: &ExamineFile,
    root: &Root,
    mut on_chunk: impl FnMut(u64, u64) -> ControlFlow<()>,
) -> Result<FileReport> {
    let asked = input.path.as_path();
    let real = root.resolve(input.root.as_deref(), asked)?;
    let (file, metadata) = place::open_file(&real, asked)?;
    let scanned = scan::scan(file, |bytes| on_chunk(bytes, metadata.len()));
    let scan = scanned.map_err(|error| Problem::of_io(asked, error))?.ok_or(Problem::Stopped)?;
    Ok(report(asked, scan))
}

fn report(path: &Path, scan: scan::Scan) -> FileReport {
    let (lines, words, language, terms) = match scan.text {
        None => (0, 0, language::BINARY, Vec::new()),
        Some(text) => (text.lines, text.words, language::of_text(path, &text.first_line), text.terms),
    };
    FileReport {
        path: path.to_owned(),
        sha256: scan.sha256,
        bytes: scan.bytes,
        lines,
        words,
        language: language.to_owned(),
        terms,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
    use std::fs;

    use super::*;

    fn examine_in(root: &Root, path: &str) -> Result<FileReport> {
        let input = ExamineFile { path: path.into(), root: None };
        examine(&input, root, |_, _| ControlFlow::Continue(()))
    }

    #[test]
    fn a_text_is_reported_as_it_was_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("tool"), "#!/usr/bin/env python3\nfleet = fleet(boat)\n").unwrap();
        let report = examine_in(&Root::folder(folder.path()).unwrap(), "./tool").unwrap();
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(
            json,
            serde_json::json!({
                "path": "./tool",
                "sha256": "fa041574b024990022cbefb186e2f773f5b888f3d1a7d2dd72cb54617558f44c",
                "bytes": 43, "lines": 2, "words": 5, "language": "python",
                "terms": [{"term": "fleet", "count": 2}, {"term": "boat", "count": 1}, {"term": "python", "count": 1}],
            })
        );
    }

    #[test]
    fn a_binary_is_hashed_and_sized() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("x.rs"), b"\x7fELF\0\n\n").unwrap();
        let report = examine_in(&Root::folder(folder.path()).unwrap(), "x.rs").unwrap();
        assert_eq!((report.language.as_str(), report.bytes, report.lines, report.words), ("binary", 7, 0, 0));
        assert_eq!(report.terms, []);
    }

    #[test]
    fn what_cannot_be_examined_has_a_code() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("folder")).unwrap();
        let root = Root::folder(folder.path()).unwrap();
        let code = |path| examine_in(&root, path).unwrap_err().code();
        assert_eq!(code("missing"), "not_found");
        assert_eq!(code("folder"), "not_a_file");
        assert_eq!(code("/etc/hostname"), "forbidden");
        assert_eq!(code(""), "not_a_file");
    }

    #[test]
    fn a_large_file_can_be_followed_and_stopped() {
        let folder = tempfile::tempdir().unwrap();
        let file = fs::File::create(folder.path().join("large")).unwrap();
        file.set_len(1 << 20).unwrap();
        let input = ExamineFile { path: folder.path().join("large"), root: None };
        let mut heard = Vec::new();
        let all = examine(&input, &Root::everything(), |bytes, of| {
            heard.push((bytes, of));
            ControlFlow::Continue(())
        });
        assert_eq!(all.unwrap().bytes, 1 << 20);
        assert_eq!(heard.last(), Some(&(1 << 20, 1 << 20)));
        assert!(heard.is_sorted() && heard.len() > 1);
        let stopped = examine(&input, &Root::everything(), |_, _| ControlFlow::Break(()));
        assert!(matches!(stopped, Err(Problem::Stopped)));
    }
}
