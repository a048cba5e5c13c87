//! Header names, and headers as plain data.

use std::fmt;

use crate::limits;

/// The request's id.
pub const REQUEST_ID: &str = "Sortie-Request-Id";
/// Which attempt this is, from 1.
pub const ATTEMPT: &str = "Sortie-Attempt";
/// How often the request was put off without burning an attempt.
pub const SNOOZES: &str = "Sortie-Snoozes";
/// The code of what the request was put off for, last.
pub const SNOOZED_FOR: &str = "Sortie-Snoozed-For";
/// The capabilities that handed the request over to a fallback, first to last, separated by commas.
pub const CAME_FROM: &str = "Sortie-Came-From";
/// How many attempts there may be.
pub const MAX_ATTEMPTS: &str = "Sortie-Max-Attempts";
/// How long to wait between attempts: `exponential; first=1s; factor=2; cap=5m; jitter=full`.
pub const BACKOFF: &str = "Sortie-Backoff";
/// How long one attempt may take.
pub const TIMEOUT: &str = "Sortie-Timeout";
/// RFC 3339; after it nobody should start or finish the request.
pub const DEADLINE: &str = "Sortie-Deadline";
/// A run's log, where the outcome goes instead of the outcome stream.
pub const REPLY_TO: &str = "Sortie-Reply-To";
/// The request, or run and step, that asked for this.
pub const PARENT: &str = "Sortie-Parent";
/// The failed attempts so far, as a JSON array; written by workers with a retry.
pub const FAILURES: &str = "Sortie-Failures";
/// The object that holds the body.
pub const PAYLOAD_REF: &str = "Sortie-Payload-Ref";
/// An outcome's status.
pub const STATUS: &str = "Sortie-Status";
/// The capability that an outcome or dead letter is about; on a start and a run's first fact, the one that was asked for.
pub const CAPABILITY: &str = "Sortie-Capability";
/// The worker that an outcome comes from.
pub const INSTANCE: &str = "Sortie-Instance";
/// The recurring schedule that a request comes from, and the revision of its spec: `nightly@17`.
pub const CRON: &str = "Sortie-Cron";
/// The id of the dead letter's request that this request does again.
pub const REPLAY_OF: &str = "Sortie-Replay-Of";
/// On the start of a run: the lane of its steps where they name none, `urgent`, `normal` or `bulk`.
pub const LANE: &str = "Sortie-Lane";
/// On a start that was a request and waits for a place: when that was published.
pub const ASKED_AT: &str = "Sortie-Asked-At";
/// On the start of a run: the run that it does again.
pub const RETRY_OF: &str = "Sortie-Retry-Of";
/// On the start of a run that does another one again: the step from which on.
pub const RETRY_FROM: &str = "Sortie-Retry-From";
/// On a step's request: when the fact was stored that made the step ready, RFC 3339.
pub const READY_AT: &str = "Sortie-Ready-At";
/// On a run's first fact, and on the dead letter of a start: the workflow.
pub const WORKFLOW: &str = "Sortie-Workflow";
/// On a run's first fact, `true`: the broker stored it only because nothing was in the log.
pub const LOG_WAS_EMPTY: &str = "Sortie-Log-Was-Empty";
/// On a run's first fact: the key, in the state bucket, of the place that it holds among runs that there may be at once.
pub const HOLDS: &str = "Sortie-Holds";
/// On what a run's steps ask for, on the start of a sub-run and on its first fact: how many runs are above it.
pub const DEPTH: &str = "Sortie-Depth";
/// How the body is encoded.
pub const CONTENT_TYPE: &str = "Content-Type";
/// W3C trace context.
pub const TRACEPARENT: &str = "traceparent";
/// W3C trace context of vendors.
pub const TRACESTATE: &str = "tracestate";
/// W3C baggage.
pub const BAGGAGE: &str = "baggage";

/// The broker's duplicate detection, and the id of a message that has no [`REQUEST_ID`].
pub const NATS_MSG_ID: &str = "Nats-Msg-Id";
/// The last sequence on its subject that a publish expects.
pub const NATS_EXPECTED_LAST_SUBJECT_SEQUENCE: &str = "Nats-Expected-Last-Subject-Sequence";
/// The subject, wildcards allowed, that the expected sequence is about, where it is not the message's own.
pub const NATS_EXPECTED_LAST_SUBJECT_SEQUENCE_SUBJECT: &str = "Nats-Expected-Last-Subject-Sequence-Subject";
/// What a message replaces when it is stored: `sub` what is at its subject, `all` what is in its stream.
pub const NATS_ROLLUP: &str = "Nats-Rollup";
/// When a schedule fires.
pub const NATS_SCHEDULE: &str = "Nats-Schedule";
/// Where a schedule fires to.
pub const NATS_SCHEDULE_TARGET: &str = "Nats-Schedule-Target";
/// The time zone of a cron schedule, an IANA name.
pub const NATS_SCHEDULE_TIME_ZONE: &str = "Nats-Schedule-Time-Zone";
/// The batch that a message belongs to, all of it stored or none; at most 64 characters.
pub const NATS_BATCH_ID: &str = "Nats-Batch-Id";
/// Its place in its batch, from 1.
pub const NATS_BATCH_SEQUENCE: &str = "Nats-Batch-Sequence";
/// `1` on the last message of a batch: the broker stores the batch and answers.
pub const NATS_BATCH_COMMIT: &str = "Nats-Batch-Commit";
/// On a message of a consumer that is pinned to one client: which pin that is.
pub const NATS_PIN_ID: &str = "Nats-Pin-Id";
/// On a fired message: the subject of its schedule.
pub const NATS_SCHEDULER: &str = "Nats-Scheduler";
/// On a fired message: when its schedule fires next.
pub const NATS_SCHEDULE_NEXT: &str = "Nats-Schedule-Next";
/// How long the broker keeps one message.
pub const NATS_TTL: &str = "Nats-TTL";
/// On a delete marker: why the broker put it there.
pub const NATS_MARKER_REASON: &str = "Nats-Marker-Reason";
/// On a key of a bucket that was removed: how.
pub const KV_OPERATION: &str = "KV-Operation";
/// What every header of the broker's own begins with. They are never copied from a received message into a publish: a
/// copied schedule would fire again, a copied expectation would be refused.
pub const NATS_PREFIX: &str = "Nats-";
/// What every header of ours begins with.
pub const SORTIE_PREFIX: &str = "Sortie-";

/// The headers of requests and outcomes that nearly every one of them has.
const WELL_KNOWN: [&str; 12] = [
    REQUEST_ID,
    STATUS,
    CONTENT_TYPE,
    ATTEMPT,
    CAPABILITY,
    INSTANCE,
    NATS_EXPECTED_LAST_SUBJECT_SEQUENCE,
    NATS_MSG_ID,
    DEADLINE,
    REPLY_TO,
    READY_AT,
    TRACEPARENT,
];

/// A header's name as it stands in this file, for those that nearly every request or outcome has: whoever keeps names need
/// not copy those.
pub fn well_known(name: &str) -> Option<&'static str> {
    WELL_KNOWN.into_iter().find(|known| *known == name)
}

/// What a name begins with that stands for what cannot be read of a message's headers. No header has such a name: there is
/// a blank in it.
const UNREADABLE: &str = "unreadable: ";

/// Headers in order; a name may stand more than once, the first value counts.
///
/// All names and values stand in one text: a message has a dozen of them, is read, copied and written several times on its
/// way, and pieces of their own would each be allocated each time.
#[derive(Clone, Default)]
pub struct Headers {
    text: String,
    lines: Vec<Line>,
}

/// Where a header stands in the text: its name from `name` to `value`, its value from there to `end`.
#[derive(Clone, Copy, Debug)]
struct Line {
    name: usize,
    value: usize,
    end: usize,
}

/// What most messages have room in.
const ROOM_BYTES: usize = 512;
const ROOM_LINES: usize = 12;

impl Headers {
    /// No headers.
    pub fn new() -> Self {
        Self::default()
    }

    /// The first value of a header. Names are matched without regard to case, because clients differ in how they
    /// write them.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// The last value of a header whose name is written exactly so: what the broker adds to a stored message stands behind
    /// whatever its publisher wrote.
    pub fn last(&self, name: &str) -> Option<&str> {
        self.iter().rev().find(|(key, _)| *key == name).map(|(_, value)| value)
    }

    /// Replaces every value of a header by this one.
    pub fn set(&mut self, name: impl AsRef<str>, value: impl AsRef<str>) {
        self.remove(name.as_ref());
        self.push(name, value);
    }

    /// Adds a header without looking for others of its name.
    pub fn push(&mut self, name: impl AsRef<str>, value: impl AsRef<str>) {
        if self.lines.is_empty() {
            self.text.reserve(ROOM_BYTES);
            self.lines.reserve(ROOM_LINES);
        }
        let name_at = self.text.len();
        self.text.push_str(name.as_ref());
        let value_at = self.text.len();
        self.text.push_str(value.as_ref());
        self.lines.push(Line { name: name_at, value: value_at, end: self.text.len() });
    }

    /// Removes every value of a header.
    pub fn remove(&mut self, name: &str) {
        self.retain(|key| !key.eq_ignore_ascii_case(name));
    }

    /// Removes every header but those whose names are to be kept.
    pub fn retain(&mut self, is_kept: impl Fn(&str) -> bool) {
        if self.iter().any(|(name, _)| !is_kept(name)) {
            *self = self.iter().filter(|(name, _)| is_kept(name)).collect();
        }
    }

    /// Name and value pairs in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&str, &str)> {
        self.lines.iter().map(|line| (&self.text[line.name..line.value], &self.text[line.value..line.end]))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Names and values together, in bytes, with the four bytes that each line costs on the wire.
    pub fn size(&self) -> usize {
        self.text.len() + 4 * self.lines.len()
    }

    /// The headers that belong to neither the broker nor us.
    pub fn foreign(&self) -> Self {
        self.without(&[NATS_PREFIX, SORTIE_PREFIX])
    }

    /// All but those of the broker: what a retry hands on, before it writes its own over them.
    pub fn handed_on(&self) -> Self {
        self.without(&[NATS_PREFIX])
    }

    fn without(&self, prefixes: &[&str]) -> Self {
        let begins =
            |name: &str, prefix: &str| name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
        let is_kept = |name: &str| !prefixes.iter().any(|prefix| begins(name, prefix));
        self.iter().filter(|(name, _)| is_kept(name)).collect()
    }

    /// Notes that these are not all: the rest cannot be read, and why.
    pub fn mark_unreadable(&mut self, why: &str) {
        self.push(format!("{UNREADABLE}{why}"), "");
    }

    /// Why these are not all, where they are only what could be read. [`check`](Self::check) refuses them.
    pub fn unreadable(&self) -> Option<&str> {
        self.iter().find_map(|(name, _)| name.strip_prefix(UNREADABLE))
    }

    /// Whether they can be stored with what is added where they are published: the sequence that is expected, and the subject
    /// that it is about; the object that a large body moved into.
    pub fn leave_room(&self) -> bool {
        self.check().is_ok() && self.size() + limits::HEADERS_ADDED_BYTES <= limits::HEADERS_BYTES_MAX
    }

    /// Checks the bound of all headers together, and that none of them breaks out of its line.
    ///
    /// # Errors
    /// One sentence that names the fault.
    pub fn check(&self) -> Result<(), String> {
        let size = self.size();
        if size > limits::HEADERS_BYTES_MAX {
            return Err(format!("headers take {size} bytes; {} are allowed", limits::HEADERS_BYTES_MAX));
        }
        for (name, value) in self.iter() {
            let name_is_fine = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':');
            if !name_is_fine || value.contains(['\r', '\n']) {
                return Err(format!("header `{}` has a forbidden character", limits::truncate(name, 80)));
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.iter()).finish()
    }
}

impl PartialEq for Headers {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Headers {}

impl<N: AsRef<str>, V: AsRef<str>> FromIterator<(N, V)> for Headers {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        let mut headers = Self::new();
        for (name, value) in pairs {
            headers.push(name, value);
        }
        headers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_headers_are_neither_ours_nor_the_brokers() {
        let mut headers = Headers::new();
        headers.push("Nats-Schedule", "@at x");
        headers.push("nats-msg-id", "1");
        headers.push("Sortie-Attempt", "2");
        headers.push("X-Tenant", "blue");
        assert_eq!(headers.foreign().iter().collect::<Vec<_>>(), [("X-Tenant", "blue")]);
        let handed_on: Vec<_> = headers.handed_on().iter().map(|(name, _)| name.to_owned()).collect();
        assert_eq!(handed_on, ["Sortie-Attempt", "X-Tenant"]);
        assert_eq!(headers.get("x-tenant"), Some("blue"));
    }

    #[test]
    fn the_last_value_is_that_of_the_exact_name() {
        let headers: Headers = [("Nats-Subject", "forged"), ("Nats-Subject", "true"), ("nats-subject", "forged")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into_iter()
            .collect();
        assert_eq!((headers.last("Nats-Subject"), headers.last("Nats-Stream")), (Some("true"), None));
    }

    #[test]
    fn a_header_is_replaced_wherever_it_stands() {
        let mut headers: Headers = [("A", "1"), ("B", "2"), ("a", "3"), ("C", "")].into_iter().collect();
        headers.set("a", "4");
        assert_eq!(headers.iter().collect::<Vec<_>>(), [("B", "2"), ("C", ""), ("a", "4")]);
        assert_eq!((headers.size(), headers.get("C")), (17, Some("")));
        headers.remove("b");
        assert_eq!(headers, [("C", ""), ("a", "4")].into_iter().collect());
        assert_ne!(headers, [("C", "a"), ("", "4")].into_iter().collect());
    }

    #[test]
    fn headers_are_bounded_and_stay_in_their_lines() {
        let mut headers = Headers::new();
        headers.set("X", "a".repeat(limits::HEADERS_BYTES_MAX));
        assert!(headers.check().unwrap_err().contains("bytes"));
        headers.set("X", "a\r\nNats-Rollup: all");
        assert!(headers.check().unwrap_err().contains("forbidden"));
        headers.set("X", "fine");
        assert_eq!(headers.check(), Ok(()));
    }

    #[test]
    fn what_could_not_be_read_is_told_and_refused() {
        let mut headers = Headers::new();
        headers.set("Sortie-Status", "completed");
        assert_eq!(headers.unreadable(), None);
        headers.mark_unreadable("not UTF-8");
        assert_eq!(headers.unreadable(), Some("not UTF-8"));
        assert!(headers.check().unwrap_err().contains("unreadable: not UTF-8"));
    }
}
