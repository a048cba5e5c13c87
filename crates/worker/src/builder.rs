//! Building a worker and running it.

use std::{
    any::{Any, TypeId},
    collections::HashMap,
    future::Future,
    sync::Arc,
};

use broker::task;
use futures_util::future::BoxFuture;
use process::{
    Process, Shutdown,
    settings::{AgentArgs, ConnectionArgs, Environment},
    signals::{Listener, OnSignal},
};
use prometheus::Registry;
use protocol::{
    Capability, Failure, Kind as AgentKind,
    settings::{self, Layer as SettingsLayer},
};
use serde_json::Value;
use tower::{Layer, Service};

use crate::{
    BoxService, Call, CapabilityConfig, Config, Handler, Reply,
    error::{Error, Kind},
    layer::{self, AnyLayer, Cache, CircuitBreaker, Layers, RateLimit, RetryRules, Shapes, Stack},
};

mod serve;

type Hook = Box<dyn FnOnce() -> BoxFuture<'static, Result<(), Failure>> + Send>;

/// A worker that is built: see [`Worker::builder`].
#[derive(Debug)]
pub struct Worker;

/// Collects what a worker needs.
#[must_use = "a builder does nothing until it is run"]
pub struct Builder {
    kind: String,
    config: Config,
    is_configured: bool,
    own_settings: Vec<(SettingsLayer, Value)>,
    settings_args: AgentArgs,
    environment: Option<Environment>,
    is_in_process: bool,
    declared: Vec<Declared>,
    layers: Vec<AnyLayer>,
    shared: HashMap<TypeId, Arc<dyn Any + Send + Sync>>,
    on_start: Option<Hook>,
    on_stop: Option<Hook>,
    shutdown: Option<Shutdown>,
    health: process::Health,
    logs: process::Logs,
    registry: Registry,
}

struct Declared {
    name: String,
    config: CapabilityConfig,
    service: BoxService,
    stack: Stack,
    schemas: (Value, Value),
}

impl Declared {
    /// Its schemas, if they are to be held to.
    fn shapes(&self) -> Result<Option<Shapes>, String> {
        let (input, output) = &self.schemas;
        self.stack.is_validated.then(|| Shapes::compile(Some(input), Some(output))).transpose()
    }
}

impl Worker {
    /// Begins to build a worker of this kind. Unless told otherwise it finds the broker and the namespace in the
    /// environment (`SORTIE_SERVER` or `NATS_URL`, `SORTIE_NAMESPACE`, …), and drains on SIGTERM and SIGINT.
    pub fn builder(kind: impl Into<String>) -> Builder {
        Builder {
            kind: kind.into(),
            config: Config::default(),
            is_configured: false,
            own_settings: Vec::new(),
            settings_args: AgentArgs::default(),
            environment: None,
            is_in_process: false,
            declared: Vec::new(),
            layers: Vec::new(),
            shared: HashMap::new(),
            on_start: None,
            on_stop: None,
            shutdown: None,
            health: process::Health::new(),
            logs: process::Logs::default(),
            registry: Registry::new(),
        }
    }
}

impl Builder {
    /// Serves a capability with the defaults of [`CapabilityConfig`].
    pub fn capability<T>(self, name: impl Into<String>, handler: impl Handler<T>) -> Self {
        self.capability_with(name, CapabilityConfig::default(), handler)
    }

    /// Serves a capability as configured.
    pub fn capability_with<T>(
        mut self,
        name: impl Into<String>,
        config: CapabilityConfig,
        handler: impl Handler<T>,
    ) -> Self {
        let (input, output) = handler.schemas();
        let schemas = (config.input_schema.clone().unwrap_or(input), config.output_schema.clone().unwrap_or(output));
        let service = handler.into_service();
        self.declared.push(Declared { name: name.into(), config, service, stack: Stack::default(), schemas });
        self
    }

    /// Holds input and output of the capability declared last against their JSON Schemas, those of its configuration or
    /// of its handler's types: what is not as they say fails with every fault, by JSON pointer.
    pub fn validated(mut self) -> Self {
        if let Some(last) = self.declared.last_mut() {
            last.stack.is_validated = true;
        }
        self
    }

    /// Says of failures of the capability declared last, by code, category or message, whether they are tried again. A
    /// rule that cannot be read is told in the log and left out.
    pub fn retry_rules(mut self, rules: RetryRules) -> Self {
        if let Some(last) = self.declared.last_mut() {
            last.stack.retry_rules = Some(rules);
        }
        self
    }

    /// Keeps results of the capability declared last for a while, in this instance.
    pub fn cache(mut self, cache: Cache) -> Self {
        if let Some(last) = self.declared.last_mut() {
            last.stack.cache = Some(cache);
        }
        self
    }

    /// Bounds how often attempts of the capability declared last begin in this instance; a clone given to another one
    /// shares the bound.
    pub fn rate_limit(mut self, limit: RateLimit) -> Self {
        if let Some(last) = self.declared.last_mut() {
            last.stack.rate_limit = Some(limit);
        }
        self
    }

    /// Stops the capability declared last, in the whole fleet, while what it calls fails all the time.
    pub fn circuit_breaker(mut self, breaker: CircuitBreaker) -> Self {
        if let Some(last) = self.declared.last_mut() {
            last.stack.circuit_breaker = Some(breaker);
        }
        self
    }

    /// Puts the layers that data declares around the capability declared last. What is wrong with them is told by
    /// [`Layers::faults`].
    pub fn layered(mut self, layers: &Layers) -> Self {
        if let Some(last) = self.declared.last_mut() {
            last.stack.rate_limit = layers.rate_limit.as_ref().map(RateLimit::from);
            last.stack.circuit_breaker = layers.circuit_breaker.as_ref().map(CircuitBreaker::from);
            last.stack.cache = layers.cache.as_ref().map(Cache::from);
            last.stack.retry_rules = layers.rules();
        }
        self
    }

    /// Wraps the capability declared last, inside of the worker's layers.
    pub fn capability_layer<L>(mut self, wrapping: L) -> Self
    where
        L: Layer<BoxService> + Send + Sync + 'static,
        L::Service: Service<Call, Response = Reply, Error = Failure> + Clone + Send + Sync + 'static,
        <L::Service as Service<Call>>::Future: Send + 'static,
    {
        if let Some(last) = self.declared.last_mut() {
            last.stack.added.push(layer::any(wrapping));
        }
        self
    }

    /// Wraps every capability; the first added is the outermost.
    pub fn layer<L>(mut self, wrapping: L) -> Self
    where
        L: Layer<BoxService> + Send + Sync + 'static,
        L::Service: Service<Call, Response = Reply, Error = Failure> + Clone + Send + Sync + 'static,
        <L::Service as Service<Call>>::Future: Send + 'static,
    {
        self.layers.push(layer::any(wrapping));
        self
    }

    /// A value that every handler finds with `ctx.shared::<T>()`.
    pub fn shared<T: Send + Sync + 'static>(mut self, value: T) -> Self {
        self.shared.insert(TypeId::of::<T>(), Arc::new(value));
        self
    }

    /// Runs once before the first request is taken; a failure ends the worker.
    pub fn on_start<Fut>(mut self, hook: impl FnOnce() -> Fut + Send + 'static) -> Self
    where
        Fut: Future<Output = Result<(), Failure>> + Send + 'static,
    {
        self.on_start = Some(Box::new(|| Box::pin(hook())));
        self
    }

    /// Runs once after the last request has ended.
    pub fn on_stop<Fut>(mut self, hook: impl FnOnce() -> Fut + Send + 'static) -> Self
    where
        Fut: Future<Output = Result<(), Failure>> + Send + 'static,
    {
        self.on_stop = Some(Box::new(|| Box::pin(hook())));
        self
    }

    /// Attempts at once. Defaults to 10.
    pub fn slots(mut self, slots: usize) -> Self {
        self.config.slots = slots;
        self
    }

    /// Version of the kind. Defaults to `0.0.0`.
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.config.version = version.into();
        self
    }

    /// Reads settings from these files too, below those of the fleet (`sortie config`). Variables such as `SORTIE_SLOTS` go
    /// before the fleet's.
    pub fn settings_from(mut self, files: AgentArgs) -> Self {
        self.settings_args = files;
        self
    }

    /// Says a setting as if a variable did: before the fleet, which may still say something else for this very instance.
    pub fn setting(mut self, path: &str, value: impl Into<Value>) -> Self {
        let mut document = Value::Object(serde_json::Map::new());
        settings::set(&mut document, path, value.into());
        self.own_settings.push((SettingsLayer::Variable, document));
        self
    }

    /// Replaces the whole configuration; the environment is not read then.
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self.is_configured = true;
        self
    }

    /// Drains when this begins, in place of SIGTERM and SIGINT.
    pub fn shutdown(mut self, shutdown: Shutdown) -> Self {
        self.shutdown = Some(shutdown);
        self
    }

    /// Registers its metrics here. Defaults to a registry of its own.
    pub fn metrics(mut self, registry: Registry) -> Self {
        self.registry = registry;
        self
    }

    /// Takes broker, namespace, shutdown, metrics, health and logs from a process that is set up.
    pub fn in_process(mut self, process: &Process) -> Self {
        self.config.broker = process.settings.connection.options(process.program.name);
        self.config.namespace = process.settings.connection.namespace.clone();
        self.is_configured = true;
        self.environment = Some(process.environment.clone());
        self.shutdown = Some(process.shutdown.clone());
        self.registry = process.registry.clone();
        self.health = process.health.clone();
        self.logs = process.logs.clone();
        self.is_in_process = true;
        self
    }

    /// Runs until a drain is asked for and done. Handlers run on the runtime that this is called on; pulling,
    /// extending and storing run on a thread of their own, so that a handler that blocks cannot starve them.
    ///
    /// Told to restart (`sortie agents restart`), it drains, and a process that was set up by `process::run` exits with
    /// 75; outside of one, this ends with `Again`.
    ///
    /// # Errors
    /// `Configuration` with every fault at once, `Broker`, `Drift`, `StartHook`, `Stuck`, `Again`.
    pub async fn run(mut self) -> Result<(), Error> {
        let signals = self.find_surroundings()?;
        let (kind, served_names) = self.check()?;
        if let Some(hook) = self.on_start.take() {
            hook().await.map_err(|failure| Error::new(Kind::StartHook, format!("start hook: {failure}")))?;
        }
        let on_stop = self.on_stop.take();
        let (shutdown, is_in_process) = (self.shutdown.clone().unwrap_or_default(), self.is_in_process);
        let ended = self.run_machinery(kind, served_names).await;
        drop(signals);
        if let Some(hook) = on_stop
            && let Err(failure) = hook().await
        {
            tracing::warn!(%failure, "stop hook failed");
        }
        if ended.is_ok() && shutdown.is_again() && !is_in_process {
            return Err(Error::new(Kind::Again, "it was told to restart: start the process again"));
        }
        ended
    }

    /// Reads the environment and listens to signals, where nothing else was given.
    fn find_surroundings(&mut self) -> Result<Option<task::Owned<()>>, Error> {
        if !self.is_configured {
            let found = ConnectionArgs::default().resolve(&Environment::of_process());
            let found = found.map_err(|faults| Error::new(Kind::Configuration, faults.to_string()))?;
            self.config.broker = found.options(&self.kind);
            self.config.namespace = found.namespace;
            self.environment = Some(Environment::of_process());
        }
        // Whoever gave the whole configuration has no files and no variables beside it.
        if let Some(environment) = self.environment.take() {
            let layers = self.settings_args.resolve(&environment);
            let mut layers = layers.map_err(|faults| Error::new(Kind::Configuration, faults.to_string()))?;
            layers.append(&mut self.own_settings);
            self.own_settings = layers;
        }
        let of_own = self.own_settings.iter().flat_map(|(_, document)| settings::check(document));
        let faults: Vec<String> = of_own.map(|fault| fault.to_string()).collect();
        if !faults.is_empty() {
            return Err(Error::new(Kind::Configuration, faults.join("; ")));
        }
        if self.shutdown.is_some() {
            return Ok(None);
        }
        let shutdown = Shutdown::new();
        let listener = Listener::new().map_err(|error| Error::new(Kind::Configuration, error.to_string()))?;
        self.shutdown = Some(shutdown.clone());
        Ok(Some(task::spawn("signals", listener.listen(shutdown, OnSignal::Drain))))
    }

    /// Every fault at once.
    fn check(&self) -> Result<(AgentKind, Vec<Capability>), Error> {
        let mut faults = self.config.faults();
        let kind = AgentKind::parse(&self.kind).map_err(|error| faults.push(error.to_string())).ok();
        if self.declared.is_empty() {
            faults.push("no capability is served: add one with .capability(name, handler)".to_owned());
        }
        let mut names: Vec<Capability> = Vec::new();
        for declared in &self.declared {
            faults.extend(declared.config.faults(&declared.name));
            let name = Capability::parse(&declared.name);
            if let Ok(name) = &name
                && let Err(fault) = declared.stack.standing(name)
            {
                faults.push(format!("{name}: circuit breaker: {fault}"));
            }
            if let Err(fault) = declared.shapes() {
                faults.push(format!("{}: {fault}", declared.name));
            }
            match name {
                Ok(name) if names.contains(&name) => faults.push(format!("{name} has two handlers")),
                Ok(name) => names.push(name),
                Err(error) => faults.push(error.to_string()),
            }
        }
        faults.extend(self.fallback_cycles());
        match kind {
            Some(kind) if faults.is_empty() => Ok((kind, names)),
            _ => Err(Error::new(Kind::Configuration, faults.join("; "))),
        }
    }

    /// Fallbacks of this worker that lead back to where they began. Those over several workers end at run time.
    fn fallback_cycles(&self) -> Vec<String> {
        let after = |name: &str| {
            let declared = self.declared.iter().find(|declared| declared.name == name)?;
            declared.stack.circuit_breaker.as_ref()?.fallback.as_deref()
        };
        let leads_back = |from: &str| {
            let mut steps = std::iter::successors(after(from), |name| after(name)).take(self.declared.len());
            steps.any(|name| name == from)
        };
        let cycles = self.declared.iter().filter(|declared| leads_back(&declared.name));
        cycles.map(|declared| format!("{}: its fallback leads back to it", declared.name)).collect()
    }
}
