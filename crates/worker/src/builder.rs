//! Building a worker and running it.

use std::{
    any::{Any, TypeId},
    collections::HashMap,
    future::Future,
    sync::{
        Arc,
        atomic::AtomicU64,
        mpsc::{Sender, channel},
    },
};

use broker::{BrokerClock, Bucket, Connection, PayloadStore, Publisher, task, topology};
use client::Client;
use futures_util::future::BoxFuture;
use process::{
    Process, Shutdown,
    settings::{ConnectionArgs, Environment},
    signals::{Listener, OnSignal},
};
use prometheus::Registry;
use protocol::{
    Capability, Failure, InstanceId, Kind as AgentKind, Subject,
    control::CancelNotice,
    subject::Verb,
    topology::{Names, Source, ack_deadline, worker_consumer},
};
use serde_json::Value;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tower::{Layer, Service};

use crate::{
    BoxService, Call, CapabilityConfig, Config, Handler, Metrics, Reply,
    cancels::Cancels,
    context::{Shared, Surroundings},
    error::{Error, Kind},
    gate::Gate,
    hold::Holds,
    intake::Intake,
    layer::{self, AnyLayer},
    lookup::Lookup,
    machinery::{Machinery, Route, Served},
    marks::Marks,
    presence::Presence,
    slots::Slots,
    watchdog,
};

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
    declared: Vec<Declared>,
    layers: Vec<AnyLayer>,
    shared: HashMap<TypeId, Arc<dyn Any + Send + Sync>>,
    on_start: Option<Hook>,
    on_stop: Option<Hook>,
    shutdown: Option<Shutdown>,
    health: process::Health,
    registry: Registry,
}

struct Declared {
    name: String,
    config: CapabilityConfig,
    service: BoxService,
    layers: Vec<AnyLayer>,
    schemas: (Value, Value),
}

impl Worker {
    /// Begins to build a worker of this kind. Unless told otherwise it finds the broker and the namespace in the
    /// environment (`SORTIE_SERVER` or `NATS_URL`, `SORTIE_NAMESPACE`, …), and drains on SIGTERM and SIGINT.
    pub fn builder(kind: impl Into<String>) -> Builder {
        Builder {
            kind: kind.into(),
            config: Config::default(),
            is_configured: false,
            declared: Vec::new(),
            layers: Vec::new(),
            shared: HashMap::new(),
            on_start: None,
            on_stop: None,
            shutdown: None,
            health: process::Health::new(),
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
        self.declared.push(Declared { name: name.into(), config, service, layers: Vec::new(), schemas });
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
            last.layers.push(layer::any(wrapping));
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

    /// Takes broker, namespace, shutdown, metrics and health from a process that is set up.
    pub fn in_process(mut self, process: &Process) -> Self {
        self.config.broker = process.settings.connection.options(process.program.name);
        self.config.namespace = process.settings.connection.namespace.clone();
        self.is_configured = true;
        self.shutdown = Some(process.shutdown.clone());
        self.registry = process.registry.clone();
        self.health = process.health.clone();
        self
    }

    /// Runs until a drain is asked for and done. Handlers run on the runtime that this is called on; pulling,
    /// extending and storing run on a thread of their own, so that a handler that blocks cannot starve them.
    ///
    /// # Errors
    /// `Configuration` with every fault at once, `Broker`, `Drift`, `StartHook`, `Stuck`.
    pub async fn run(mut self) -> Result<(), Error> {
        let signals = self.find_surroundings()?;
        let (kind, served_names) = self.check()?;
        if let Some(hook) = self.on_start.take() {
            hook().await.map_err(|failure| Error::new(Kind::StartHook, format!("start hook: {failure}")))?;
        }
        let on_stop = self.on_stop.take();
        let ended = self.run_machinery(kind, served_names).await;
        drop(signals);
        if let Some(hook) = on_stop
            && let Err(failure) = hook().await
        {
            tracing::warn!(%failure, "stop hook failed");
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
            match Capability::parse(&declared.name) {
                Ok(name) if names.contains(&name) => faults.push(format!("{name} has two handlers")),
                Ok(name) => names.push(name),
                Err(error) => faults.push(error.to_string()),
            }
        }
        match kind {
            Some(kind) if faults.is_empty() => Ok((kind, names)),
            _ => Err(Error::new(Kind::Configuration, faults.join("; "))),
        }
    }

    /// Runs the machinery on a thread of its own and waits for its end.
    async fn run_machinery(self, kind: AgentKind, names: Vec<Capability>) -> Result<(), Error> {
        let handlers = Handle::current();
        let (answer, answered) = tokio::sync::oneshot::channel();
        // Dropping this future, too, asks for a drain.
        let _guard = self.shutdown.clone().unwrap_or_default().token().drop_guard();
        let thread = std::thread::Builder::new().name("sortie-machinery".to_owned()).spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let ended = match runtime {
                Ok(runtime) => runtime.block_on(self.serve(handlers, kind, names)),
                Err(error) => Err(Error::new(Kind::Configuration, format!("no runtime: {error}"))),
            };
            // Nobody waits any more where the caller was dropped.
            let _ = answer.send(ended);
        });
        thread.map_err(|error| Error::new(Kind::Configuration, format!("no thread: {error}")))?;
        answered
            .await
            .unwrap_or_else(|_| Err(Error::new(Kind::Stuck, "the worker's machinery panicked: start it again")))
    }

    async fn serve(self, handlers: Handle, kind: AgentKind, names: Vec<Capability>) -> Result<(), Error> {
        let connection = Connection::open(self.config.broker.clone()).await?;
        let schemas: Vec<(Value, Value)> = self.declared.iter().map(|declared| declared.schemas.clone()).collect();
        let health = self.health.clone();
        let (machinery, lookups) = self.assemble(connection, handlers, kind, names).await?;
        let _lookups = task::spawn("lookups", lookups);
        for route in &machinery.routes {
            topology::ensure_consumer(&machinery.connection, &route.consumer).await?;
        }
        let _cancels = listen_for_cancels(&machinery).await?;
        let _extender = {
            let machinery = Arc::clone(&machinery);
            task::spawn("extender", async move { machinery.holds.extend_forever(&machinery.connection).await })
        };
        let presence = Arc::new(Presence::announce(&machinery, &schemas).await?);
        let renewal = {
            let presence = Arc::clone(&presence);
            task::spawn("presence", async move { presence.renew().await })
        };
        let beats = Arc::new(AtomicU64::new(0));
        let (_end_of_watch, verdict) = start_watchdog(&machinery, &beats);
        health.ready();
        tracing::info!(instance = %machinery.surroundings.instance, slots = machinery.slots.total(), "ready");
        let ended = tokio::select! {
            ended = Intake::new(Arc::clone(&machinery), beats).run() => ended,
            Ok(verdict) = verdict => Err(Error::new(Kind::Stuck, verdict.sentence())),
            () = closed_for_good(machinery.connection.link()) => {
                Err(Error::new(Kind::Stuck, "the connection has ended and cannot be made again: start the process again"))
            }
        };
        drop(renewal);
        presence.leave().await;
        // What was said last (acknowledgements, hand-backs) must leave before the connection goes.
        if let Err(error) = machinery.connection.flush().await {
            tracing::debug!(%error, "not flushed");
        }
        ended
    }

    async fn assemble(
        self,
        connection: Connection,
        handlers: Handle,
        kind: AgentKind,
        names: Vec<Capability>,
    ) -> Result<(Arc<Machinery>, impl Future<Output = ()> + Send), Error> {
        let streams = Names::of(&self.config.namespace);
        let requests = topology::wait_for_stream(&connection, &streams.requests, self.config.streams_within).await?;
        let replicas = requests.stream.replicas;
        let (deadline, interval) = ack_deadline(replicas);
        let publisher = Publisher::new(&connection);
        let instance = InstanceId::generate();
        let clock = BrokerClock::unadjusted();
        clock.adjust(&connection, &streams.requests).await?;
        let metrics = Metrics::new(&self.registry);
        let metrics = metrics.map_err(|error| Error::new(Kind::Configuration, format!("metrics: {error}")))?;
        let (lookup, answerer) = Lookup::new(&connection, &self.config.namespace);
        let caps = self.declared.iter().map(|declared| declared.config.slots).collect();
        let namespace = &self.config.namespace;
        let routes = names.iter().enumerate().flat_map(|(served, capability)| {
            Source::ALL.map(|source| Route {
                consumer: worker_consumer(namespace, capability, source, replicas),
                source,
                served,
            })
        });
        let routes = routes.collect();
        let shared: Shared = Arc::new(self.shared);
        let surroundings = Arc::new(Surroundings {
            connection: connection.clone(),
            client: Client::new(connection.clone(), namespace.clone()),
            publisher: publisher.clone(),
            namespace: namespace.clone(),
            instance: instance.clone(),
            kind,
            state: Bucket::new(&connection, &publisher, streams.state.clone()),
            shared,
        });
        let layers = self.layers;
        let served = self.declared.into_iter().zip(names).map(|(declared, capability)| Served {
            service: wrap(declared.service, &declared.layers, &layers, &metrics),
            config: declared.config,
            capability,
        });
        let machinery = Machinery {
            payloads: PayloadStore::new(&connection, streams.payloads.clone()),
            marks: Marks::new(&connection, &publisher, streams.state.clone(), instance),
            holds: Holds::new(deadline, interval),
            slots: Slots::new(self.config.slots, caps),
            served: served.collect(),
            names: streams,
            connection,
            publisher,
            clock,
            lookup,
            cancels: Cancels::default(),
            gate: Gate::default(),
            metrics,
            surroundings,
            routes,
            handlers,
            shutdown: self.shutdown.unwrap_or_default(),
            grace_over: CancellationToken::new(),
            config: self.config,
        };
        Ok((Arc::new(machinery), answerer.run()))
    }
}

/// The order of layers; `layer` says it in words.
fn wrap(handler: BoxService, own: &[AnyLayer], of_worker: &[AnyLayer], metrics: &Metrics) -> BoxService {
    let mut service = layer::any(layer::CatchPanic)(handler);
    for wrapping in own.iter().rev().chain(of_worker.iter().rev()) {
        service = wrapping(service);
    }
    layer::any(layer::Trace)(layer::any(layer::Measure(metrics.clone()))(service))
}

/// The client library makes a connection again by itself, except where it panics over what it reads.
async fn closed_for_good(mut link: tokio::sync::watch::Receiver<broker::Link>) {
    while link.changed().await.is_ok() {}
}

async fn listen_for_cancels(machinery: &Arc<Machinery>) -> Result<task::Owned<()>, Error> {
    let subject = Subject::Control { instance: None, verb: Verb::Cancel }.render(&machinery.config.namespace);
    let mut notices = machinery.connection.subscribe(subject).await?;
    let machinery = Arc::clone(machinery);
    Ok(task::spawn("cancels", async move {
        while let Some(message) = notices.next().await {
            match serde_json::from_slice::<CancelNotice>(&message.body) {
                Ok(notice) => machinery.cancels.hear(notice.ids, std::time::Instant::now()),
                Err(error) => tracing::debug!(%error, "a cancel notice that cannot be read"),
            }
        }
    }))
}

/// Starts the watchdog. It ends the process, or says its verdict where the configuration keeps it from that.
fn start_watchdog(
    machinery: &Arc<Machinery>,
    beats: &Arc<AtomicU64>,
) -> (Sender<()>, tokio::sync::oneshot::Receiver<watchdog::Verdict>) {
    let (end, ended) = channel();
    let (say, said) = tokio::sync::oneshot::channel();
    let (weak, beats) = (Arc::downgrade(machinery), Arc::clone(beats));
    let may_exit = machinery.config.exit_when_stuck;
    let watch = move || {
        let Some(verdict) = watchdog::watch(&weak, &beats, &ended) else { return };
        if may_exit {
            verdict.exit();
        }
        // Nobody listens any more where the worker has ended meanwhile.
        let _ = say.send(verdict);
    };
    if let Err(error) = std::thread::Builder::new().name("sortie-watchdog".to_owned()).spawn(watch) {
        tracing::warn!(%error, "no watchdog");
    }
    (end, said)
}
