//! A circuit breaker: when calls that fail are no longer made, and how it is found out that they may be made again.
//!
//! ```text
//!            failures in a row                 the pause is over
//!   closed ---------------------> open ---------------------------> half open
//!     ^                             ^                                |     |
//!     |                             +------- a trial fails ----------+     |
//!     +----------------------- as many trials succeed ---------------------+
//! ```
//!
//! Failures are counted in one instance ([`Streak`]). What follows from them is known to the whole fleet: a [`Breaker`]
//! at [`key`] in the state bucket, changed by compare-and-set. Both are functions of a given clock.

use std::{collections::BTreeSet, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{BreakerName, Capability, InstanceId, RequestId, duration, limits, time::Timestamp};

/// How long a call that finds all trials taken waits before it asks again.
pub const TRIALS_TAKEN_WAIT: Duration = Duration::from_secs(1);

/// Trial calls that a half-open breaker may be set to.
pub const TRIALS_MAX: u32 = 100;

/// When a breaker opens and closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Failures in a row, in one instance, that open it, at least 1. Defaults to 5.
    pub failures: u32,
    /// How long it stays open. Defaults to 30 s.
    #[serde(with = "duration::text")]
    #[schemars(with = "String")]
    pub open_for: Duration,
    /// Calls that it lets through half open; as many successes close it. From 1 to 100, defaults to 3.
    pub trials: u32,
}

/// What stands at `breaker.<name>` in the state bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Breaker {
    /// As it was last written. An open breaker whose time is over is half open: see [`Breaker::state_at`].
    pub state: State,
    /// When it came into this state, on the broker's clock.
    pub since: Timestamp,
    /// Until when an open one stays open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Trial calls that run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trials: Vec<Trial>,
    /// Trial calls that succeeded since it is half open.
    #[serde(default)]
    pub successes: u32,
    /// The capabilities whose consumers pause while it is open: those that have no fallback.
    #[serde(default)]
    pub pauses: BTreeSet<Capability>,
    /// What opened it last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opened: Option<Opening>,
    /// The settings of whoever wrote it last.
    pub settings: Settings,
}

/// Where a breaker stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Calls go through.
    Closed,
    /// No call goes through.
    Open,
    /// A few go through, to find out.
    HalfOpen,
}

/// A call that a half-open breaker let through.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Trial {
    /// The request.
    pub request: RequestId,
    /// When it is given up, if nothing was heard of it: its worker may be dead.
    pub until: Timestamp,
}

/// Who opened a breaker, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Opening {
    /// The instance.
    pub by: InstanceId,
    /// When.
    pub at: Timestamp,
    /// The code of its last failure.
    pub code: String,
    /// The message of its last failure, cut to [`limits::ATTEMPT_MESSAGE_BYTES_MAX`].
    pub message: String,
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It goes through.
    Pass,
    /// It goes through, and how it ends is to be told with [`Breaker::succeed`], [`Breaker::fail`] or
    /// [`Breaker::release`].
    Trial,
    /// It does not, and should ask again after this long.
    Wait(Duration),
}

/// What a consumer of a capability in [`Breaker::pauses`] may deliver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Whatever it likes.
    Free,
    /// Nothing until then.
    Paused(Timestamp),
    /// This many at a time.
    Limited(u32),
}

/// Failures in a row in one instance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Streak {
    failures: u32,
}

/// The key of a breaker in the state bucket.
pub fn key(name: &BreakerName) -> String {
    format!("{KEY_PREFIX}{name}")
}

/// The filter of all breakers' keys in the state bucket.
pub const KEY_FILTER: &str = "breaker.*";

const KEY_PREFIX: &str = "breaker.";

/// The breaker whose key this is.
pub fn name_of(key: &str) -> Option<BreakerName> {
    BreakerName::parse(key.strip_prefix(KEY_PREFIX)?).ok()
}

impl Default for Settings {
    fn default() -> Self {
        Self { failures: 5, open_for: Duration::from_secs(30), trials: 3 }
    }
}

impl Settings {
    /// The nearest settings that make sense.
    #[must_use]
    pub fn within_range(self) -> Self {
        Self {
            failures: self.failures.max(1),
            open_for: self.open_for.clamp(Duration::from_millis(100), duration::DURATION_MAX),
            trials: self.trials.clamp(1, TRIALS_MAX),
        }
    }
}

impl Streak {
    /// Counts a failure; true if it is the one that opens the breaker, and then the count begins anew.
    pub fn fail(&mut self, settings: &Settings) -> bool {
        self.failures = self.failures.saturating_add(1);
        let opens = self.failures >= settings.failures;
        if opens {
            self.failures = 0;
        }
        opens
    }

    /// A success ends it.
    pub fn succeed(&mut self) {
        self.failures = 0;
    }
}

impl Breaker {
    /// One that nothing happened to yet.
    pub fn closed(settings: Settings, now: Timestamp) -> Self {
        Self {
            state: State::Closed,
            since: now,
            until: None,
            trials: Vec::new(),
            successes: 0,
            pauses: BTreeSet::new(),
            opened: None,
            settings: settings.within_range(),
        }
    }

    /// Where it stands now, whatever was written last.
    pub fn state_at(&self, now: Timestamp) -> State {
        match self.state {
            State::Open if self.until.is_none_or(|until| now >= until) => State::HalfOpen,
            state => state,
        }
    }

    /// What the consumers of [`Breaker::pauses`] may deliver now.
    pub fn flow_at(&self, now: Timestamp) -> Flow {
        match (self.state_at(now), self.until) {
            (State::Open, Some(until)) => Flow::Paused(until),
            (State::Closed, _) => Flow::Free,
            (State::Open | State::HalfOpen, _) => Flow::Limited(self.settings.trials),
        }
    }

    /// Opens it, if it is closed. Whoever comes second changes nothing: the pause is not made longer by calls that were
    /// under way when it opened.
    pub fn open(&mut self, opening: Opening, settings: Settings) {
        if self.state == State::Closed {
            self.settings = settings.within_range();
            self.reopen(opening);
        }
    }

    /// Asks for a call to go through; a trial that nothing is heard of for `patience` is given up.
    pub fn admit(&mut self, request: &RequestId, patience: Duration, now: Timestamp) -> Admission {
        match self.state_at(now) {
            State::Closed => return Admission::Pass,
            State::Open => {
                let left = self.until.map(|until| (until - now).to_std().unwrap_or_default());
                return Admission::Wait(left.unwrap_or_default());
            }
            State::HalfOpen if self.state == State::Open => self.enter(State::HalfOpen, None, now),
            State::HalfOpen => {}
        }
        // What is given up says nothing about what is called: most likely its worker died. So it only makes room.
        // A request that asks again had no ending either.
        self.trials.retain(|trial| trial.until > now && trial.request != *request);
        let taken = self.successes.saturating_add(u32::try_from(self.trials.len()).unwrap_or(u32::MAX));
        if taken >= self.settings.trials {
            return Admission::Wait(TRIALS_TAKEN_WAIT);
        }
        self.trials.push(Trial { request: request.clone(), until: after(now, patience) });
        Admission::Trial
    }

    /// A trial succeeded. One that was given up, or that began before the breaker opened again, says nothing.
    pub fn succeed(&mut self, request: &RequestId, now: Timestamp) {
        if !self.end_trial(request) {
            return;
        }
        self.successes += 1;
        if self.successes >= self.settings.trials {
            self.enter(State::Closed, None, now);
        }
    }

    /// A trial failed: the breaker opens again. One that was given up, or that began before it opened again, says
    /// nothing.
    pub fn fail(&mut self, request: &RequestId, opening: Opening) {
        if self.end_trial(request) {
            self.reopen(opening);
        }
    }

    /// A trial ended without saying anything: it was cancelled, or its input was invalid.
    pub fn release(&mut self, request: &RequestId) {
        self.end_trial(request);
    }

    /// Closes it, whatever happened: somebody mended what was broken.
    pub fn reset(&mut self, now: Timestamp) {
        self.enter(State::Closed, None, now);
    }

    fn reopen(&mut self, opening: Opening) {
        let until = after(opening.at, self.settings.open_for);
        self.enter(State::Open, Some(until), opening.at);
        self.opened = Some(opening);
    }

    fn enter(&mut self, state: State, until: Option<Timestamp>, now: Timestamp) {
        self.state = state;
        self.since = now;
        self.until = until;
        self.trials.clear();
        self.successes = 0;
    }

    fn end_trial(&mut self, request: &RequestId) -> bool {
        let before = self.trials.len();
        self.trials.retain(|trial| trial.request != *request);
        self.state == State::HalfOpen && self.trials.len() < before
    }
}

impl Opening {
    /// With a message short enough to be kept.
    pub fn new(by: InstanceId, code: &str, message: &str, at: Timestamp) -> Self {
        Self {
            by,
            at,
            code: limits::truncate(code, limits::CODE_BYTES_MAX),
            message: limits::truncate(message, limits::ATTEMPT_MESSAGE_BYTES_MAX),
        }
    }
}

fn after(moment: Timestamp, duration: Duration) -> Timestamp {
    let duration = chrono::TimeDelta::from_std(duration.min(duration::DURATION_MAX)).unwrap_or_default();
    // Somebody else may have written the moment.
    moment.checked_add_signed(duration).unwrap_or(Timestamp::MAX_UTC)
}

#[cfg(test)]
#[path = "breaker_tests.rs"]
mod tests;
