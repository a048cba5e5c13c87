//! Settings of the fleet: read at the start, and taken over while the agent runs.
//!
//! A core subscription tells that a document was written, within moments; the document itself is read by direct get, now
//! and once more a second later, because a replica may be behind. Whatever is missed so is found by a slow look. No
//! consumer is made for it: a server stops at a thousand.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use broker::{Bucket, Subscription};
use protocol::{
    settings::{self, AgentSettings, KEYS, Layer, Merged, Scope},
    topology::bucket_subject,
};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use tokio::sync::watch;

use crate::{CapabilityConfig, Config, Failure, error::Error, machinery::Machinery};

/// How long after a hint the documents are read once more.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// How often they are read without a hint.
const LOOK_INTERVAL: Duration = Duration::from_secs(60);

/// What the process itself logs, as its log knows it.
const LOG_LEVEL_OWN: &str = "default";

/// The settings of one agent as the fleet has them.
#[derive(Debug)]
pub(crate) struct Configured {
    bucket: Bucket,
    subject: String,
    scopes: Vec<Scope>,
    /// What the agent renews its entry by, unless the fleet says otherwise.
    heartbeat_own: Duration,
    slots_own: usize,
    /// The layers that the agent brings: its file, its variables.
    own: Vec<(Layer, Value)>,
    state: Mutex<State>,
    heartbeat: watch::Sender<Duration>,
}

#[derive(Debug, Default)]
struct State {
    /// The last good document of each scope.
    good: BTreeMap<Scope, Value>,
    merged: Merged,
    custom: Arc<Map<String, Value>>,
    /// What is wrong with the documents as they are.
    trouble: Option<String>,
}

impl Configured {
    pub(crate) fn new(
        bucket: Bucket,
        bucket_name: &str,
        config: &Config,
        scopes: Vec<Scope>,
        own: Vec<(Layer, Value)>,
    ) -> Self {
        Self {
            bucket,
            subject: bucket_subject(bucket_name, KEYS),
            scopes,
            heartbeat_own: config.registry_interval,
            slots_own: config.slots,
            state: Mutex::new(State { merged: settings::merge(own.clone()), ..State::default() }),
            own,
            heartbeat: watch::Sender::new(config.registry_interval),
        }
    }

    /// Reads the documents. A wrong one changes nothing: the last good one of its scope goes on. Says which paths changed.
    ///
    /// # Errors
    /// What reading says.
    pub(crate) async fn look(&self) -> Result<Vec<String>, broker::Error> {
        let found = self.bucket.get_many(self.scopes.iter().map(Scope::key)).await?;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut faults = Vec::new();
        for scope in &self.scopes {
            let value = found.iter().find(|entry| entry.key == scope.key()).and_then(|entry| entry.value.as_deref());
            match value.map(|value| read(scope, value)) {
                None => drop(state.good.remove(scope)),
                Some(Ok(document)) => drop(state.good.insert(scope.clone(), document)),
                Some(Err(fault)) => faults.push(fault),
            }
        }
        let trouble = (!faults.is_empty()).then(|| format!("settings of the fleet are wrong: {}", faults.join("; ")));
        if state.trouble != trouble {
            match &trouble {
                Some(trouble) => tracing::error!(trouble, "settings changed nothing"),
                None => tracing::info!("settings of the fleet are right again"),
            }
            state.trouble = trouble;
        }
        let good = state.good.iter().map(|(scope, document)| (scope.layer(), document.clone()));
        let merged = settings::merge(good.chain(self.own.clone()));
        let changed = settings::changes(&state.merged.document, &merged.document);
        state.custom = Arc::new(merged.document["custom"].as_object().cloned().unwrap_or_default());
        state.merged = merged;
        Ok(changed)
    }

    /// What the fleet says, and whether it says it.
    fn effective(&self) -> (Value, AgentSettings) {
        let document = self.state.lock().unwrap_or_else(PoisonError::into_inner).merged.document.clone();
        // Each document was checked, and what they come to is made of their values.
        let settings = AgentSettings::read(&document).or_else(|_| AgentSettings::read(&Value::Object(Map::new())));
        (document, settings.unwrap_or_else(|_| unreachable!("the defaults are right")))
    }

    /// Takes over what can only be taken over at the start, and all the rest.
    pub(crate) fn begin(&self, config: &mut Config, capabilities: &mut [(&str, &mut CapabilityConfig)]) {
        let (document, settings) = self.effective();
        let says = |path: &str| settings::get(&document, path).is_some();
        if says("slots") {
            config.slots = settings.slots;
        }
        if says("drain_grace") {
            config.drain_grace = settings.drain_grace;
        }
        if says("heartbeat") {
            self.heartbeat.send_replace(settings.heartbeat);
        }
        for (name, declared) in capabilities {
            let Some(of) = settings.capabilities.iter().find(|(known, _)| known.as_str() == *name) else { continue };
            let of = of.1;
            declared.timeout = of.timeout.unwrap_or(declared.timeout);
            declared.retry.attempts_max = of.attempts.unwrap_or(declared.retry.attempts_max);
            declared.retry.backoff = of.backoff.unwrap_or(declared.retry.backoff);
            declared.slots = of.slots.or(declared.slots);
        }
    }

    /// Begins to hear of changes: what is written from now on is heard.
    pub(crate) async fn listen(&self, machinery: &Machinery) -> Result<Subscription, Error> {
        Ok(machinery.connection.subscribe(self.subject.clone()).await?)
    }

    /// Takes over what changes, for ever.
    pub(crate) async fn follow(&self, machinery: &Machinery, mut hints: Subscription) {
        // What the log was told at the start of the process stays, unless the fleet speaks of it.
        if settings::get(&self.effective().0, "log_level").is_some() {
            self.apply(machinery, &["log_level".to_owned()]);
        }
        let mut ticks = tokio::time::interval(LOOK_INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut again = None;
        loop {
            let later = async {
                match again {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                hint = hints.next() => match hint {
                    Some(_) => again = Some(tokio::time::Instant::now() + AGAIN_AFTER),
                    // The connection has ended for good, and others say so.
                    None => return,
                },
                () = later => again = None,
                _ = ticks.tick() => {}
            }
            match self.look().await {
                Ok(changed) => self.apply(machinery, &changed),
                Err(error) => tracing::debug!(%error, "settings not read"),
            }
        }
    }

    /// Takes over what can be taken over by a running agent, and tells what cannot.
    fn apply(&self, machinery: &Machinery, changed: &[String]) {
        let (document, settings) = self.effective();
        let says = |path: &str| settings::get(&document, path).is_some();
        for path in changed {
            match path.as_str() {
                "slots" => {
                    let slots = if says("slots") { settings.slots } else { self.slots_own };
                    machinery.slots.resize(slots);
                    tracing::info!(slots, "settings changed");
                }
                "heartbeat" => {
                    let heartbeat = if says("heartbeat") { settings.heartbeat } else { self.heartbeat_own };
                    self.heartbeat.send_replace(heartbeat);
                    tracing::info!(?heartbeat, "settings changed");
                }
                "log_level" => {
                    let level = if says("log_level") { settings.log_level.as_str() } else { LOG_LEVEL_OWN };
                    match machinery.logs.set_level(level) {
                        Ok((_, level)) => tracing::info!(level, "settings changed"),
                        Err(error) => tracing::warn!(%error, "log level not changed"),
                    }
                }
                path if path.starts_with("custom") => tracing::info!(path, "settings changed"),
                path => tracing::warn!(path, "settings changed; this one needs a restart of the agent"),
            }
        }
    }

    /// How often the registry entry is renewed, and how long it stands.
    pub(crate) fn heartbeat(&self, config: &Config) -> (Duration, Duration) {
        let heartbeat = *self.heartbeat.borrow();
        let ttl = if heartbeat == config.registry_interval { config.registry_ttl } else { 3 * heartbeat };
        (heartbeat, ttl)
    }

    /// Hears of another heartbeat.
    pub(crate) fn heartbeats(&self) -> watch::Receiver<Duration> {
        self.heartbeat.subscribe()
    }

    /// What is wrong with the documents as they are.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).trouble.clone()
    }

    /// The agents' own settings as they are now.
    pub(crate) fn custom(&self) -> CustomSettings {
        CustomSettings { custom: Arc::clone(&self.state.lock().unwrap_or_else(PoisonError::into_inner).custom) }
    }
}

fn read(scope: &Scope, value: &[u8]) -> Result<Value, String> {
    let of = |fault: String| format!("{}: {fault}", scope.key());
    let document: Value = serde_json::from_slice(value).map_err(|error| of(format!("is not JSON: {error}")))?;
    let faults = settings::check(&document);
    match faults.is_empty() {
        true => Ok(document),
        false => Err(of(faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))),
    }
}

/// An agent's own settings, `custom` of `sortie config`, as they were when they were asked for.
#[derive(Clone, Debug)]
pub struct CustomSettings {
    custom: Arc<Map<String, Value>>,
}

impl CustomSettings {
    /// The value at a path such as `bank.url`; none where nobody set it.
    ///
    /// # Errors
    /// It is there and is no such value; retryable, because somebody may set it right.
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>, Failure> {
        let mut keys = path.split('.');
        let first = keys.next().and_then(|key| self.custom.get(key));
        let Some(value) = keys.try_fold(first, |value, key| Some(value?.get(key))).flatten() else { return Ok(None) };
        serde_json::from_value(value.clone()).map(Some).map_err(|error| {
            Failure::new(
                protocol::codes::INVALID_INPUT,
                format!("setting custom.{path} is not what it should be: {error}"),
            )
        })
    }

    /// The secret that a path refers to (`secret://env/NAME`, `secret://file/PATH`), looked up now; none where nobody set
    /// it.
    ///
    /// # Errors
    /// It is no reference, or what it refers to is not there.
    pub fn secret(&self, path: &str) -> Result<Option<process::settings::Secret>, Failure> {
        let Some(text) = self.get::<String>(path)? else { return Ok(None) };
        let failed =
            |fault: String| Failure::new(protocol::codes::INVALID_INPUT, format!("setting custom.{path}: {fault}"));
        let reference = settings::reference(&text).map_err(failed)?;
        process::settings::Secret::find(&reference).map(Some).map_err(failed)
    }
}
