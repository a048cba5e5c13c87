//! Whether anybody serves a capability: one judgement, for whoever asks.
//!
//! An agent says so in the registry. A program without an entry there is seen at the consumers: by a pull that waits, or,
//! with all its slots taken, by what it has in hand. What is in hand proves nothing by itself: it stays there, counted by
//! the broker, when whoever had it has died and nobody pulls. But the broker notes each delivery and each extension of a
//! deadline, so what has not moved for as long as the ack deadline is in nobody's hands.

use std::time::Duration;

use serde::Serialize;

use crate::{
    Capability,
    registry::{AgentEntry, State},
    time::Timestamp,
};

/// What a consumer tells of those who pull from it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attendance {
    /// Pulls that wait.
    pub pulls: u64,
    /// Messages that are delivered and not acknowledged.
    pub in_hand: u64,
    /// When one of those was delivered or extended last, on the broker's clock. None also after a restart of the broker,
    /// until whoever is alive extends.
    pub last_moved: Option<Timestamp>,
    /// How long a message may be in hand without being extended.
    pub ack_deadline: Duration,
}

/// Whether anybody serves a capability.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Service {
    /// Somebody takes its requests, or has some in hand.
    #[default]
    Served,
    /// Who serves it is paused: what waits stays until it is resumed.
    Paused,
    /// Nobody does. What is in hand is in the hands of agents that are gone.
    Unserved,
}

impl Attendance {
    /// Whether what is in hand is in somebody's hands.
    pub fn is_held(&self, now: Timestamp) -> bool {
        // A moment that lies ahead is a difference of clocks.
        let is_recent = |moved: Timestamp| (now - moved).to_std().unwrap_or_default() <= self.ack_deadline;
        self.in_hand > 0 && self.last_moved.is_some_and(is_recent)
    }

    /// What is in hand and in nobody's hands.
    pub fn lost(&self, now: Timestamp) -> u64 {
        if self.is_held(now) { 0 } else { self.in_hand }
    }
}

/// Judges a capability by everybody who is registered and by the consumers of all its lanes; `now` is on the broker's
/// clock. An agent that leaves takes nothing more: what it still has in hand speaks for it.
pub fn judge<'a>(
    capability: &Capability,
    agents: impl IntoIterator<Item = &'a AgentEntry>,
    lanes: impl IntoIterator<Item = &'a Attendance>,
    now: Timestamp,
) -> Service {
    let (mut is_paused, mut is_held) = (false, false);
    for agent in agents.into_iter().filter(|agent| agent.serves(capability)) {
        match agent.state {
            State::Starting | State::Ready => return Service::Served,
            State::Paused => is_paused = true,
            State::Draining | State::Stopped | State::Failed => {}
        }
    }
    for lane in lanes {
        if lane.pulls > 0 {
            return Service::Served;
        }
        is_held |= lane.is_held(now);
    }
    match (is_paused, is_held) {
        (true, _) => Service::Paused,
        (false, true) => Service::Served,
        (false, false) => Service::Unserved,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{
        InstanceId, Kind,
        registry::{CapabilityEntry, Counts, Health},
        time,
    };

    fn agent(capability: &str, state: State) -> AgentEntry {
        let name = Capability::parse(capability).unwrap();
        AgentEntry {
            instance: InstanceId::generate(),
            kind: Kind::parse("k").unwrap(),
            version: "1.0.0".to_owned(),
            host: "h".to_owned(),
            pid: 1,
            state,
            health: Health::Healthy,
            health_reason: None,
            capabilities: vec![CapabilityEntry {
                name,
                description: None,
                input_schema: None,
                output_schema: None,
                slots: None,
            }],
            slots: 1,
            slots_busy: 0,
            counts: Counts::default(),
            started_at: Timestamp::default(),
            seen_at: Timestamp::default(),
            tags: BTreeMap::new(),
        }
    }

    #[test]
    fn whoever_takes_or_has_something_serves() {
        let now = time::parse("2030-01-01T00:01:00Z").unwrap();
        let echo = Capability::parse("echo").unwrap();
        let lane = |pulls, in_hand, moved: Option<&str>| Attendance {
            pulls,
            in_hand,
            last_moved: moved.map(|at| time::parse(&format!("2030-01-01T00:{at}Z")).unwrap()),
            ack_deadline: Duration::from_secs(10),
        };
        let is = |state| vec![agent("echo", state)];
        for (case, agents, lanes, expected) in [
            ("nobody", vec![], vec![], Service::Unserved),
            ("an agent", is(State::Ready), vec![], Service::Served),
            ("one that comes", is(State::Starting), vec![], Service::Served),
            ("one that goes", is(State::Draining), vec![lane(0, 0, None)], Service::Unserved),
            ("one that goes and is at it", is(State::Draining), vec![lane(0, 1, Some("00:55"))], Service::Served),
            ("one that has gone", is(State::Stopped), vec![], Service::Unserved),
            ("another's", vec![agent("other", State::Ready)], vec![], Service::Unserved),
            ("a paused one", is(State::Paused), vec![lane(0, 1, Some("00:55"))], Service::Paused),
            ("a paused one, and a program", is(State::Paused), vec![lane(1, 0, None)], Service::Served),
            ("a pull", vec![], vec![lane(0, 0, None), lane(1, 0, None)], Service::Served),
            ("in hand", vec![], vec![lane(0, 1, Some("00:50"))], Service::Served),
            ("in hand, on a clock that is ahead", vec![], vec![lane(0, 1, Some("01:02"))], Service::Served),
            ("in dead hands", vec![], vec![lane(0, 1, Some("00:49"))], Service::Unserved),
            ("in hand, and not moved since the broker began", vec![], vec![lane(0, 1, None)], Service::Unserved),
            ("moved, and nothing in hand", vec![], vec![lane(0, 0, Some("00:55"))], Service::Unserved),
        ] {
            assert_eq!(judge(&echo, &agents, &lanes, now), expected, "{case}");
        }
    }
}
