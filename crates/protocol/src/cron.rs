//! Recurring requests: what is to be asked for, when, and whether it may overlap with itself. The spec is a key of the
//! configuration bucket; the firing is done by a schedule of the broker, which a spec can be turned into at any time.

use std::{collections::BTreeMap, fmt, str::FromStr, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    Backoff, Capability, CronName, Headers, Lane, Namespace, Subject, UniqueKey, duration, header, limits, retry,
    time::Timestamp,
};

mod recurrence;

pub use recurrence::Recurrence;

/// Whether a firing may begin while the one before it is still queued or running.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Overlap {
    /// It may: each firing is an ordinary request.
    #[default]
    Allow,
    /// It is skipped: each firing is unique work under the key `cron-<name>`.
    Skip,
}

/// A recurring request, at `cron.<name>` in the configuration bucket.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CronSpec {
    /// When, in the broker's words: six cron fields, `@every 10s`, `@hourly`, `@daily`, `@weekly`, `@monthly`, `@yearly`.
    pub schedule: String,
    /// The time zone of cron fields, an IANA name such as `Europe/Zurich`. Defaults to UTC; `@every` has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// What is asked for.
    pub capability: Capability,
    /// Where in the order of its capability. Defaults to normal; with overlap `skip` there is no other.
    #[serde(default)]
    pub lane: Lane,
    /// Whether firings may overlap. Defaults to `allow`.
    #[serde(default)]
    pub overlap: Overlap,
    /// The body of each request, at most 64 KiB of JSON. Defaults to null.
    #[serde(default)]
    pub body: Value,
    /// Headers that reach the handler. Defaults to none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// How long one attempt may take. Defaults to what the capability declares.
    #[serde(default, with = "duration::optional", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub timeout: Option<Duration>,
    /// Attempts in all. Defaults to what the capability declares.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u32>,
    /// The wait between them. Defaults to what the capability declares.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff: Option<Backoff>,
    /// How long after its firing a request expires; only with overlap `skip`, because what the broker fires by itself
    /// always has the same headers. Defaults to never.
    #[serde(default, with = "duration::optional", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub deadline: Option<Duration>,
    /// Whether it fires at all. Defaults to false: it does.
    #[serde(default)]
    pub paused: bool,
}

/// Ties a schedule, and each request that comes from it, to the revision of the spec that it was made from:
/// `nightly@17`, in the header `Sortie-Cron`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CronTie {
    /// The spec.
    pub name: CronName,
    /// Its revision in the configuration bucket.
    pub revision: u64,
}

/// The event of a firing that led to no request, at `sys.cron.skipped.<name>`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CronSkipped {
    /// The recurring request.
    pub name: CronName,
    /// Why.
    pub reason: SkipReason,
    /// When the broker fired it.
    pub fired_at: Timestamp,
}

/// Why a firing led to no request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SkipReason {
    /// The one before it is still queued or running.
    Running,
    /// No coordinator took it before the next one came.
    Overtaken,
    /// It was paused or removed meanwhile, or is no longer one that skips.
    Withdrawn,
}

/// The key of a spec in the configuration bucket.
pub fn key(name: &CronName) -> String {
    format!("cron.{name}")
}

/// The filter of every spec in the configuration bucket.
pub const KEYS: &str = "cron.*";

/// The name in a key; none for other keys.
pub fn name_of(key: &str) -> Option<CronName> {
    CronName::parse(key.strip_prefix("cron.")?).ok()
}

impl CronSpec {
    /// Everything that is wrong with it, whatever the broker then says of its schedule and zone.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if self.schedule.starts_with("@at ") {
            faults.push("schedule: `@at` is one moment, not a recurring one: see `sortie submit --at`".to_owned());
        }
        if self.overlap == Overlap::Skip && self.lane != Lane::Normal {
            faults.push("lane: with overlap `skip` there is only the normal one".to_owned());
        }
        if self.overlap == Overlap::Allow && self.deadline.is_some() {
            faults.push("deadline: only with overlap `skip`".to_owned());
        }
        if self.timeout.is_some_and(|timeout| timeout.is_zero() || timeout > limits::TIMEOUT_MAX) {
            faults.push(format!("timeout: not from 1ms to {}", duration::format(limits::TIMEOUT_MAX)));
        }
        if let Some(Err(fault)) = self.attempts.map(|attempts| retry::parse_attempts(&attempts.to_string())) {
            faults.push(format!("attempts: {fault}"));
        }
        if self.deadline.is_some_and(|deadline| deadline.is_zero()) {
            faults.push("deadline: it would always be past".to_owned());
        }
        let own = own_headers(&self.headers);
        for (name, _) in own.iter().filter(|(name, _)| own.foreign().get(name).is_none()) {
            faults.push(format!("headers: {name} is not yours to set"));
        }
        faults.extend(own.check().err().map(|fault| format!("headers: {fault}")));
        let size = self.body.to_string().len();
        if size > limits::CRON_BODY_BYTES_MAX {
            faults.push(format!("body: has {size} bytes; {} are allowed", limits::CRON_BODY_BYTES_MAX));
        }
        faults
    }

    /// Reads a spec as it is stored.
    ///
    /// # Errors
    /// What is wrong with it, all faults in one sentence.
    pub fn read(body: &[u8]) -> Result<Self, String> {
        let spec: Self = serde_json::from_slice(body).map_err(|error| error.to_string())?;
        let faults = spec.faults();
        if faults.is_empty() { Ok(spec) } else { Err(faults.join("; ")) }
    }

    /// What its schedule fires at.
    pub fn target(&self, name: &CronName) -> Subject {
        match self.overlap {
            Overlap::Allow => Subject::Request { lane: self.lane, capability: self.capability.clone() },
            Overlap::Skip => Subject::Fire(name.clone()),
        }
    }

    /// Where a firing goes that must not overlap: the key is taken as long as the one before it lives.
    pub fn unique(&self, name: &CronName) -> Subject {
        // A name is a slug of at most 63 bytes, so this is always a key.
        let key = UniqueKey::parse(&format!("cron-{name}"));
        match key {
            Ok(key) => Subject::Unique { capability: self.capability.clone(), key },
            Err(error) => unreachable!("{error}"),
        }
    }

    /// The headers of one request: no id, because each firing is a request of its own.
    pub fn request_headers(&self, tie: &CronTie) -> Headers {
        let mut headers = own_headers(&self.headers);
        headers.set(header::CRON, tie.to_string());
        let optional = [
            (header::TIMEOUT, self.timeout.map(duration::format)),
            (header::MAX_ATTEMPTS, self.attempts.map(|attempts| attempts.to_string())),
            (header::BACKOFF, self.backoff.map(|backoff| backoff.to_string())),
        ];
        for (name, value) in optional {
            if let Some(value) = value {
                headers.set(name, value);
            }
        }
        headers
    }

    /// The message that makes the broker fire it: subject, headers and body. What must not overlap carries neither body
    /// nor headers of the request: whoever takes the firing reads the spec.
    pub fn schedule(&self, namespace: &Namespace, tie: &CronTie) -> (String, Headers, Vec<u8>) {
        let (mut headers, body) = match self.overlap {
            Overlap::Allow => (self.request_headers(tie), self.body.to_string().into_bytes()),
            Overlap::Skip => {
                let mut headers = Headers::new();
                headers.set(header::CRON, tie.to_string());
                (headers, Vec::new())
            }
        };
        headers.set(header::NATS_SCHEDULE, self.schedule.as_str());
        headers.set(header::NATS_SCHEDULE_TARGET, self.target(&tie.name).render(namespace));
        if let Some(zone) = &self.zone {
            headers.set(header::NATS_SCHEDULE_TIME_ZONE, zone.as_str());
        }
        (Subject::Cron(tie.name.clone()).render(namespace), headers, body)
    }

    /// When it fires; none where only the broker can tell.
    pub fn recurrence(&self) -> Option<Recurrence> {
        Recurrence::parse(&self.schedule, self.zone.as_deref())
    }
}

impl CronTie {
    /// What a schedule or a request says of itself; none where it comes from no spec.
    pub fn read(headers: &Headers) -> Option<Self> {
        headers.get(header::CRON)?.parse().ok()
    }
}

impl fmt::Display for CronTie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name, self.revision)
    }
}

impl FromStr for CronTie {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('@').and_then(|(name, revision)| Some((CronName::parse(name).ok()?, revision)));
        match parts.map(|(name, revision)| (name, revision.parse())) {
            Some((name, Ok(revision))) => Ok(Self { name, revision }),
            _ => Err(format!("`{}` is not <name>@<revision>", limits::truncate(text, 80))),
        }
    }
}

fn own_headers(headers: &BTreeMap<String, String>) -> Headers {
    headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// What has to be done so that a schedule is what its spec says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mending {
    /// Nothing.
    None,
    /// Publish the spec's schedule, if this is still the last sequence on its subject; 0 where there is none.
    Publish {
        /// The sequence.
        expecting: u64,
    },
    /// Purge what is there, up to this sequence.
    Purge {
        /// The sequence.
        through: u64,
    },
}

/// Compares a spec with its schedule. `spec` is the revision of a spec that fires; none where it is paused, removed or
/// was never there. `schedule` is the sequence of the schedule and the revision it was made from; none where somebody
/// made it by hand. One made by hand is left alone, unless it stands in the place of a spec.
pub fn mending(spec: Option<u64>, schedule: Option<(u64, Option<u64>)>) -> Mending {
    match (spec, schedule) {
        (None, None | Some((_, None))) => Mending::None,
        (None, Some((sequence, Some(_)))) => Mending::Purge { through: sequence },
        (Some(revision), Some((_, Some(of)))) if of == revision => Mending::None,
        (Some(_), Some((sequence, _))) => Mending::Publish { expecting: sequence },
        (Some(_), None) => Mending::Publish { expecting: 0 },
    }
}

#[cfg(test)]
#[path = "cron_tests.rs"]
mod tests;
