//! Names of streams and buckets.

use crate::Namespace;

/// Names of the streams of one fleet.
#[derive(Clone, Debug)]
pub struct Names {
    /// Requests, lanes and schedules.
    pub requests: String,
    /// Unique work.
    pub unique: String,
    /// Outcomes.
    pub outcomes: String,
    /// Logs of runs.
    pub runs: String,
    /// Events.
    pub events: String,
    /// Dead letters.
    pub dead: String,
    /// Shipped log lines.
    pub logs: String,
    /// Who changed what.
    pub audit: String,
    /// What the broker gave up on.
    pub advisories: String,
    /// Registry bucket.
    pub agents: String,
    /// Configuration bucket.
    pub config: String,
    /// Workflow definitions bucket.
    pub workflows: String,
    /// Operators' wishes bucket.
    pub desired: String,
    /// Leases bucket.
    pub locks: String,
    /// State bucket.
    pub state: String,
    /// Object store of large bodies.
    pub payloads: String,
}

impl Names {
    /// The names in a namespace. Buckets are named without the `KV_` and `OBJ_` that their streams have.
    pub fn of(namespace: &Namespace) -> Self {
        let prefix = namespace.stream_prefix();
        let stream = |name: &str| format!("{prefix}_{name}");
        let bucket = |name: &str| format!("{namespace}-{name}");
        Self {
            requests: stream("REQUESTS"),
            unique: stream("UNIQUE"),
            outcomes: stream("OUTCOMES"),
            runs: stream("RUNS"),
            events: stream("EVENTS"),
            dead: stream("DEAD"),
            logs: stream("LOGS"),
            audit: stream("AUDIT"),
            advisories: stream("ADVISORIES"),
            agents: bucket("agents"),
            config: bucket("config"),
            workflows: bucket("workflows"),
            desired: bucket("desired"),
            locks: bucket("locks"),
            state: bucket("state"),
            payloads: bucket("payloads"),
        }
    }
}
