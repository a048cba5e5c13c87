//! What is kept for less long than usual. How long is the operator's to choose, so it is no drift; what it costs is told.

use std::time::Duration;

use serde::Serialize;

use super::{Names, Settings};
use crate::{Namespace, duration};

/// A stream that keeps what it holds for less long than usual.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Shortened {
    /// The stream.
    pub stream: String,
    /// How long it keeps what it holds.
    #[serde(with = "crate::duration::text")]
    pub kept: Duration,
    /// How long it does unless somebody says otherwise.
    #[serde(with = "crate::duration::text")]
    pub usual: Duration,
    /// What follows from that, in one sentence.
    pub costs: &'static str,
    /// What sets it back.
    pub command: String,
}

impl std::fmt::Display for Shortened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (kept, usual) = (duration::format(self.kept), duration::format(self.usual));
        write!(f, "{} keeps for {kept} what is kept for {usual} as a rule: {}", self.stream, self.costs)
    }
}

/// Events and log lines prove nothing: they are told of only below this. Whoever kept them for moments only to make room in
/// a full store is reminded.
const UNPROVING_MIN: Duration = Duration::from_secs(60 * 60);

/// What is kept for less long than by default; events and log lines only where they are kept for less than an hour.
pub fn shortened(namespace: &Namespace, settings: &Settings) -> Vec<Shortened> {
    let (names, defaults) = (Names::of(namespace), Settings::default());
    let all = [
        (
            names.outcomes,
            settings.outcomes_kept,
            defaults.outcomes_kept,
            "--outcomes-kept",
            "a request is done exactly once only while its outcome is kept; one that comes again later runs again",
        ),
        (
            names.dead,
            settings.dead_kept,
            defaults.dead_kept,
            "--dead-kept",
            "a request that was given up is gone for good after that, whether or not somebody has looked at it",
        ),
        (
            names.audit,
            settings.audit_kept,
            defaults.audit_kept,
            "--audit-kept",
            "who changed what is known for no longer",
        ),
    ];
    let unproving = [
        (
            names.events,
            settings.events_kept,
            defaults.events_kept,
            "--events-kept",
            "what happened is soon forgotten, and a trigger misses what nobody did in time",
        ),
        (
            names.logs,
            settings.logs_kept,
            defaults.logs_kept,
            "--logs-kept",
            "what agents logged is gone before anybody looks for it",
        ),
    ];
    let unproving = unproving.into_iter().filter(|(_, kept, ..)| *kept < UNPROVING_MIN);
    let short = all.into_iter().filter(|(_, kept, usual, ..)| kept < usual).chain(unproving);
    short
        .map(|(stream, kept, usual, flag, costs)| Shortened {
            stream,
            kept,
            usual,
            costs,
            command: format!("sortie topology apply {flag} {}", duration::format(usual)),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn less_than_usual_is_told_with_what_it_costs_and_more_is_not() {
        let hour = Duration::from_secs(3_600);
        let settings = Settings {
            outcomes_kept: hour,
            dead_kept: 100_000 * hour,
            logs_kept: hour,
            events_kept: hour,
            ..Settings::default()
        };
        assert_eq!(shortened(&Namespace::default(), &Settings::default()), []);
        let [short] = shortened(&Namespace::default(), &settings).try_into().unwrap();
        let told = short.to_string();
        assert!(told.starts_with("FLEET_OUTCOMES keeps for 1h what is kept for 1d") && told.contains("once"), "{told}");
        assert_eq!(short.command, "sortie topology apply --outcomes-kept 1d");
        let moments = Duration::from_secs(10);
        let settings = Settings { logs_kept: moments, events_kept: moments, ..Settings::default() };
        let commands: Vec<String> =
            shortened(&Namespace::default(), &settings).into_iter().map(|short| short.command).collect();
        let wanted = ["sortie topology apply --events-kept 7d", "sortie topology apply --logs-kept 3d"];
        assert_eq!(commands, wanted);
    }
}
