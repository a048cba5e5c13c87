//! Serving what was built: the machinery's thread, what all its parts share, and the watchdog beside it.

use std::{
    collections::HashMap,
    future::Future,
    sync::{
        Arc,
        atomic::AtomicU64,
        mpsc::{Sender, channel},
    },
    time::Duration,
};

use broker::{BrokerClock, Bucket, Connection, Link, PayloadStore, Publisher, task, topology};
use client::Client;
use protocol::{
    BreakerName, Capability, InstanceId, Kind as AgentKind,
    settings::Scope,
    topology::{Names, Source, ack_deadline, worker_consumer},
};
use serde_json::Value;
use tokio::{
    runtime::Handle,
    sync::{mpsc, watch},
};
use tokio_util::sync::CancellationToken;

use super::Builder;
use crate::{
    Metrics,
    breakers::{Breakers, News, Wanted},
    cancels::Cancels,
    configured::Configured,
    context::{Shared, Surroundings},
    control::{self, Control},
    error::{Error, Kind},
    gate::Gate,
    hold::Holds,
    in_hand::Hands,
    intake::Intake,
    layer::Standing,
    lookup::Lookup,
    machinery::{Machinery, Route, Served},
    marks::Marks,
    pause::Pause,
    presence::Presence,
    slots::Slots,
    watchdog,
};

/// How long after what fails first it is known that the connection has ended.
const CLOSED_WITHIN: Duration = Duration::from_secs(1);

impl Builder {
    /// Runs the machinery on a thread of its own and waits for its end.
    pub(super) async fn run_machinery(self, kind: AgentKind, names: Vec<Capability>) -> Result<(), Error> {
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
        let (machinery, lookups, news) = self.assemble(connection, handlers, kind, names).await?;
        let _lookups = task::spawn("lookups", lookups);
        let breakers = Arc::clone(&machinery.surroundings.breakers);
        let _breakers = task::spawn("breakers", breakers.run(machinery.connection.clone(), news));
        for route in &machinery.routes {
            topology::ensure_consumer(&machinery.connection, &route.consumer).await?;
        }
        let control = Control::begin(&machinery).await?;
        let shipping = machinery.logs.ship(&machinery.connection, machinery.surroundings.sender());
        let _extender = {
            let machinery = Arc::clone(&machinery);
            task::spawn("extender", async move { machinery.holds.extend_forever(&machinery.connection).await })
        };
        let presence = Arc::new(Presence::announce(&machinery, &schemas).await?);
        let control = control::start(control, &machinery, &presence);
        let renewal = {
            let presence = Arc::clone(&presence);
            task::spawn("presence", async move { presence.renew().await })
        };
        let configured = {
            let (configured, machinery) = (Arc::clone(&machinery.surroundings.configured), Arc::clone(&machinery));
            let hints = configured.listen(&machinery).await?;
            task::spawn("settings", async move { configured.follow(&machinery, hints).await })
        };
        let beats = Arc::new(AtomicU64::new(0));
        let (_end_of_watch, verdict) = start_watchdog(&machinery, &beats);
        let _readiness = task::spawn("readiness", follow_readiness(Arc::clone(&machinery), health));
        tracing::info!(instance = %machinery.surroundings.instance, slots = machinery.slots.total(), "ready");
        let ended = tokio::select! {
            ended = Intake::new(Arc::clone(&machinery), beats).run() => ended,
            Ok(verdict) = verdict => Err(Error::new(Kind::Stuck, verdict.sentence())),
            () = closed_for_good(machinery.connection.link()) => Err(connection_ended()),
        };
        let ended = match ended {
            // What fails first says little: the end of the connection is heard in several places.
            Err(error) => {
                let closed = closed_for_good(machinery.connection.link());
                tokio::time::timeout(CLOSED_WITHIN, closed).await.map_or(Err(error), |()| Err(connection_ended()))
            }
            Ok(()) => Ok(()),
        };
        drop((renewal, control, configured));
        presence.leave().await;
        if let Some(shipping) = shipping {
            tracing::info!(instance = %machinery.surroundings.instance, "stopped");
            shipping.finish().await;
        }
        // What was said last (acknowledgements, hand-backs) must leave before the connection goes.
        if let Err(error) = machinery.connection.flush().await {
            tracing::debug!(%error, "not flushed");
        }
        ended
    }

    async fn assemble(
        mut self,
        connection: Connection,
        handlers: Handle,
        kind: AgentKind,
        names: Vec<Capability>,
    ) -> Result<(Arc<Machinery>, impl Future<Output = ()> + Send, mpsc::Receiver<News>), Error> {
        let streams = Names::of(&self.config.namespace);
        let requests = topology::wait_for_stream(&connection, &streams.requests, self.config.streams_within).await?;
        let replicas = requests.stream.replicas;
        let (deadline, interval) = ack_deadline(replicas);
        let publisher = Publisher::new(&connection).in_groups(&self.config.namespace);
        let instance = InstanceId::generate();
        let clock = BrokerClock::unadjusted();
        clock.adjust(&connection, &streams.requests).await?;
        let metrics = Metrics::new(&self.registry);
        let metrics = metrics.map_err(|error| Error::new(Kind::Configuration, format!("metrics: {error}")))?;
        names.iter().for_each(|capability| metrics.begin(capability.as_str()));
        let (lookup, answerer) = Lookup::new(&connection, &self.config.namespace);
        let scopes = [Scope::Global, Scope::Kind(kind.clone()), Scope::Instance(instance.clone())];
        let bucket = Bucket::new(&connection, &publisher, streams.config.clone());
        let configured = Configured::new(
            bucket,
            &streams.config,
            &self.config,
            scopes.to_vec(),
            std::mem::take(&mut self.own_settings),
        );
        if let Err(error) = configured.look().await {
            tracing::warn!(%error, "settings of the fleet not read; they are taken over when they are");
        }
        let declared = self.declared.iter_mut();
        let mut capabilities: Vec<_> =
            declared.map(|declared| (declared.name.as_str(), &mut declared.config)).collect();
        configured.begin(&mut self.config, &mut capabilities);
        let configured = Arc::new(configured);
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
        let state = Bucket::new(&connection, &publisher, streams.state.clone());
        // Its faults were told before it was run.
        let standing = self.declared.iter().zip(&names).map(|(declared, name)| declared.stack.standing(name).ok()?);
        let standing: Vec<Option<Standing>> = standing.collect();
        let (breakers, news) = Breakers::new(
            self.wanted_breakers(&names),
            state.clone(),
            publisher.clone(),
            clock.clone(),
            instance.clone(),
            namespace.clone(),
        );
        let shared: Shared = Arc::new(self.shared);
        let surroundings = Arc::new(Surroundings {
            connection: connection.clone(),
            client: Client::new(connection.clone(), namespace.clone()),
            publisher: publisher.clone(),
            namespace: namespace.clone(),
            instance: instance.clone(),
            kind,
            state,
            breakers,
            configured,
            shared,
        });
        let layers = self.layers;
        let served = self.declared.into_iter().zip(standing).zip(names);
        let served = served.map(|((declared, standing), capability)| Served {
            service: {
                let shapes = declared.shapes().ok().flatten();
                declared.stack.wrap(&capability, declared.service, standing, shapes, &layers, &metrics)
            },
            config: declared.config,
            capability,
        });
        let machinery = Machinery {
            payloads: PayloadStore::new(&connection, streams.payloads.clone()),
            marks: Marks::new(&connection, &publisher, streams.state.clone(), instance),
            holds: Holds::new(deadline, interval),
            hands: Arc::new(Hands::default()),
            refused: crate::refused::Refused::default(),
            slots: Slots::new(self.config.slots, caps),
            served: served.collect(),
            names: streams,
            connection,
            publisher,
            clock,
            lookup,
            cancels: Cancels::default(),
            pause: Pause::default(),
            logs: self.logs,
            gate: Gate::default(),
            metrics,
            surroundings,
            routes,
            handlers,
            shutdown: self.shutdown.unwrap_or_default(),
            grace_over: CancellationToken::new(),
            config: self.config,
        };
        Ok((Arc::new(machinery), answerer.run(), news))
    }

    /// The breakers of this worker; capabilities that name the same one share it, with the settings of the first.
    fn wanted_breakers(&self, names: &[Capability]) -> HashMap<BreakerName, Wanted> {
        let mut wanted: HashMap<BreakerName, Wanted> = HashMap::new();
        for (declared, capability) in self.declared.iter().zip(names) {
            let (Some(breaker), Ok(Some(standing))) =
                (&declared.stack.circuit_breaker, declared.stack.standing(capability))
            else {
                continue;
            };
            let settings = breaker.settings.within_range();
            let shared = wanted.entry(standing.name).or_insert_with(|| Wanted { settings, ..Wanted::default() });
            let whose = if standing.fallback.is_some() { &mut shared.falling_back } else { &mut shared.pausing };
            whose.insert(capability.clone());
        }
        wanted
    }
}

/// The client library makes a connection again by itself, except where it panics over what it reads.
async fn closed_for_good(mut link: watch::Receiver<Link>) {
    while link.changed().await.is_ok() {}
}

fn connection_ended() -> Error {
    Error::new(Kind::Stuck, "the connection has ended and cannot be made again: start the process again")
}

/// Ready while the connection stands and it is not paused.
async fn follow_readiness(machinery: Arc<Machinery>, health: process::Health) {
    let (mut link, mut paused) = (machinery.connection.link(), machinery.pause.watch());
    loop {
        match (link.borrow_and_update().is_up, *paused.borrow_and_update()) {
            (false, _) => health.unready("no connection to the broker"),
            (true, true) => health.unready("paused; `sortie agents resume` ends that"),
            (true, false) => health.ready(),
        }
        let changed = tokio::select! {
            changed = link.changed() => changed,
            changed = paused.changed() => changed,
        };
        if changed.is_err() {
            return;
        }
    }
}

/// Starts the watchdog. It ends the process, or says its verdict where the configuration keeps it from that.
fn start_watchdog(
    machinery: &Arc<Machinery>,
    beats: &Arc<AtomicU64>,
) -> (Sender<()>, tokio::sync::oneshot::Receiver<watchdog::Verdict>) {
    let (end, ended) = channel();
    let (say, said) = tokio::sync::oneshot::channel();
    let (weak, beats) = (Arc::downgrade(machinery), Arc::clone(beats));
    let (may_exit, logs) = (machinery.config.exit_when_stuck, machinery.logs.clone());
    let watch = move || {
        let Some(verdict) = watchdog::watch(&weak, &beats, &ended) else { return };
        if may_exit {
            verdict.exit(&logs);
        }
        // Nobody listens any more where the worker has ended meanwhile.
        let _ = say.send(verdict);
    };
    if let Err(error) = std::thread::Builder::new().name("sortie-watchdog".to_owned()).spawn(watch) {
        tracing::warn!(%error, "no watchdog");
    }
    (end, said)
}

#[cfg(test)]
mod crowd_tests;
