//! What the files are like, by language.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
};

use indicatif::{HumanBytes, HumanCount};
use serde::Serialize;

use super::survey::{Answer, Finding};
use crate::output::Output;

/// Rows of the table; the rest is one row.
const ROWS_MAX: usize = 20;

/// Terms of a language.
const TERMS_MAX: usize = 5;

/// The files of one language.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Language {
    /// Its name.
    pub(crate) language: String,
    /// How many files.
    pub(crate) files: u64,
    /// Lines in all of them.
    pub(crate) lines: u64,
    /// Words in all of them.
    pub(crate) words: u64,
    /// Their size.
    pub(crate) bytes: u64,
    /// Their most frequent terms.
    pub(crate) terms: Vec<String>,
}

/// All languages, and whether both agents saw the same contents.
#[derive(Debug, Serialize)]
pub(crate) struct Languages {
    /// Those with the most files first.
    pub(crate) languages: Vec<Language>,
    /// Files whose two checksums are the same.
    pub(crate) checksums_agree: u64,
    /// Files whose two checksums are not: they were written meanwhile.
    pub(crate) checksums_differ: Vec<PathBuf>,
}

impl Languages {
    /// Adds up what was found out about the files of a folder.
    pub(crate) fn of<'a>(folder: &Path, answers: impl IntoIterator<Item = &'a Answer>) -> Self {
        let mut languages = BTreeMap::<&str, (Language, HashMap<&str, u64>)>::new();
        let mut sums = HashMap::<PathBuf, Vec<&str>>::new();
        for answer in answers {
            match &answer.finding {
                Finding::Report(report) => {
                    let (language, terms) = languages.entry(&report.language).or_default();
                    language.files += 1;
                    language.lines += report.lines;
                    language.words += report.words;
                    language.bytes += report.bytes;
                    for term in &report.terms {
                        *terms.entry(&term.term).or_default() += term.count;
                    }
                    sums.entry(folder.join(&report.path)).or_default().push(&report.sha256);
                }
                Finding::Checksum(file, sum) => sums.entry(file.clone()).or_default().push(sum),
                Finding::None(..) => {}
            }
        }
        let pairs: Vec<_> = sums.into_iter().filter(|(_, sums)| sums.len() == 2).collect();
        let (agree, mut differ): (Vec<_>, Vec<_>) = pairs.into_iter().partition(|(_, sums)| sums[0] == sums[1]);
        differ.sort();
        let mut languages: Vec<Language> = languages
            .into_iter()
            .map(|(name, (language, terms))| Language { language: name.to_owned(), terms: frequent(terms), ..language })
            .collect();
        languages.sort_by(|one, other| (other.files, &one.language).cmp(&(one.files, &other.language)));
        let checksums_differ = differ.into_iter().map(|(file, _)| file).collect();
        Self { languages, checksums_agree: agree.len() as u64, checksums_differ }
    }

    /// The table, with a row for all of them at the end.
    pub(crate) fn table(&self, output: Output) -> String {
        let (shown, rest) = self.languages.split_at(self.languages.len().min(ROWS_MAX));
        let rest = (!rest.is_empty()).then(|| sum(format!("{} others", rest.len()), rest));
        let all = sum("all".to_owned(), &self.languages);
        let rows = shown.iter().chain(&rest).chain([&all]).map(|language| {
            [
                language.language.clone(),
                HumanCount(language.files).to_string(),
                HumanCount(language.lines).to_string(),
                HumanCount(language.words).to_string(),
                HumanBytes(language.bytes).to_string(),
                language.terms.join(" "),
            ]
        });
        output.table(&["LANGUAGE", "FILES", "LINES", "WORDS", "SIZE", "FREQUENT TERMS"], rows)
    }
}

fn frequent(terms: HashMap<&str, u64>) -> Vec<String> {
    let mut terms: Vec<(&str, u64)> = terms.into_iter().collect();
    terms.sort_by(|one, other| (other.1, one.0).cmp(&(one.1, other.0)));
    terms.into_iter().take(TERMS_MAX).map(|(term, _)| term.to_owned()).collect()
}

fn sum(name: String, languages: &[Language]) -> Language {
    let add = |field: fn(&Language) -> u64| languages.iter().map(field).sum();
    Language {
        language: name,
        files: add(|language| language.files),
        lines: add(|language| language.lines),
        words: add(|language| language.words),
        bytes: add(|language| language.bytes),
        terms: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use agent_files::{FileReport, Term};
    use protocol::RequestId;

    use super::*;

    fn answer(finding: Finding) -> Answer {
        Answer { id: RequestId::generate(), instance: None, finding }
    }

    fn report(path: &str, language: &str, sha256: &str, terms: &[(&str, u64)]) -> Answer {
        let terms = terms.iter().map(|(term, count)| Term { term: (*term).to_owned(), count: *count }).collect();
        let language = language.to_owned();
        let report =
            FileReport { path: path.into(), sha256: sha256.into(), bytes: 10, lines: 2, words: 3, language, terms };
        answer(Finding::Report(report))
    }

    #[test]
    fn files_are_added_up_by_language_and_checksums_compared() {
        let checksum = |path: &str, sum: &str| answer(Finding::Checksum(path.into(), sum.into()));
        let answers = [
            report("a.rs", "rust", "1", &[("fleet", 2), ("boat", 2)]),
            report("b.rs", "rust", "2", &[("boat", 1)]),
            report("c.md", "markdown", "3", &[]),
            checksum("/d/a.rs", "1"),
            checksum("/d/b.rs", "other"),
            answer(Finding::None("/d/c.md".into(), "failed".into())),
        ];
        let found = Languages::of(Path::new("/d"), &answers);
        let told: Vec<_> =
            found.languages.iter().map(|language| (language.language.as_str(), language.files)).collect();
        assert_eq!(told, [("rust", 2), ("markdown", 1)]);
        assert_eq!(found.languages[0].terms, ["boat", "fleet"]);
        assert_eq!((found.checksums_agree, found.checksums_differ.clone()), (1, vec!["/d/b.rs".into()]));
        let table = found.table(Output::plain());
        assert!(
            table.lines().last().is_some_and(|all| all.starts_with("all       3      6      9      30 B")),
            "{table}"
        );
    }
}
