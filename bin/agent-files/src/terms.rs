//! The most frequent terms of a text, counted in bounded memory.

use std::collections::HashMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The fewest letters that make a term.
pub(crate) const TERM_LETTERS_MIN: usize = 4;
/// The most letters; longer ones are keys and encoded data, not words.
pub(crate) const TERM_LETTERS_MAX: usize = 40;
/// How many different terms are remembered. Past it the rarer half is forgotten, and counts of terms that come again
/// after that are lower bounds. About 8 MiB.
pub(crate) const TERMS_MAX: usize = 100_000;

const STOP_WORDS: [&str; 32] = [
    "about", "also", "been", "does", "each", "else", "from", "have", "here", "into", "just", "more", "must", "only",
    "other", "same", "some", "such", "than", "that", "their", "them", "then", "there", "these", "they", "this", "what",
    "when", "which", "will", "with",
];

/// A term and how often it occurs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Term {
    /// In lower case.
    pub term: String,
    /// How often.
    pub count: u64,
}

/// Counts the terms of a text that is fed letter by letter.
#[derive(Debug, Default)]
pub(crate) struct TermCounter {
    counts: HashMap<String, u64>,
    current: String,
    letters: usize,
}

impl TermCounter {
    /// The next character of the text.
    pub(crate) fn feed(&mut self, character: char) {
        if character.is_alphabetic() {
            self.letters += 1;
            if self.letters <= TERM_LETTERS_MAX {
                self.current.extend(character.to_lowercase());
            }
        } else if self.letters > 0 {
            self.end_of_term();
        }
    }

    fn end_of_term(&mut self) {
        let of_length = (TERM_LETTERS_MIN..=TERM_LETTERS_MAX).contains(&self.letters);
        if of_length && STOP_WORDS.binary_search(&self.current.as_str()).is_err() {
            match self.counts.get_mut(&self.current) {
                Some(count) => *count += 1,
                None => {
                    self.counts.insert(self.current.clone(), 1);
                }
            }
            if self.counts.len() > TERMS_MAX {
                self.counts = self.take_first(TERMS_MAX / 2).map(|term| (term.term, term.count)).collect();
            }
        }
        self.letters = 0;
        self.current.clear();
    }

    /// The `count` most frequent terms, those of equal count by the alphabet.
    pub(crate) fn most_frequent(mut self, count: usize) -> Vec<Term> {
        self.end_of_term();
        self.take_first(count).collect()
    }

    fn take_first(&mut self, count: usize) -> impl Iterator<Item = Term> + use<> {
        let mut terms: Vec<_> = self.counts.drain().map(|(term, count)| Term { term, count }).collect();
        terms.sort_unstable_by(|a, b| b.count.cmp(&a.count).then_with(|| a.term.cmp(&b.term)));
        terms.into_iter().take(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn top(text: &str, count: usize) -> Vec<(String, u64)> {
        let mut counter = TermCounter::default();
        text.chars().for_each(|character| counter.feed(character));
        counter.most_frequent(count).into_iter().map(|term| (term.term, term.count)).collect()
    }

    #[test]
    fn terms_are_runs_of_letters_in_lower_case() {
        assert_eq!(top("Fleet fleet_of FLEET2go (the boat)", 5), [("fleet".into(), 3), ("boat".into(), 1)]);
        assert_eq!(top("Größe größe GRÖSSE", 5), [("größe".into(), 2), ("grösse".into(), 1)]);
        assert_eq!(top("with that which", 5), []);
        assert_eq!(top(&"x".repeat(TERM_LETTERS_MAX + 1), 5), []);
        assert_eq!(top(&"x".repeat(TERM_LETTERS_MAX), 5).len(), 1);
    }

    #[test]
    fn equal_counts_are_ordered_by_the_alphabet() {
        let expected = [("zebra", 2), ("aaaa", 1), ("bbbb", 1)].map(|(term, count)| (term.to_owned(), count));
        assert_eq!(top("zebra bbbb aaaa zebra cccc", 3), expected);
    }

    #[test]
    fn stop_words_are_sorted_because_they_are_searched() {
        assert!(STOP_WORDS.is_sorted());
    }

    #[test]
    fn memory_is_bounded_and_frequent_terms_survive() {
        let mut counter = TermCounter::default();
        let letter = |n: usize| char::from(b'a' + u8::try_from(n % 26).unwrap_or_default());
        for n in 0..TERMS_MAX * 2 {
            let different = [n, n / 26, n / 676, n / 17_576].map(letter);
            "often ".chars().for_each(|character| counter.feed(character));
            "qq".chars().chain(different).chain([' ']).for_each(|character| counter.feed(character));
            assert!(counter.counts.len() <= TERMS_MAX);
        }
        let expected = Term { term: "often".into(), count: (TERMS_MAX * 2) as u64 };
        assert_eq!(counter.most_frequent(1), [expected]);
    }
}
