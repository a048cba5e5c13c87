//! Changes to bytes and words.

use proptest::{prelude::*, sample::Index};

/// What stands at the edges of what is read: ends of numbers, other spellings, what has a meaning somewhere.
const WORDS: [&str; 48] = [
    "",
    "0",
    "-1",
    "+1",
    "007",
    "1e999",
    "-0.0",
    "4294967296",
    "18446744073709551615",
    "18446744073709551616",
    "-9223372036854775808",
    "99999999999999999999999999",
    "null",
    "true",
    "\"\"",
    "[]",
    "{}",
    "[[[[[[[[",
    "{\"a\":",
    "~",
    "~0~",
    ".",
    "..",
    "*",
    ">",
    ":",
    "\r\n",
    "\n",
    "\n\n",
    "\n%%\n",
    "\0",
    "\u{feff}",
    "ß",
    "\u{1f600}",
    "%",
    "%%",
    "seq-",
    "useq-7",
    "10000d",
    "3650d",
    "+10000-01-01T00:00:00Z",
    "@every ",
    "${ ",
    " }",
    "&a *a",
    "<<: ",
    "!!binary ",
    "(a+)+$",
];

/// One change, wherever its numbers say.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    /// Another byte.
    Flip(Index, u8),
    /// A word more.
    Insert(Index, Index),
    /// A word in the place of some bytes.
    Replace(Index, usize, Index),
    /// Some bytes less.
    Remove(Index, usize),
    /// Some bytes again, and again.
    Repeat(Index, usize, u8),
    /// The end of another seed in the place of this one's.
    Splice(Index, Index, Index),
    /// A line less, or at another place.
    Move(Index, Index),
}

impl Arbitrary for Change {
    type Parameters = ();
    type Strategy = BoxedStrategy<Self>;

    fn arbitrary_with((): ()) -> BoxedStrategy<Self> {
        let at = any::<Index>;
        prop_oneof![
            (at(), any::<u8>()).prop_map(|(place, byte)| Self::Flip(place, byte)),
            (at(), at()).prop_map(|(place, word)| Self::Insert(place, word)),
            (at(), 0..24_usize, at()).prop_map(|(place, length, word)| Self::Replace(place, length, word)),
            (at(), 1..64_usize).prop_map(|(place, length)| Self::Remove(place, length)),
            (at(), 1..40_usize, any::<u8>()).prop_map(|(place, length, times)| Self::Repeat(place, length, times)),
            (at(), at(), at()).prop_map(|(place, other, from)| Self::Splice(place, other, from)),
            (at(), at()).prop_map(|(line, to)| Self::Move(line, to)),
        ]
        .boxed()
    }
}

/// A word, by chance.
pub(crate) fn word(index: &Index) -> &'static str {
    WORDS[index.index(WORDS.len())]
}

/// A seed with its bytes changed.
pub(crate) fn bytes(seed: &[u8], seeds: &[Vec<u8>], changes: &[Change]) -> Vec<u8> {
    changes.iter().fold(seed.to_vec(), |bytes, change| one(bytes, seeds, change))
}

fn one(mut bytes: Vec<u8>, seeds: &[Vec<u8>], change: &Change) -> Vec<u8> {
    let size = bytes.len() + 1;
    match change {
        Change::Flip(place, byte) => {
            if let Some(found) = bytes.get_mut(place.index(size)) {
                *found ^= byte;
            }
        }
        Change::Insert(place, text) => {
            let at = place.index(size);
            bytes.splice(at..at, word(text).bytes());
        }
        Change::Replace(place, length, text) => {
            let at = place.index(size);
            let end = (at + length).min(bytes.len());
            bytes.splice(at..end, word(text).bytes());
        }
        Change::Remove(place, length) => {
            let at = place.index(size);
            let end = (at + length).min(bytes.len());
            bytes.drain(at..end);
        }
        Change::Repeat(place, length, times) => {
            let at = place.index(size);
            let end = (at + length).min(bytes.len());
            let again = bytes[at..end].repeat(usize::from(*times));
            bytes.splice(at..at, again);
        }
        Change::Splice(place, other, from) => {
            let other = &seeds[other.index(seeds.len())];
            bytes.truncate(place.index(size));
            bytes.extend_from_slice(&other[from.index(other.len() + 1)..]);
        }
        Change::Move(line, to) => bytes = moved(&bytes, b"\n", line, to),
    }
    bytes
}

/// A seed of several messages: some of them at another place, twice, or with another subject.
pub(crate) fn messages(seed: &[u8], changes: &[Change]) -> Vec<u8> {
    changes.iter().fold(seed.to_vec(), |all, change| match change {
        Change::Move(from, to) | Change::Insert(from, to) | Change::Splice(from, to, _) => {
            moved(&all, b"\n%%\n", from, to)
        }
        other => one(all, &[], other),
    })
}

/// One part out, and in again somewhere else; at its own place it stands twice.
fn moved(bytes: &[u8], between: &[u8], from: &Index, to: &Index) -> Vec<u8> {
    let mut parts = split(bytes, between);
    let (from, to) = (from.index(parts.len()), to.index(parts.len()));
    let part = if from == to { parts[from] } else { parts.remove(from) };
    parts.insert(to.min(parts.len()), part);
    parts.join(between)
}

fn split<'a>(bytes: &'a [u8], between: &[u8]) -> Vec<&'a [u8]> {
    let mut parts = Vec::new();
    let mut rest = bytes;
    while let Some(at) = rest.windows(between.len()).position(|window| window == between) {
        parts.push(&rest[..at]);
        rest = &rest[at + between.len()..];
    }
    parts.push(rest);
    parts
}
