//! What can be chosen about a worker and about each of its capabilities.

use std::{collections::BTreeMap, time::Duration};

use protocol::{Namespace, RetryPolicy, limits};
use serde_json::Value;

/// What can be chosen about a worker.
#[derive(Clone, Debug)]
pub struct Config {
    /// How the broker is reached. Defaults to `nats://127.0.0.1:4222`.
    pub broker: broker::Options,
    /// The fleet. Defaults to `fleet`.
    pub namespace: Namespace,
    /// Version of the kind, semantic. Defaults to `0.0.0`.
    pub version: String,
    /// Attempts at once, shared by all capabilities, from 1 to 1,000. Defaults to 10.
    pub slots: usize,
    /// How long attempts may go on after a stop was asked for, before they are handed back. Defaults to 30 s.
    pub drain_grace: Duration,
    /// How long a handler may go on after its timeout or cancellation, before its slot counts as held. Defaults to 5 s.
    pub stop_grace: Duration,
    /// How often the registry entry is renewed. Defaults to 10 s.
    pub registry_interval: Duration,
    /// How long the registry entry stands without renewal. Defaults to 30 s.
    pub registry_ttl: Duration,
    /// How long to wait at start until somebody has made the streams. Defaults to 30 s.
    pub streams_within: Duration,
    /// Whether the process exits with 70 when every slot is held by a handler that ignores its end, and with 75 when the
    /// worker no longer consumes. Defaults to true; a test that has other work in its process says false.
    pub exit_when_stuck: bool,
    /// Whatever else the registry shows. Defaults to nothing.
    pub tags: BTreeMap<String, String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            broker: broker::Options::default(),
            namespace: Namespace::default(),
            version: "0.0.0".to_owned(),
            slots: 10,
            drain_grace: Duration::from_secs(30),
            stop_grace: Duration::from_secs(5),
            registry_interval: Duration::from_secs(10),
            registry_ttl: Duration::from_secs(30),
            streams_within: Duration::from_secs(30),
            exit_when_stuck: true,
            tags: BTreeMap::new(),
        }
    }
}

impl Config {
    /// Every fault at once.
    pub(crate) fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if !(1..=limits::SLOTS_MAX).contains(&self.slots) {
            faults.push(format!("slots is {}; 1 to {} are allowed", self.slots, limits::SLOTS_MAX));
        }
        if self.registry_ttl < 2 * self.registry_interval {
            faults.push("registry_ttl is less than twice registry_interval: a live agent would vanish".to_owned());
        }
        faults
    }
}

/// What can be chosen about one capability; a request's own headers come before it.
#[derive(Clone, Debug)]
pub struct CapabilityConfig {
    /// One line for people. Defaults to none.
    pub description: Option<String>,
    /// How long one attempt may take. Defaults to 60 s.
    pub timeout: Duration,
    /// How often and when it is tried again. Defaults to 3 attempts, exponential from 1 s up to 5 min.
    pub retry: RetryPolicy,
    /// Codes that are never retried, whatever the failure says. Defaults to none.
    pub give_up_codes: Vec<String>,
    /// Slots it may take at most. Defaults to all.
    pub slots: Option<usize>,
    /// JSON Schema of the input. Defaults to that of the handler's type.
    pub input_schema: Option<Value>,
    /// JSON Schema of the output. Defaults to that of the handler's type.
    pub output_schema: Option<Value>,
}

impl Default for CapabilityConfig {
    fn default() -> Self {
        Self {
            description: None,
            timeout: limits::TIMEOUT_DEFAULT,
            retry: RetryPolicy::default(),
            give_up_codes: Vec::new(),
            slots: None,
            input_schema: None,
            output_schema: None,
        }
    }
}

impl CapabilityConfig {
    /// With one line for people.
    #[must_use]
    pub fn description(mut self, text: impl Into<String>) -> Self {
        self.description = Some(text.into());
        self
    }

    /// With another timeout.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// With another retry policy.
    #[must_use]
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.retry = policy;
        self
    }

    /// With a code that is never retried.
    #[must_use]
    pub fn give_up_on(mut self, code: impl Into<String>) -> Self {
        self.give_up_codes.push(code.into());
        self
    }

    /// With a cap of its own on slots.
    #[must_use]
    pub fn slots(mut self, slots: usize) -> Self {
        self.slots = Some(slots);
        self
    }

    /// Every fault at once.
    pub(crate) fn faults(&self, capability: &str) -> Vec<String> {
        let mut faults = Vec::new();
        if self.slots == Some(0) {
            faults.push(format!("{capability}: slots is 0; leave it out or give it one"));
        }
        if self.timeout.is_zero() || self.timeout > limits::TIMEOUT_MAX {
            faults.push(format!("{capability}: timeout is not from 1ms to 7d"));
        }
        if !(1..=limits::ATTEMPTS_MAX).contains(&self.retry.attempts_max) {
            faults.push(format!("{capability}: attempts is not from 1 to {}", limits::ATTEMPTS_MAX));
        }
        faults
    }
}
