//! How a report reads.

use std::{
    collections::BTreeMap,
    fmt::{self, Write},
};

use super::WriteReport;

/// Rows of a table; what is beyond them is told by its number.
const ROWS_MAX: usize = 1_000;

#[derive(Default)]
struct Sum {
    files: u64,
    lines: u64,
    words: u64,
    bytes: u64,
}

pub(super) fn text(report: &WriteReport) -> String {
    let mut text = String::new();
    // A text takes whatever is written into it.
    let _ = write(report, &mut text);
    text
}

fn write(report: &WriteReport, text: &mut String) -> fmt::Result {
    writeln!(text, "# Audit of {}\n", code(&report.folder.to_string_lossy()))?;
    write!(text, "{} files were examined", report.files.len())?;
    match report.missing {
        0 => writeln!(text, ".\n")?,
        missing => writeln!(text, ", {missing} could not be.\n")?,
    }
    secrets(report, text)?;
    languages(report, text)?;
    files(report, text)
}

fn secrets(report: &WriteReport, text: &mut String) -> fmt::Result {
    writeln!(text, "## Secrets\n")?;
    if report.secrets.is_empty() {
        writeln!(text, "None were found.\n")?;
    } else {
        writeln!(text, "| file | line | looks like |\n| --- | ---: | --- |")?;
        for secret in report.secrets.iter().take(ROWS_MAX) {
            writeln!(text, "| {} | {} | {} |", code(&secret.file), secret.line, plain(&secret.looks_like))?;
        }
        rest(report.secrets.len(), text)?;
    }
    if !report.approved_by.is_empty() {
        writeln!(text, "Approved by {}.\n", plain(&report.approved_by))?;
    }
    Ok(())
}

fn languages(report: &WriteReport, text: &mut String) -> fmt::Result {
    let mut sums = BTreeMap::<&str, Sum>::new();
    for file in &report.files {
        let sum = sums.entry(&file.language).or_default();
        sum.files += 1;
        sum.lines += file.lines;
        sum.words += file.words;
        sum.bytes += file.bytes;
    }
    let mut sums: Vec<_> = sums.into_iter().collect();
    sums.sort_by(|one, other| (other.1.files, one.0).cmp(&(one.1.files, other.0)));
    writeln!(
        text,
        "## Languages\n\n| language | files | lines | words | bytes |\n| --- | ---: | ---: | ---: | ---: |"
    )?;
    for (language, Sum { files, lines, words, bytes }) in sums {
        writeln!(text, "| {} | {files} | {lines} | {words} | {bytes} |", plain(language))?;
    }
    writeln!(text)
}

fn files(report: &WriteReport, text: &mut String) -> fmt::Result {
    writeln!(text, "## Files\n\n| file | language | lines | bytes | SHA-256 |\n| --- | --- | ---: | ---: | --- |")?;
    for file in report.files.iter().take(ROWS_MAX) {
        let (path, language) = (code(&file.path.to_string_lossy()), plain(&file.language));
        writeln!(text, "| {path} | {language} | {} | {} | `{}` |", file.lines, file.bytes, plain(&file.sha256))?;
    }
    rest(report.files.len(), text)
}

fn rest(rows: usize, text: &mut String) -> fmt::Result {
    match rows.saturating_sub(ROWS_MAX) {
        0 => writeln!(text),
        more => writeln!(text, "\nand {more} more.\n"),
    }
}

/// A name as it is, in a cell: names of files may have anything in them.
fn code(name: &str) -> String {
    let name = name.replace(['\n', '\r'], " ").replace('|', "\\|");
    match name.contains('`') {
        true => format!("`` {name} ``"),
        false => format!("`{name}`"),
    }
}

/// A word of somebody else, in a cell.
fn plain(word: &str) -> String {
    let word: String = word.chars().map(|character| if character.is_control() { ' ' } else { character }).collect();
    word.replace(['|', '<', '>', '`', '[', ']'], " ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_report_is_read() {
        let file = |path: &str, language: &str| json!({"path": path, "sha256": "ab", "bytes": 10, "lines": 2, "words": 3, "language": language, "terms": []});
        let report = json!({
            "name": "a.md", "folder": "/src", "missing": 1, "approved_by": "ann",
            "files": [file("a.rs", "rust"), file("b|c`.rs", "rust"), file("d.md", "markdown")],
            "secrets": [{"file": "a.rs", "line": 7, "looks_like": "password"}],
        });
        let report = serde_json::from_value(report).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(
            text(&report),
            "\
# Audit of `/src`

3 files were examined, 1 could not be.

## Secrets

| file | line | looks like |
| --- | ---: | --- |
| `a.rs` | 7 | password |

Approved by ann.

## Languages

| language | files | lines | words | bytes |
| --- | ---: | ---: | ---: | ---: |
| rust | 2 | 4 | 6 | 20 |
| markdown | 1 | 2 | 3 | 10 |

## Files

| file | language | lines | bytes | SHA-256 |
| --- | --- | ---: | ---: | --- |
| `a.rs` | rust | 2 | 10 | `ab` |
| `` b\\|c`.rs `` | rust | 2 | 10 | `ab` |
| `d.md` | markdown | 2 | 10 | `ab` |

"
        );
    }
}
