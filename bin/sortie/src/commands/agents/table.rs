//! Agents as a table.

use std::time::Duration;

use protocol::{
    duration,
    registry::{AgentEntry, Health},
    time,
};

use super::word;
use crate::output::Output;

const HEAD: [&str; 11] =
    ["KIND", "INSTANCE", "VERSION", "STATE", "HEALTH", "SLOTS", "DONE", "FAILED", "UP", "SERVES", "WHERE"];

/// A row per agent.
pub(super) fn table(output: Output, agents: &[AgentEntry]) -> String {
    let rows = agents.iter().map(|agent| {
        let serves: Vec<&str> = agent.capabilities.iter().map(|entry| entry.name.as_str()).collect();
        [
            agent.kind.to_string(),
            agent.instance.to_string(),
            agent.version.clone(),
            word(&agent.state),
            health(agent),
            format!("{}/{}", agent.slots_busy, agent.slots),
            agent.counts.completed.to_string(),
            agent.counts.failed.to_string(),
            since(agent.started_at),
            serves.join(" "),
            format!("{}:{}", agent.host, agent.pid),
        ]
    });
    output.table(&HEAD, rows)
}

/// How it feels, and why.
pub(super) fn health(agent: &AgentEntry) -> String {
    match (&agent.health_reason, agent.health) {
        (Some(reason), health) if health != Health::Healthy => format!("{}: {reason}", word(&health)),
        (_, health) => word(&health),
    }
}

/// How long ago a moment was, in one unit.
pub(super) fn since(moment: time::Timestamp) -> String {
    let ago = (time::now() - moment).to_std().unwrap_or_default();
    duration::format(Duration::from_secs(rounded(ago.as_secs())))
}

/// Whole minutes, hours and days from two of them on: nobody reads more.
fn rounded(seconds: u64) -> u64 {
    [86_400, 3_600, 60].into_iter().find(|unit| seconds >= 2 * unit).map_or(seconds, |unit| seconds - seconds % unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_told_in_one_unit() {
        let told = |seconds| duration::format(Duration::from_secs(rounded(seconds)));
        assert_eq!([5, 119, 125, 7_205, 200_000].map(told), ["5s", "119s", "2m", "2h", "2d"]);
    }
}
