//! Replays: the request of a dead letter sent again as a new one, under an id that follows from the letter, and the mark
//! that stands beside the letter from then on.
//!
//! The id is `rep_<22 digits>_<path>`: a hash of the request that was given up first, and which replay this is at each
//! step of the way from it, so `rep_…_1-2` is the second replay of the first replay. So who repeats a replay that was
//! broken off before its mark was stored repeats the same request; and an id alone tells how often its work was sent
//! again, whatever became of the letters in between.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{Capability, Headers, Kind, Operator, RequestId, header, time::Timestamp};

const PREFIX: &str = "rep_";
const HASH_DIGITS: usize = 22;
const EDIT_DIGITS: usize = 10;

/// An id longer than this is hashed anew: its path would outgrow what an id may have.
const PATH_ID_BYTES_MAX: usize = 150;

/// One replay of a dead letter, as it is marked at `replayed.<capability>.<letter>.<request>` once it is stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Replay {
    /// The new request.
    pub request: RequestId,
    /// The request that was given up, whose letter it is.
    pub of: RequestId,
    /// What was asked for.
    pub capability: Capability,
    /// When it was sent again, on the broker's clock.
    pub at: Timestamp,
    /// Who did it; none where a rule did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Operator>,
    /// The rule that did it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<Kind>,
    /// When it is due, where that was later than it was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due: Option<Timestamp>,
    /// Whether its body is another one than the letter's.
    #[serde(default)]
    pub edited: bool,
}

/// The id of the replay with this number, from 1, of the letter of `of`. One with a body of its own has an id of its own:
/// another body under the same id would be taken for the same request, and dropped without a word.
pub fn replay_id(of: &RequestId, number: u32, edited_body: Option<&[u8]>) -> RequestId {
    let edit = edited_body.map(|body| format!("e{}", digits(body, EDIT_DIGITS))).unwrap_or_default();
    let text = match path(of) {
        Some(_) if of.as_str().len() <= PATH_ID_BYTES_MAX => format!("{of}-{number}{edit}"),
        _ => format!("{PREFIX}{}_{number}{edit}", digits(of.as_str().as_bytes(), HASH_DIGITS)),
    };
    // Its letters and its length are those of an id, whatever the other one was.
    RequestId::parse(&text).unwrap_or_else(|_| of.clone())
}

/// The number in the id of a replay; none for an id of another kind.
pub fn number_of(replay: &RequestId) -> Option<u32> {
    number(path(replay)?.rsplit('-').next()?)
}

/// The number of the next replay of a letter that has been replayed under these ids.
pub fn next_number<'a>(replays: impl IntoIterator<Item = &'a RequestId>) -> u32 {
    replays.into_iter().filter_map(number_of).max().unwrap_or(0).saturating_add(1)
}

/// How often the work of a request was sent again before it: 0 for one that is no replay. `headers` are its own, or those
/// of its letter.
pub fn times_replayed(id: &RequestId, headers: &Headers) -> u32 {
    let by_id = |id: &RequestId| path(id).map(|path| path.split('-').count());
    let times = by_id(id).or_else(|| {
        // Somebody replayed it by hand, under an id of his own.
        let of = RequestId::parse(headers.get(header::REPLAY_OF)?).ok()?;
        Some(1 + by_id(&of).unwrap_or(0))
    });
    times.and_then(|times| u32::try_from(times).ok()).unwrap_or(0)
}

/// A number in 0 to 1 that follows from an id: it spreads what is sent again at the same time, and is the same whoever
/// reckons it.
pub fn chance_of(id: &RequestId) -> f64 {
    let hash = Sha256::digest(id.as_str().as_bytes());
    let number = hash.iter().take(4).fold(0_u32, |number, byte| (number << 8) | u32::from(*byte));
    f64::from(number) / f64::from(u32::MAX)
}

/// The path of a replay's id.
fn path(id: &RequestId) -> Option<&str> {
    let (hash, path) = id.as_str().strip_prefix(PREFIX)?.split_once('_')?;
    let is_hash = hash.len() == HASH_DIGITS && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
    (is_hash && path.split('-').all(|step| number(step).is_some())).then_some(path)
}

fn number(step: &str) -> Option<u32> {
    let end = step.find(|each: char| !each.is_ascii_digit()).unwrap_or(step.len());
    step[..end].parse().ok()
}

fn digits(bytes: &[u8], count: usize) -> String {
    let mut text: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    text.truncate(count);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> RequestId {
        RequestId::parse(text).unwrap()
    }

    #[test]
    fn the_id_follows_from_the_letter_and_tells_its_way() {
        let first = replay_id(&id("order-17"), 1, None);
        assert_eq!(first, replay_id(&id("order-17"), 1, None));
        assert_ne!(first, replay_id(&id("order-18"), 1, None));
        let third = replay_id(&replay_id(&first, 2, None), 1, None);
        assert_eq!(third.as_str(), format!("{first}-2-1"));
        let none = Headers::new();
        let times = [&id("order-17"), &first, &third].map(|id| times_replayed(id, &none));
        assert_eq!(times, [0, 1, 3]);
        assert_eq!([&first, &third, &replay_id(&first, 2, None)].map(number_of), [Some(1), Some(1), Some(2)]);
        for id in [&first, &third] {
            assert!(RequestId::from_client(id.as_str()).is_ok());
        }
    }

    #[test]
    fn another_body_is_another_request() {
        let plain = replay_id(&id("a"), 1, None);
        let edited = replay_id(&id("a"), 1, Some(b"1"));
        assert_eq!(edited, replay_id(&id("a"), 1, Some(b"1")));
        assert!(edited != plain && edited != replay_id(&id("a"), 1, Some(b"2")));
        assert_eq!((number_of(&edited), times_replayed(&edited, &Headers::new())), (Some(1), 1));
        assert_eq!(next_number([&plain, &edited, &replay_id(&id("a"), 4, None)]), 5);
        assert_eq!(next_number([]), 1);
    }

    #[test]
    fn a_replay_by_hand_counts_too() {
        let mut headers = Headers::new();
        headers.set(header::REPLAY_OF, replay_id(&id("a"), 1, None).as_str());
        assert_eq!(times_replayed(&id("mine"), &headers), 2);
        headers.set(header::REPLAY_OF, "a");
        assert_eq!(times_replayed(&id("mine"), &headers), 1);
        for strange in ["rep_x_1", "rep_0123456789abcdef012345_x", "rep_0123456789abcdef012345"] {
            assert_eq!((number_of(&id(strange)), times_replayed(&id(strange), &Headers::new())), (None, 0));
        }
    }

    #[test]
    fn no_way_is_too_long() {
        let mut id = id(&"x".repeat(200));
        for number in 1..500 {
            id = replay_id(&id, number, Some(b"body"));
            assert!(RequestId::parse(id.as_str()).is_ok());
        }
    }

    #[test]
    fn chance_lies_in_its_bounds() {
        for number in 0..1_000 {
            assert!((0.0..=1.0).contains(&chance_of(&id(&format!("a-{number}")))));
        }
    }
}
