//! Who is there, and who serves what.

use protocol::{
    Capability,
    registry::{AgentEntry, State},
    topology::{self, Source},
};

use crate::{Client, Error};

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

    /// The agents that serve a capability, whatever state they are in. None: a request waits until there is one.
    ///
    /// # Errors
    /// Those of [`Client::agents`].
    pub async fn serving(&self, capability: &Capability) -> Result<Vec<AgentEntry>, Error> {
        let mut agents = self.agents().await?;
        agents.retain(|agent| agent.serves(capability));
        Ok(agents)
    }

    /// Whether anybody takes requests of a capability now: an agent that says so in the registry, or a program without
    /// an entry there, which is seen by its waiting pull or by what it has in hand.
    ///
    /// # Errors
    /// Those of [`Client::agents`].
    pub async fn is_served(&self, capability: &Capability) -> Result<bool, Error> {
        let takes = |agent: &AgentEntry| !matches!(agent.state, State::Draining | State::Stopped | State::Failed);
        if self.serving(capability).await?.iter().any(takes) {
            return Ok(true);
        }
        for source in Source::ALL {
            let consumer = topology::worker_consumer(self.namespace(), capability, source, 1);
            match broker::topology::consumer_state(self.connection(), &consumer.stream, &consumer.name).await {
                Ok(state) if state.waiting > 0 || state.ack_pending > 0 => return Ok(true),
                Ok(_) => {}
                Err(error) if error.kind() == broker::Kind::NotFound => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(false)
    }
}
