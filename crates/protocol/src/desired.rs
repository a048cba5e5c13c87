//! What operators wish of a queue, kept in the desired bucket; and what follows from it for the queue's consumer.
//!
//! A wish is not an act: one duty of the coordinator makes consumers agree with it, again and again. So it outlives the
//! consumer, and what a circuit breaker does meanwhile takes nothing of it back.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    Capability, Operator,
    breaker::{Breaker, Flow},
    time::{self, Timestamp},
    topology::Source,
};

/// The most that a limit may allow at once: what a consumer has where nobody wishes otherwise.
pub const LIMIT_MAX: u32 = 10_000;

/// The longest reason that is kept, in bytes.
pub const REASON_BYTES_MAX: usize = 500;

/// What is wished of one queue, at `queue.<capability>.<lane>`. Nothing wished is an empty object, or no key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct QueueWish {
    /// Nothing of it is to be delivered; what is in hand goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<PauseWish>,
    /// When somebody last wished that it runs: once, this ends a pause that was made by hand, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resumed_at: Option<Timestamp>,
    /// At most so many of it are to be in hand at once, in the whole fleet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<LimitWish>,
    /// When somebody last wished that it has no limit: once, this ends one that was set by hand, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unlimited_at: Option<Timestamp>,
}

/// A pause that somebody wishes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PauseWish {
    /// Who.
    pub by: Operator,
    /// Since when, on the broker's clock.
    pub at: Timestamp,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Until when, on the broker's clock; none means until somebody resumes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

/// A limit that somebody wishes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LimitWish {
    /// How many at once, from 1 to 10,000.
    pub max: u32,
    /// Who.
    pub by: Operator,
    /// Since when, on the broker's clock.
    pub at: Timestamp,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What is to hold of a consumer, by wishes and by breakers. None: whatever it has otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Paused until then.
    pub paused_until: Option<Timestamp>,
    /// Its max ack pending.
    pub max_ack_pending: Option<u32>,
}

/// What was last done to a consumer, at `steered.<capability>.<lane>` of the state bucket: only that is taken back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Steered {
    /// The pause that it was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused_until: Option<Timestamp>,
    /// The max ack pending that it was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<i64>,
    /// What it had before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_before: Option<i64>,
    /// The wish to run that was last fulfilled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resumed_at: Option<Timestamp>,
    /// The wish to have no limit that was last fulfilled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unlimited_at: Option<Timestamp>,
}

/// The key of a wish in the desired bucket.
pub fn queue_key(capability: &Capability, source: Source) -> String {
    format!("queue.{capability}.{}", source.token())
}

/// The inverse of [`queue_key`].
pub fn parse_queue_key(key: &str) -> Option<(Capability, Source)> {
    parse_key("queue.", key)
}

/// The key in the state bucket of what was done to a consumer.
pub fn steered_key(capability: &Capability, source: Source) -> String {
    format!("steered.{capability}.{}", source.token())
}

/// The inverse of [`steered_key`].
pub fn parse_steered_key(key: &str) -> Option<(Capability, Source)> {
    parse_key("steered.", key)
}

fn parse_key(prefix: &str, key: &str) -> Option<(Capability, Source)> {
    let (capability, lane) = key.strip_prefix(prefix)?.split_once('.')?;
    Some((Capability::parse(capability).ok()?, Source::parse(lane)?))
}

impl QueueWish {
    /// The pause that is wished at this moment.
    pub fn pause_at(&self, now: Timestamp) -> Option<&PauseWish> {
        self.paused.as_ref().filter(|pause| pause.until.is_none_or(|until| until > now))
    }
}

impl PauseWish {
    /// Until when the broker is told to pause: it wants a time, so "until somebody resumes it" is a far one.
    pub fn broker_until(&self) -> Timestamp {
        for_broker(self.until.unwrap_or_else(far))
    }
}

/// What stands for "until somebody resumes it". The broker counts in nanoseconds, which end in 2262.
pub fn far() -> Timestamp {
    time::parse("2200-01-01T00:00:00Z").unwrap_or_default()
}

/// Whether a pause's end means "until somebody resumes it".
pub fn is_far(until: Timestamp) -> bool {
    until >= far() - chrono::TimeDelta::days(1)
}

/// A time in whole milliseconds, as it is told to the broker: what the broker gives back is then the same.
pub fn for_broker(moment: Timestamp) -> Timestamp {
    time::parse(&time::format(moment)).unwrap_or(moment)
}

/// What is to hold of a queue's consumer now, by what is wished and by the breakers that pause its capability: the longest
/// pause and the lowest limit count, so that none of them takes anything back for another.
///
/// While a breaker is open its limit of half open holds already: when no coordinator is there at its end, the broker ends
/// the pause by itself, and still only trials go through.
pub fn wanted<'a>(wish: &QueueWish, breakers: impl IntoIterator<Item = &'a Breaker>, now: Timestamp) -> Wanted {
    let mut wanted = Wanted {
        paused_until: wish.pause_at(now).map(PauseWish::broker_until),
        max_ack_pending: wish.limit.as_ref().map(|limit| limit.max.clamp(1, LIMIT_MAX)),
    };
    for breaker in breakers {
        let trials = match breaker.flow_at(now) {
            Flow::Free => continue,
            Flow::Paused(until) => {
                wanted.paused_until = wanted.paused_until.max(Some(for_broker(until)));
                breaker.settings.trials
            }
            Flow::Limited(trials) => trials,
        };
        let lowest = wanted.max_ack_pending.map_or(trials, |max| max.min(trials));
        wanted.max_ack_pending = Some(lowest.clamp(1, LIMIT_MAX));
    }
    wanted
}

/// The end of a pause of this length from now.
pub fn pause_end(now: Timestamp, length: Duration) -> Timestamp {
    chrono::TimeDelta::from_std(length).ok().and_then(|length| now.checked_add_signed(length)).unwrap_or_else(far)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{InstanceId, Lane, breaker};

    fn at(second: u32) -> Timestamp {
        time::parse(&format!("2030-01-01T00:00:{second:02}Z")).unwrap()
    }

    #[test]
    fn keys_are_read_back() {
        let echo = Capability::parse("echo").unwrap();
        for source in Source::ALL {
            assert_eq!(parse_queue_key(&queue_key(&echo, source)), Some((echo.clone(), source)));
            assert_eq!(parse_steered_key(&steered_key(&echo, source)), Some((echo.clone(), source)));
        }
        assert_eq!(queue_key(&echo, Source::Lane(Lane::Normal)), "queue.echo.normal");
        for bad in
            ["queue.echo", "queue.echo.request", "queue.Echo.normal", "steered.echo.normal", "queue.echo.normal.x"]
        {
            assert_eq!(parse_queue_key(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_is_wanted_follows_from_the_wish() {
        let by = Operator::nearest("ann");
        let pause = |until| PauseWish { by: by.clone(), at: at(0), reason: None, until };
        let limit = |max| LimitWish { max, by: by.clone(), at: at(0), reason: None };
        for (case, paused, limited, expected) in [
            ("nothing", None, None, (None, None)),
            ("a pause for good", Some(pause(None)), None, (Some(far()), None)),
            ("a pause for a while", Some(pause(Some(at(20)))), None, (Some(at(20)), None)),
            ("a pause that is over", Some(pause(Some(at(10)))), None, (None, None)),
            ("a limit", None, Some(limit(5)), (None, Some(5))),
            ("a limit that somebody wrote by hand", None, Some(limit(0)), (None, Some(1))),
            ("both", Some(pause(None)), Some(limit(5)), (Some(far()), Some(5))),
        ] {
            let wish = QueueWish { paused, limit: limited, ..QueueWish::default() };
            let (paused_until, max_ack_pending) = expected;
            assert_eq!(wanted(&wish, [], at(10)), Wanted { paused_until, max_ack_pending }, "{case}");
        }
    }

    #[test]
    fn a_breaker_takes_nothing_back_that_a_person_wished() {
        let by = Operator::nearest("ann");
        let opened = |second: u32, seconds: u64| {
            let settings = breaker::Settings { open_for: Duration::from_secs(seconds), ..breaker::Settings::default() };
            let mut breaker = Breaker::closed(settings, at(0));
            let instance = InstanceId::parse("ins_1").unwrap();
            breaker.open(breaker::Opening::new(instance, "down", "", at(second)), settings);
            breaker
        };
        let (open, half_open) = (opened(5, 20), opened(0, 5));
        let closed = Breaker::closed(breaker::Settings::default(), at(0));
        let (none, until_20) = (None, Some(Some(at(20))));
        let (for_good, until_50) = (Some(None), Some(Some(at(50))));
        for (case, paused, limit, breakers, expected) in [
            ("closed", none, None, vec![&closed], (None, None)),
            ("open", none, None, vec![&open], (Some(at(25)), Some(3))),
            ("half open", none, None, vec![&half_open], (None, Some(3))),
            ("closed again, and paused by somebody", for_good, None, vec![&closed], (Some(far()), None)),
            ("open, and paused by somebody for good", for_good, None, vec![&open], (Some(far()), Some(3))),
            ("open, and paused for longer", until_50, None, vec![&open], (Some(at(50)), Some(3))),
            ("open, and paused for less long", until_20, None, vec![&open], (Some(at(25)), Some(3))),
            ("half open, and paused by somebody", for_good, None, vec![&half_open], (Some(far()), Some(3))),
            ("half open, and a lower limit", none, Some(2), vec![&half_open], (None, Some(2))),
            ("half open, and a higher limit", none, Some(9), vec![&half_open], (None, Some(3))),
            ("closed again, and a limit", none, Some(9), vec![&closed], (None, Some(9))),
            ("one open, one half open", none, None, vec![&half_open, &open, &closed], (Some(at(25)), Some(3))),
        ] {
            let wish = QueueWish {
                paused: paused.map(|until| PauseWish { by: by.clone(), at: at(0), reason: None, until }),
                limit: limit.map(|max| LimitWish { max, by: by.clone(), at: at(0), reason: None }),
                ..QueueWish::default()
            };
            let (paused_until, max_ack_pending) = expected;
            assert_eq!(wanted(&wish, breakers, at(10)), Wanted { paused_until, max_ack_pending }, "{case}");
        }
    }

    #[test]
    fn the_broker_is_told_whole_milliseconds() {
        let odd = at(20) + chrono::TimeDelta::nanoseconds(1_999_999);
        let pause = PauseWish { by: Operator::nearest("ann"), at: at(0), reason: None, until: Some(odd) };
        assert_eq!(pause.broker_until(), at(20) + chrono::TimeDelta::milliseconds(1));
        assert_eq!(pause_end(at(0), Duration::from_secs(20)), at(20));
        assert!(is_far(far()) && !is_far(at(0)));
        assert_eq!(serde_json::from_str::<QueueWish>("{}").unwrap(), QueueWish::default());
    }
}
