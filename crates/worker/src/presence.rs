//! Being seen: the registry entry, the schemas behind it, the joined event, and the NATS micro service.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use broker::{Bucket, Outgoing, Service, ServiceInfo};
use protocol::{
    Subject,
    control::Inspection,
    event,
    mark::schema_key,
    registry::{AgentEntry, CapabilityEntry, Health, State},
    schema, subject,
    subject::Verb,
};
use serde_json::Value;

use crate::{error::Error, machinery::Machinery};

/// How long the entry of a stopped agent stands, so that the coordinator sees that it left by itself.
const STOPPED_TTL: Duration = Duration::from_secs(15);

/// How often the broker's clock is looked at.
const CLOCK_INTERVAL: Duration = Duration::from_secs(30);

/// An agent that is seen.
#[derive(Debug)]
pub(crate) struct Presence {
    machinery: Arc<Machinery>,
    bucket: Bucket,
    entry: Arc<Mutex<AgentEntry>>,
    /// One write at a time, so that none overtakes a later one.
    writing: tokio::sync::Mutex<()>,
    service: Option<Service>,
}

impl Presence {
    /// Writes the schemas, starts the service, writes the first entry and says that the agent joined.
    pub(crate) async fn announce(machinery: &Arc<Machinery>, kind_schemas: &[(Value, Value)]) -> Result<Self, Error> {
        let bucket = Bucket::new(&machinery.connection, &machinery.publisher, machinery.names.agents.clone());
        let state = Bucket::new(&machinery.connection, &machinery.publisher, machinery.names.state.clone());
        let mut capabilities = Vec::new();
        for (served, (input, output)) in machinery.served.iter().zip(kind_schemas) {
            let mut digests = Vec::new();
            for shape in [input, output] {
                let digest = schema::digest(shape);
                let key = schema_key(&digest);
                if state.get(&key).await?.is_none() {
                    state.put(&key, shape.to_string(), None).await?;
                }
                digests.push(digest);
            }
            capabilities.push(CapabilityEntry {
                name: served.capability.clone(),
                description: served.config.description.clone(),
                output_schema: digests.pop(),
                input_schema: digests.pop(),
                slots: served.config.slots,
            });
        }
        let entry = Arc::new(Mutex::new(first_entry(machinery, capabilities)));
        let mut presence = Self {
            machinery: Arc::clone(machinery),
            bucket,
            entry,
            writing: tokio::sync::Mutex::new(()),
            service: None,
        };
        // Before anybody can know the instance: whoever inspected it meanwhile would be left to a service that is not there.
        presence.service = presence.serve().await;
        presence.write().await?;
        presence.join().await;
        Ok(presence)
    }

    /// Renews the entry for ever, and says at once when a drain begins.
    pub(crate) async fn renew(&self) {
        let configured = &self.machinery.surroundings.configured;
        let mut heartbeats = configured.heartbeats();
        let mut next = tokio::time::Instant::now();
        let mut clock = tokio::time::interval(CLOCK_INTERVAL);
        let mut drains = false;
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(next) => {}
                Ok(()) = heartbeats.changed() => {}
                _ = clock.tick() => {
                    if let Err(error) = self.machinery.clock.adjust(&self.machinery.connection, &self.machinery.names.requests).await {
                        tracing::debug!(%error, "the broker's clock was not read");
                    }
                    continue;
                }
                () = self.machinery.shutdown.begun(), if !drains => drains = true,
            }
            self.tell().await;
            next = tokio::time::Instant::now() + configured.heartbeat(&self.machinery.config).0;
        }
    }

    /// Says now what is.
    pub(crate) async fn tell(&self) {
        if let Err(error) = self.write().await {
            tracing::warn!(%error, "registry entry not renewed");
        }
    }

    /// What is, and what is in hand.
    pub(crate) fn inspection(&self) -> Inspection {
        inspect(&self.entry, &self.machinery)
    }

    /// Whether the micro service answers whoever inspects.
    pub(crate) fn is_service(&self) -> bool {
        self.service.is_some()
    }

    /// Says that the agent left by itself.
    pub(crate) async fn leave(&self) {
        if let Err(error) = self.put(Some(State::Stopped), STOPPED_TTL).await {
            tracing::debug!(%error, "registry entry not written; it expires by itself");
        }
    }

    async fn write(&self) -> Result<(), broker::Error> {
        let machinery = &self.machinery;
        self.put(None, machinery.surroundings.configured.heartbeat(&machinery.config).1).await
    }

    async fn put(&self, state: Option<State>, ttl: Duration) -> Result<(), broker::Error> {
        let _writing = self.writing.lock().await;
        let entry = {
            let mut entry = self.entry.lock().unwrap_or_else(PoisonError::into_inner);
            refresh(&mut entry, &self.machinery, state.unwrap_or_else(|| self.machinery.state()));
            entry.clone()
        };
        let body = serde_json::to_vec(&entry).unwrap_or_default();
        self.bucket.put(&entry.key(), body, Some(ttl)).await.map(|_| ())
    }

    /// The event is a courtesy beside the entry: it is tried for a moment.
    async fn join(&self) {
        let entry = self.entry.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let topic = format!("{}.{}", event::AGENT_JOINED, entry.instance);
        let source = format!("/{}/{}", self.machinery.config.namespace, entry.kind);
        let headers = event::headers(entry.instance.as_str(), &source, &topic, entry.started_at);
        let body = serde_json::to_vec(&entry).unwrap_or_default();
        let subject = subject::event(&self.machinery.config.namespace, &topic);
        let outgoing = Outgoing::new(subject, body).with_headers(headers).expecting(0);
        if let Err(error) = self.machinery.publisher.publish_within(&outgoing, Duration::from_secs(5)).await {
            tracing::warn!(%error, "joined event not stored");
        }
    }

    async fn serve(&self) -> Option<Service> {
        let machinery = &self.machinery;
        let instance = Some(machinery.surroundings.instance.clone());
        let capabilities: Vec<&str> = machinery.served.iter().map(|served| served.capability.as_str()).collect();
        let info = ServiceInfo {
            name: machinery.surroundings.kind.to_string(),
            version: machinery.config.version.clone(),
            description: format!("Sortie agent {}", machinery.surroundings.instance),
            metadata: HashMap::from([
                ("namespace".to_owned(), machinery.config.namespace.to_string()),
                ("instance".to_owned(), machinery.surroundings.instance.to_string()),
                // The standard's metadata is text, and small: an agent of hundreds of capabilities names the first.
                ("capabilities".to_owned(), protocol::limits::truncate(&capabilities.join(","), 4_096)),
            ]),
            inspect_subject: Subject::Control { instance, verb: Verb::Inspect }.render(&machinery.config.namespace),
        };
        let (entry, weak) = (Arc::clone(&self.entry), Arc::downgrade(machinery));
        // The service must not keep what it tells of alive.
        let inspect = move || {
            let inspection = weak.upgrade().map(|machinery| inspect(&entry, &machinery));
            inspection.and_then(|inspection| serde_json::to_value(inspection).ok()).unwrap_or_default()
        };
        match Service::start(&machinery.connection, info, inspect).await {
            Ok(service) => Some(service),
            Err(error) => {
                tracing::warn!(%error, "not seen as a micro service");
                None
            }
        }
    }
}

fn inspect(entry: &Mutex<AgentEntry>, machinery: &Machinery) -> Inspection {
    let mut entry = entry.lock().unwrap_or_else(PoisonError::into_inner);
    refresh(&mut entry, machinery, machinery.state());
    Inspection { entry: entry.clone(), in_hand: machinery.hands.list() }
}

fn first_entry(machinery: &Machinery, capabilities: Vec<CapabilityEntry>) -> AgentEntry {
    let now = machinery.clock.now();
    AgentEntry {
        instance: machinery.surroundings.instance.clone(),
        kind: machinery.surroundings.kind.clone(),
        version: machinery.config.version.clone(),
        host: nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
        pid: std::process::id(),
        state: State::Starting,
        health: Health::Healthy,
        health_reason: None,
        capabilities,
        slots: machinery.slots.total(),
        slots_busy: 0,
        counts: protocol::registry::Counts::default(),
        started_at: now,
        seen_at: now,
        tags: machinery.config.tags.clone(),
    }
}

fn refresh(entry: &mut AgentEntry, machinery: &Machinery, state: State) {
    let capabilities = machinery.served.iter().map(|served| served.capability.as_str());
    let stuck = machinery.slots.stuck();
    entry.state = state;
    entry.slots = machinery.slots.total();
    entry.slots_busy = machinery.slots.busy();
    entry.counts = machinery.metrics.counts(capabilities);
    entry.seen_at = machinery.clock.now();
    let stuck = (stuck > 0).then(|| format!("{stuck} slots are held by handlers that ignore their end"));
    let (refused, configured) = (machinery.refused.trouble(), machinery.surroundings.configured.trouble());
    entry.health = match (&refused, &stuck, &configured) {
        (Some(_), ..) => Health::Unhealthy,
        (None, None, None) => Health::Healthy,
        _ => Health::Degraded,
    };
    let reasons: Vec<String> = [refused, stuck, configured].into_iter().flatten().collect();
    entry.health_reason = (!reasons.is_empty()).then(|| reasons.join("; "));
    machinery.metrics.slots(entry.slots, entry.slots_busy);
}
