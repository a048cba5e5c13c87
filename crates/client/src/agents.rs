//! Who is there, and who serves what.

use std::collections::BTreeMap;

use protocol::{
    Capability, Kind, Service,
    mark::schema_key,
    registry::{AgentEntry, Health, State},
    service,
    time::Timestamp,
    topology::{self, Source},
};
use serde_json::Value;

use crate::{Client, Error, ErrorKind, logs::is_named};

/// Which agents are meant: those that are all that is said. Nothing said means every agent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AgentFilter {
    /// Instances of this kind.
    pub kind: Option<Kind>,
    /// Those that serve this capability.
    pub capability: Option<Capability>,
    /// Those with all of these tags.
    pub tags: BTreeMap<String, String>,
    /// Those of this version.
    pub version: Option<String>,
    /// Those that feel so.
    pub health: Option<Health>,
    /// Those that are there in their life.
    pub state: Option<State>,
    /// Those with at most this share of their slots taken, from 0 to 1.
    pub load_max: Option<f64>,
}

impl AgentFilter {
    /// Whether an agent is meant.
    pub fn matches(&self, agent: &AgentEntry) -> bool {
        fn is<T: PartialEq>(wanted: &Option<T>, found: &T) -> bool {
            wanted.as_ref().is_none_or(|wanted| wanted == found)
        }
        is(&self.kind, &agent.kind)
            && is(&self.version, &agent.version)
            && is(&self.health, &agent.health)
            && is(&self.state, &agent.state)
            && self.capability.as_ref().is_none_or(|capability| agent.serves(capability))
            && self.tags.iter().all(|(name, value)| agent.tags.get(name) == Some(value))
            && self.load_max.is_none_or(|load| agent.load() <= load)
    }
}

/// Sorts agents by whom to ask first: those that stay before those that leave, healthy before degraded, then by load.
pub fn rank_agents(agents: &mut [AgentEntry]) {
    let health = |agent: &AgentEntry| match agent.health {
        Health::Healthy => 0,
        Health::Degraded => 1,
        Health::Unhealthy => 2,
        Health::Unknown => 3,
    };
    agents.sort_by(|one, other| {
        let order = |agent: &AgentEntry| (agent.is_leaving(), health(agent));
        let order = order(one).cmp(&order(other)).then(one.load().total_cmp(&other.load()));
        order.then_with(|| (&one.kind, &one.instance).cmp(&(&other.kind, &other.instance)))
    });
}

impl Client {
    /// The agents that are alive, by kind and instance. One that died without a word stays listed until its entry runs
    /// out, after thirty seconds if nobody chose otherwise.
    ///
    /// # Errors
    /// `StreamsMissing`, and what reading says.
    pub async fn agents(&self) -> Result<Vec<AgentEntry>, Error> {
        let name = &self.names().agents;
        let entries = match self.bucket(name).list(">").await {
            Ok(entries) => entries,
            Err(error) => return Err(self.explained(error, &Self::bucket_stream(name)).await),
        };
        let read = |value: &[u8]| serde_json::from_slice(value).ok();
        let mut agents: Vec<AgentEntry> =
            entries.iter().filter_map(|entry| entry.value.as_deref().and_then(read)).collect();
        agents.sort_by(|one, other| (&one.kind, &one.instance).cmp(&(&other.kind, &other.instance)));
        Ok(agents)
    }

    /// The one agent that a part of its instance id names: its beginning, with or without `ins_`, or its end.
    ///
    /// # Errors
    /// `NotFound` when there is none, `Invalid` when there are several; else those of [`Client::agents`].
    pub async fn agent(&self, part: &str) -> Result<AgentEntry, Error> {
        let mut agents = self.agents().await?;
        agents.retain(|agent| is_named(&agent.instance, part));
        // One that has just gone stands there a while longer, and is nobody to be mistaken for.
        if agents.len() > 1 && agents.iter().any(|agent| !agent.is_gone()) {
            agents.retain(|agent| !agent.is_gone());
        }
        match agents.len() {
            0 => Err(Error::new(
                ErrorKind::NotFound,
                format!("no agent's instance id begins or ends with `{part}`; see `sortie agents list`"),
            )),
            1 => Ok(agents.remove(0)),
            count => {
                let some: Vec<&str> = agents.iter().take(3).map(|agent| agent.instance.as_str()).collect();
                let some = some.join(", ");
                let message =
                    format!("{count} agents' instance ids begin or end with `{part}`: {some} …; say more of it");
                Err(Error::invalid(message))
            }
        }
    }

    /// The JSON Schemas that an agent's entry refers to, by their digests; those that are not there are left out.
    ///
    /// # Errors
    /// `StreamsMissing`, and what reading says.
    pub async fn schemas(&self, agent: &AgentEntry) -> Result<BTreeMap<String, Value>, Error> {
        let digests = agent.capabilities.iter().flat_map(|entry| [&entry.input_schema, &entry.output_schema]);
        let wanted: BTreeMap<String, String> =
            digests.flatten().map(|digest| (schema_key(digest), digest.clone())).collect();
        let name = &self.names().state;
        let found = match self.bucket(name).get_many(wanted.keys().cloned()).await {
            Ok(found) => found,
            Err(error) => return Err(self.explained(error, &Self::bucket_stream(name)).await),
        };
        let schemas = found.into_iter().filter_map(|entry| {
            let schema = serde_json::from_slice(&entry.value?).ok()?;
            Some((wanted.get(&entry.key)?.clone(), schema))
        });
        Ok(schemas.collect())
    }

    /// The agents that serve a capability, whatever state they are in. None: a request waits until there is one.
    ///
    /// # Errors
    /// Those of [`Client::agents`].
    pub async fn serving(&self, capability: &Capability) -> Result<Vec<AgentEntry>, Error> {
        let mut agents = self.agents().await?;
        agents.retain(|agent| agent.serves(capability));
        Ok(agents)
    }

    /// Whether anybody serves a capability now: an agent that says so in the registry, or a program without an entry there,
    /// which is seen by its waiting pull or by what it has in hand and extends.
    ///
    /// # Errors
    /// Those of [`Client::agents`].
    pub async fn service(&self, capability: &Capability) -> Result<Service, Error> {
        let agents = self.serving(capability).await?;
        // Who is registered and takes it says enough: the broker need not be asked four times.
        if service::judge(capability, &agents, [], Timestamp::default()) == Service::Served {
            return Ok(Service::Served);
        }
        let (mut lanes, mut now) = (Vec::new(), Timestamp::default());
        for source in Source::ALL {
            let consumer = topology::worker_consumer(self.namespace(), capability, source, 1);
            match broker::topology::consumer_state(self.connection(), &consumer.stream, &consumer.name).await {
                Ok(state) => {
                    now = now.max(state.at);
                    lanes.push(state.attendance());
                }
                Err(error) if error.kind() == broker::Kind::NotFound => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(service::judge(capability, &agents, &lanes, now))
    }
}

#[cfg(test)]
mod tests {
    use protocol::{InstanceId, registry::Counts, time};

    use super::*;

    fn agent(instance: &str, health: Health, busy: usize) -> AgentEntry {
        AgentEntry {
            instance: InstanceId::parse(instance).unwrap(),
            kind: Kind::parse("words").unwrap(),
            version: "1.2.0".into(),
            host: String::new(),
            pid: 1,
            state: State::Ready,
            health,
            health_reason: None,
            capabilities: Vec::new(),
            slots: 4,
            slots_busy: busy,
            counts: Counts::default(),
            started_at: time::now(),
            seen_at: time::now(),
            tags: [("zone".to_owned(), "blue".to_owned())].into(),
        }
    }

    #[test]
    fn all_that_is_said_must_hold() {
        let found = agent("a", Health::Healthy, 2);
        let tags = |value: &str| [("zone".to_owned(), value.to_owned())].into();
        let filter = AgentFilter { kind: Kind::parse("words").ok(), tags: tags("blue"), ..AgentFilter::default() };
        assert!(AgentFilter::default().matches(&found) && filter.matches(&found));
        let half = AgentFilter { load_max: Some(0.5), version: Some("1.2.0".into()), ..filter.clone() };
        assert!(half.matches(&found) && !half.matches(&agent("a", Health::Healthy, 3)));
        for other in [
            AgentFilter { kind: Kind::parse("files").ok(), ..filter.clone() },
            AgentFilter { tags: tags("red"), ..filter.clone() },
            AgentFilter { version: Some("1.2".into()), ..filter.clone() },
            AgentFilter { health: Some(Health::Degraded), ..filter.clone() },
            AgentFilter { state: Some(State::Paused), ..filter.clone() },
            AgentFilter { capability: Capability::parse("count").ok(), ..filter.clone() },
        ] {
            assert!(!other.matches(&found), "{other:?}");
        }
    }

    #[test]
    fn the_healthy_and_idle_come_first_and_the_leaving_last() {
        let leaving = AgentEntry { state: State::Draining, ..agent("e", Health::Healthy, 0) };
        let mut agents = [
            leaving,
            agent("d", Health::Degraded, 0),
            agent("c", Health::Healthy, 3),
            agent("b", Health::Healthy, 1),
            agent("a", Health::Healthy, 3),
        ];
        rank_agents(&mut agents);
        assert_eq!(agents.map(|agent| agent.instance.to_string()).join(""), "bacde");
    }
}
