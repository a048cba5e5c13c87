//! Bounds how often attempts begin, by a token bucket for each key of the input.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::{Arc, Mutex, PoisonError},
    task::{Context as TaskContext, Poll},
    time::{Duration, Instant},
};

use futures_util::{FutureExt, future::BoxFuture};
use protocol::{Failure, codes, duration};
use serde_json::Value;
use tower::{Layer, Service};

use crate::{BoxService, Call, Reply};

/// Keys that are remembered at once.
const KEYS_MAX: usize = 10_000;

/// How far ahead of now attempts are spread that find no token: what comes in vain at the same moment would come again
/// at the same moment.
const SPREAD_MAX: Duration = Duration::from_secs(60);

/// Lets so many attempts begin in a time, in this instance. What comes beyond that is put off until the next token: it
/// burns no attempt and holds no slot. Clones share the bound.
#[derive(Clone, Debug)]
pub struct RateLimit {
    pace: Pace,
    pointer: Option<String>,
    buckets: Arc<Mutex<Buckets>>,
}

/// What [`RateLimit`] makes of a handler.
#[derive(Clone, Debug)]
pub struct Paced {
    inner: BoxService,
    limit: RateLimit,
}

/// How fast tokens come, and how many are kept.
#[derive(Clone, Copy, Debug)]
struct Pace {
    every: Duration,
    burst: u32,
}

#[derive(Debug)]
struct Buckets {
    hasher: RandomState,
    by_key: HashMap<u64, Bucket>,
}

/// A token bucket, told by the moment at which it would be full again.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    full_at: Instant,
    /// The last moment at which one that waits was told to come again.
    promised: Instant,
}

impl RateLimit {
    /// So many in this time, and as many at once after a quiet while. At least one.
    pub fn new(count: u32, per: Duration) -> Self {
        let count = count.max(1);
        let every = (per / count).max(Duration::from_nanos(1));
        let buckets = Buckets { hasher: RandomState::new(), by_key: HashMap::new() };
        Self { pace: Pace { every, burst: count }, pointer: None, buckets: Arc::new(Mutex::new(buckets)) }
    }

    /// At most so many at once after a quiet while, at least one. Defaults to the count.
    #[must_use]
    pub fn burst(mut self, burst: u32) -> Self {
        self.pace.burst = burst.max(1);
        self
    }

    /// A bucket for each value at this JSON pointer of the input, such as `/customer`; inputs without one share a bucket.
    /// Up to 10,000 values are remembered. Defaults to one bucket for all.
    #[must_use]
    pub fn key(mut self, pointer: impl Into<String>) -> Self {
        self.pointer = Some(pointer.into());
        self
    }

    fn key_of(&self, call: &Call) -> Option<String> {
        let pointer = self.pointer.as_ref()?;
        let input: Value = call.content_type.decode(&call.body).ok()?;
        input.pointer(pointer).map(Value::to_string)
    }

    /// Takes a token, or says when to come again.
    fn take(&self, key: Option<&str>, now: Instant) -> Result<(), Duration> {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let key = buckets.hasher.hash_one(key);
        if buckets.by_key.len() >= KEYS_MAX && !buckets.by_key.contains_key(&key) {
            buckets.forget_some(now);
        }
        buckets.by_key.entry(key).or_insert(Bucket { full_at: now, promised: now }).take(self.pace, now)
    }
}

impl Buckets {
    /// Those that are full again say no more than new ones. Beyond them the half goes that is nearest to it, so that
    /// this is seldom done.
    fn forget_some(&mut self, now: Instant) {
        self.by_key.retain(|_, bucket| bucket.full_at > now);
        if self.by_key.len() <= KEYS_MAX / 2 {
            return;
        }
        let mut moments: Vec<Instant> = self.by_key.values().map(|bucket| bucket.full_at).collect();
        let middle = moments.len() / 2;
        let (_, middle, _) = moments.select_nth_unstable(middle);
        let middle = *middle;
        let mut to_go = self.by_key.len() / 2;
        self.by_key.retain(|_, bucket| {
            let goes = to_go > 0 && bucket.full_at <= middle;
            to_go -= usize::from(goes);
            !goes
        });
    }
}

impl Bucket {
    fn take(&mut self, pace: Pace, now: Instant) -> Result<(), Duration> {
        // Each token taken moves the moment at which it is full by one; it may be at most a whole bucket away.
        let full_at = self.full_at.max(now) + pace.every;
        let next = full_at.checked_sub(pace.every.saturating_mul(pace.burst)).unwrap_or(now);
        if next <= now {
            self.full_at = full_at;
            return Ok(());
        }
        let latest = (now + SPREAD_MAX).max(next);
        self.promised = (self.promised + pace.every).clamp(next, latest);
        Err(self.promised - now)
    }
}

impl Layer<BoxService> for RateLimit {
    type Service = Paced;
    fn layer(&self, inner: BoxService) -> Paced {
        Paced { inner, limit: self.clone() }
    }
}

impl Service<Call> for Paced {
    type Response = Reply;
    type Error = Failure;
    type Future = BoxFuture<'static, Result<Reply, Failure>>;

    fn poll_ready(&mut self, context: &mut TaskContext<'_>) -> Poll<Result<(), Failure>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, call: Call) -> Self::Future {
        let key = self.limit.key_of(&call);
        match self.limit.take(key.as_deref(), Instant::now()) {
            Ok(()) => self.inner.call(call),
            Err(wait) => {
                let every = duration::format(self.limit.pace.every);
                let message = format!("one attempt may begin every {every} in this agent");
                std::future::ready(Err(Failure::new(codes::RATE_LIMITED, message).snoozing(wait))).boxed()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MILLI: Duration = Duration::from_millis(1);

    #[test]
    fn a_burst_then_one_at_a_time() {
        let limit = RateLimit::new(10, Duration::from_secs(1)).burst(3);
        let start = Instant::now();
        assert!((0..3).all(|_| limit.take(None, start).is_ok()));
        assert_eq!(limit.take(None, start), Err(100 * MILLI));
        assert_eq!(limit.take(None, start), Err(200 * MILLI), "those that wait are spread");
        assert_eq!(limit.take(None, start + 99 * MILLI), Err(201 * MILLI));
        assert!(limit.take(None, start + 100 * MILLI).is_ok());
        assert!(limit.take(None, start + 100 * MILLI).is_err());
        // A long rest gives back a burst, not more.
        let later = start + Duration::from_secs(60);
        assert_eq!((0..10).filter(|_| limit.take(None, later).is_ok()).count(), 3);
    }

    #[test]
    fn keys_have_buckets_of_their_own_and_are_bounded() {
        let limit = RateLimit::new(1, Duration::from_secs(1));
        let now = Instant::now();
        for number in 0..2 * KEYS_MAX {
            assert!(limit.take(Some(&number.to_string()), now).is_ok());
        }
        assert!(limit.take(Some(&(2 * KEYS_MAX - 1).to_string()), now).is_err());
        assert!(limit.buckets.lock().unwrap().by_key.len() <= KEYS_MAX);
    }

    #[test]
    fn nobody_is_told_to_wait_for_more_than_a_minute_unless_a_token_takes_longer() {
        let now = Instant::now();
        let limit = RateLimit::new(1, Duration::from_secs(1));
        assert!(limit.take(None, now).is_ok());
        let longest = (0..1_000).filter_map(|_| limit.take(None, now).err()).max();
        assert_eq!(longest, Some(SPREAD_MAX));
        let slow = RateLimit::new(1, Duration::from_secs(3_600));
        assert!(slow.take(None, now).is_ok());
        assert_eq!(slow.take(None, now), Err(Duration::from_secs(3_600)));
    }

    proptest! {
        #[test]
        fn in_no_window_begin_more_than_the_burst_and_its_tokens(
            gaps in proptest::collection::vec(0..50_u32, 1..200),
            count in 1..20_u32,
            burst in 1..20_u32,
        ) {
            let limit = RateLimit::new(count, Duration::from_millis(200)).burst(burst);
            let mut now = Instant::now();
            let mut began = Vec::new();
            for gap in gaps {
                now += gap * MILLI;
                match limit.take(None, now) {
                    Ok(()) => began.push(now),
                    Err(wait) => prop_assert!(!wait.is_zero()),
                }
            }
            for (index, first) in began.iter().enumerate() {
                for (later, last) in began.iter().enumerate().skip(index) {
                    let tokens = (*last - *first).as_nanos() / limit.pace.every.as_nanos();
                    prop_assert!((later - index + 1) as u128 <= tokens + u128::from(burst));
                }
            }
        }
    }
}
