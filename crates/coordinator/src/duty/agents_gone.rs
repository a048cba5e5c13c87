//! Agents that joined and are there no more.
//!
//! An agent tells itself that it joined; that it is gone follows from its registry entry, which runs out when nobody
//! renews it. Nothing is remembered between coordinators: whoever takes the duty compares the events that say `joined`
//! with those that say `gone` and with the registry, and from then on follows the events.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use broker::{Disposition, Error, Settled};
use protocol::{
    InstanceId, Kind, event,
    registry::{AgentEntry, State},
    subject,
};
use serde::{Deserialize, Serialize};

use crate::{duty::Duty, post::Post};

/// Events that one read asks for.
const PAGE: usize = 500;

/// Tells which agents are gone.
pub(crate) struct AgentsGone {
    post: Post,
    known: Known,
    /// Where to go on reading `joined` and `gone` events.
    read_from: u64,
}

/// Why an agent is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Reason {
    /// It said that it stops.
    Stopped,
    /// Its entry ran out.
    Lost,
}

/// What the event says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Gone {
    instance: InstanceId,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<Kind>,
    reason: Reason,
    /// Its last registry entry, where one was seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    last: Option<AgentEntry>,
}

/// Agents that joined and were not told to be gone, with the last that is known of them.
#[derive(Debug, Default)]
struct Known {
    agents: BTreeMap<InstanceId, Option<AgentEntry>>,
    /// Those that the look before did not find in the registry: a replica may be behind.
    absent: BTreeSet<InstanceId>,
}

impl AgentsGone {
    pub(crate) fn new(post: &Post) -> Self {
        Self { post: post.clone(), known: Known::default(), read_from: 1 }
    }

    /// Takes note of who joined and who was told to be gone since the last look. Both are read as one row: read one
    /// after the other, an agent that joins in between would be passed over.
    async fn follow_events(&mut self) -> Result<(), Error> {
        let filter = subject::filter::event(self.post.namespace(), event::AGENT);
        let of = |topic: &str| format!("{}.", subject::event(self.post.namespace(), topic));
        let (joined, gone) = (of(event::AGENT_JOINED), of(event::AGENT_GONE));
        let id = |text: Option<&str>| text.and_then(|text| InstanceId::parse(text).ok());
        let mut from = Some(self.read_from);
        while let Some(sequence) = from {
            let page = self.post.reader.page(&self.post.names.events, &filter, sequence, PAGE).await?;
            from = page.next;
            for message in page.messages {
                if let Some(instance) = id(message.subject.strip_prefix(&joined)) {
                    self.known.joined(instance, serde_json::from_slice(&message.body).ok());
                } else if let Some(instance) = id(message.subject.strip_prefix(&gone)) {
                    self.known.told(&instance);
                }
                self.read_from = message.sequence + 1;
            }
        }
        Ok(())
    }

    async fn tell(&self, gone: &Gone) -> Result<(), Error> {
        let topic = format!("{}.{}", event::AGENT_GONE, gone.instance);
        let told = self.post.event(&topic, gone.instance.as_str(), gone).expecting(0);
        match self.post.recorder.record(&told).await {
            Ok(Settled::Stored(_)) => {
                tracing::info!(agent.instance = %gone.instance, reason = ?gone.reason, "agent gone");
                self.post.metrics.agents_gone.inc();
                Ok(())
            }
            Ok(Settled::Superseded) => Ok(()),
            Err(error) if error.disposition() == Disposition::Reject => {
                tracing::error!(agent.instance = %gone.instance, %error, "going of an agent cannot be told");
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}

impl Duty for AgentsGone {
    const NAME: &'static str = "agents";

    fn begin(&mut self) {
        (self.known, self.read_from) = (Known::default(), 1);
    }

    async fn look(&mut self) -> Result<Option<Duration>, Error> {
        self.follow_events().await?;
        let registry = self.post.agents().await?;
        for gone in self.known.missing(registry) {
            self.tell(&gone).await?;
            self.known.told(&gone.instance);
        }
        Ok(None)
    }
}

impl Known {
    fn joined(&mut self, instance: InstanceId, entry: Option<AgentEntry>) {
        self.agents.entry(instance).or_insert(entry);
    }

    fn told(&mut self, instance: &InstanceId) {
        self.agents.remove(instance);
        self.absent.remove(instance);
    }

    /// Who is gone: whoever the registry says has stopped, and whoever is absent from it in two looks in a row.
    fn missing(&mut self, registry: Vec<AgentEntry>) -> Vec<Gone> {
        let mut live = BTreeSet::new();
        for entry in registry {
            if let Some(last) = self.agents.get_mut(&entry.instance) {
                if entry.state != State::Stopped {
                    live.insert(entry.instance.clone());
                }
                *last = Some(entry);
            }
        }
        let absent_before = std::mem::take(&mut self.absent);
        let mut gone = Vec::new();
        for (instance, last) in self.agents.iter().filter(|(instance, _)| !live.contains(*instance)) {
            let has_stopped = last.as_ref().is_some_and(|entry| entry.state == State::Stopped);
            if has_stopped || absent_before.contains(instance) {
                gone.push(Gone {
                    instance: instance.clone(),
                    kind: last.as_ref().map(|entry| entry.kind.clone()),
                    reason: if has_stopped { Reason::Stopped } else { Reason::Lost },
                    last: last.clone(),
                });
            } else {
                self.absent.insert(instance.clone());
            }
        }
        gone
    }
}

#[cfg(test)]
mod tests {
    use protocol::{
        registry::{Counts, Health},
        time::Timestamp,
    };

    use super::*;

    fn entry(instance: &str, state: State) -> AgentEntry {
        AgentEntry {
            instance: InstanceId::parse(instance).unwrap(),
            kind: Kind::parse("k").unwrap(),
            version: "1.0.0".to_owned(),
            host: "h".to_owned(),
            pid: 1,
            state,
            health: Health::Healthy,
            health_reason: None,
            capabilities: Vec::new(),
            slots: 1,
            slots_busy: 0,
            counts: Counts::default(),
            started_at: Timestamp::default(),
            seen_at: Timestamp::default(),
            tags: BTreeMap::new(),
        }
    }

    /// Looks one after another at a registry that holds these, and who is told to be gone at each.
    fn looks(registries: &[&[(&str, State)]]) -> Vec<Vec<(String, Reason)>> {
        let mut known = Known::default();
        for instance in ["a", "b"] {
            known.joined(InstanceId::parse(instance).unwrap(), Some(entry(instance, State::Starting)));
        }
        let look = |registry: &&[(&str, State)]| {
            let gone = known.missing(registry.iter().map(|(instance, state)| entry(instance, *state)).collect());
            gone.iter().for_each(|gone| known.told(&gone.instance));
            gone.into_iter().map(|gone| (gone.instance.to_string(), gone.reason)).collect()
        };
        registries.iter().map(look).collect()
    }

    #[test]
    fn an_agent_is_gone_once_when_it_stopped_or_was_absent_twice() {
        let both: &[_] = &[("a", State::Ready), ("b", State::Ready)];
        let one: &[_] = &[("a", State::Ready)];
        let gone = |instance: &str, reason| vec![(instance.to_owned(), reason)];
        assert_eq!(looks(&[both, one, one, one]), [vec![], vec![], gone("b", Reason::Lost), vec![]]);
        assert_eq!(looks(&[both, one, both, one]), [vec![], vec![], vec![], vec![]]);
        let stopped: &[_] = &[("a", State::Ready), ("b", State::Stopped)];
        assert_eq!(looks(&[both, stopped, stopped]), [vec![], gone("b", Reason::Stopped), vec![]]);
        let draining: &[_] = &[("a", State::Ready), ("b", State::Draining)];
        assert_eq!(looks(&[draining, one, one])[2], gone("b", Reason::Lost), "it died while it drained");
        assert_eq!(looks(&[&[("stranger", State::Ready)], one])[1], gone("b", Reason::Lost));
    }
}
