//! Every bound of the contract in one place; what exceeds one gets an error that names it.

use std::time::Duration;

/// A body above this many bytes travels through the object store. The broker's own limit is 1 MiB a message, headers
/// included.
pub const BODY_INLINE_BYTES_MAX: usize = 512 * 1024;

/// The largest body of a request or an outcome, in bytes, by whatever way it travels.
pub const BODY_BYTES_MAX: usize = 64 * 1024 * 1024;

/// All headers of one message together, names and values, in bytes. The broker stores up to 64 KiB, but acknowledges a
/// schedule with headers near that and then never fires it.
pub const HEADERS_BYTES_MAX: usize = 16 * 1024;

/// What is kept free of that in outcomes, dead letters and first facts, for what is added where they are published.
pub const HEADERS_ADDED_BYTES: usize = 512;

/// An id, in bytes.
pub const ID_BYTES_MAX: usize = 200;

/// The id of a run, in bytes: with a step's name and number it still is an id.
pub const RUN_ID_BYTES_MAX: usize = 64;

/// Runs that may be above a sub-run: a workflow that asks for itself without an end has one.
pub const RUN_DEPTH_MAX: u32 = 16;

/// The name of a step, in bytes.
pub const STEP_NAME_BYTES_MAX: usize = 32;

/// A key of unique work, in bytes.
pub const UNIQUE_KEY_BYTES_MAX: usize = 128;

/// Attempts that a policy may ask for.
pub const ATTEMPTS_MAX: u32 = 1_000;

/// The longest timeout of one attempt.
pub const TIMEOUT_MAX: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// The timeout of an attempt where neither the request nor the capability names one.
pub const TIMEOUT_DEFAULT: Duration = Duration::from_secs(60);

/// The body of a recurring request, in bytes: its spec is kept in 64 revisions.
pub const CRON_BODY_BYTES_MAX: usize = 64 * 1024;

/// The smallest delay that the broker's schedules keep (measured on 2.15.1).
pub const SCHEDULE_DELAY_MIN: Duration = Duration::from_millis(250);

/// A failure's code, in bytes.
pub const CODE_BYTES_MAX: usize = 64;

/// A failure's message, in bytes; what is longer is cut with an ellipsis.
pub const FAILURE_MESSAGE_BYTES_MAX: usize = 2_048;

/// Failed attempts that are remembered with a request: the first and the latest ones.
pub const ATTEMPT_RECORDS_MAX: usize = 10;

/// The message of one remembered attempt, in bytes: ten of them must fit into the headers of a retry.
pub const ATTEMPT_MESSAGE_BYTES_MAX: usize = 300;

/// How often a request may be handed over to a fallback.
pub const FALLBACKS_MAX: usize = 8;

/// Slots of one worker.
pub const SLOTS_MAX: usize = 1_000;

/// A progress message's body, in bytes.
pub const PROGRESS_BYTES_MAX: usize = 64 * 1024;

/// Deaths of a worker under one message before it is set aside as poison: the third mark.
pub const POISON_MARKS: u32 = 3;

/// How long a poison mark is kept after it was last written.
pub const MARK_TTL: Duration = Duration::from_secs(24 * 60 * 60);

/// Cuts text to at most `bytes_max` bytes at a character's border, with `…` where something was cut.
pub fn truncate(text: &str, bytes_max: usize) -> String {
    if text.len() <= bytes_max {
        return text.to_owned();
    }
    if bytes_max < '…'.len_utf8() {
        return String::new();
    }
    let mut end = bytes_max - '…'.len_utf8();
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn truncation_keeps_characters_whole() {
        assert_eq!(truncate("short", 10), "short");
        assert_eq!(truncate("ääää", 6), "ä…");
        assert_eq!(truncate("abcdefgh", 5), "ab…");
    }
}
