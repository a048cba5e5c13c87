//! A fleet for one test: server, topology, client, and workers in this process.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context, Result};
use broker::{Connection, Options, Reader, task, topology};
use client::Client;
use embedded::{Cluster, Config, Server};
use process::Shutdown;
use protocol::{
    Capability, InstanceId, Namespace, RunId,
    topology::{Names, Settings},
};
use worker::{Builder, Worker};

use crate::{PATIENCE, until};

/// Where the broker is.
#[derive(Debug)]
pub enum Site {
    /// One server.
    One(Box<Server>),
    /// Three servers, replicated.
    Three(Cluster),
}

/// A fleet for one test.
#[derive(Debug)]
pub struct Fleet {
    /// Its broker.
    pub site: Site,
    /// A connection that no worker uses.
    pub connection: Connection,
    /// A client on that connection.
    pub client: Client,
    /// Its namespace.
    pub namespace: Namespace,
}

/// A worker in this process, which drains when this is stopped and ends when it is dropped.
#[derive(Debug)]
pub struct RunningWorker {
    shutdown: Shutdown,
    ended: task::Owned<Result<(), worker::Error>>,
}

impl Fleet {
    /// On one server.
    ///
    /// # Errors
    /// When the server cannot be started.
    pub async fn start() -> Result<Self> {
        Self::start_with(Config::default()).await
    }

    /// On one server with this configuration.
    ///
    /// # Errors
    /// When the server cannot be started.
    pub async fn start_with(config: Config) -> Result<Self> {
        let mut settings = Settings::default();
        if let Some(bytes) = config.store_bytes_max {
            // The broker reserves them when it makes the stream, of a small store too.
            settings.logs_bytes_max = settings.logs_bytes_max.min(bytes / 8);
        }
        let server = Server::start(config).await.context("nats-server")?;
        Self::on(Site::One(Box::new(server)), &settings).await
    }

    /// On three servers, everything replicated three times.
    ///
    /// # Errors
    /// When the servers cannot be started.
    pub async fn start_cluster() -> Result<Self> {
        Self::start_cluster_with(Config::default()).await
    }

    /// On three servers with this configuration, everything replicated three times.
    ///
    /// # Errors
    /// When the servers cannot be started.
    pub async fn start_cluster_with(config: Config) -> Result<Self> {
        Self::on_cluster(Cluster::start_with(3, config).await.context("three nats-servers")?).await
    }

    /// On these three servers, everything replicated three times.
    ///
    /// # Errors
    /// When they take no streams.
    pub async fn on_cluster(cluster: Cluster) -> Result<Self> {
        Self::on(Site::Three(cluster), &Settings { replicas: 3, ..Settings::default() }).await
    }

    async fn on(site: Site, settings: &Settings) -> Result<Self> {
        let namespace = Namespace::default();
        let connection = Connection::open(options_for(&site)).await?;
        topology::apply(&connection, &namespace, settings).await?;
        let client = Client::new(connection.clone(), namespace.clone());
        Ok(Self { site, connection, client, namespace })
    }

    /// Where its broker is, for NATS clients.
    pub fn url(&self) -> String {
        match &self.site {
            Site::One(server) => server.url(),
            Site::Three(cluster) => cluster.url(),
        }
    }

    /// Its one server.
    ///
    /// # Panics
    /// On a cluster.
    #[allow(clippy::panic, reason = "a test fails by panicking")]
    pub fn server(&mut self) -> &mut Server {
        match &mut self.site {
            Site::One(server) => server,
            Site::Three(_) => panic!("this fleet has three servers"),
        }
    }

    /// Its three servers.
    ///
    /// # Panics
    /// On one server.
    #[allow(clippy::panic, reason = "a test fails by panicking")]
    pub fn cluster(&mut self) -> &mut Cluster {
        match &mut self.site {
            Site::Three(cluster) => cluster,
            Site::One(_) => panic!("this fleet has one server"),
        }
    }

    /// What workers of this fleet are configured with: it does not end the test's process when stuck.
    pub fn worker_config(&self) -> worker::Config {
        worker::Config {
            broker: options_for(&self.site),
            namespace: self.namespace.clone(),
            exit_when_stuck: false,
            ..worker::Config::default()
        }
    }

    /// Begins to build a worker of this fleet.
    pub fn worker(&self, kind: &str) -> Builder {
        Worker::builder(kind).config(self.worker_config())
    }

    /// Runs a worker until it is ready: until somebody serves the capability.
    ///
    /// # Errors
    /// When it is not ready within 20 s.
    pub async fn run(&self, builder: Builder, capability: &str) -> Result<RunningWorker> {
        let capability = Capability::parse(capability)?;
        let before = self.instances(&capability).await?;
        let shutdown = Shutdown::new();
        let ended = task::spawn("worker", builder.shutdown(shutdown.clone()).run());
        self.ready(RunningWorker { shutdown, ended }, &capability, &before).await
    }

    /// The same with its handlers on a runtime of their own: one that holds a thread may hold the thread that its
    /// runtime reads sockets with, and the test's own client would hear nothing.
    ///
    /// # Errors
    /// When it is not ready within 20 s.
    #[allow(clippy::panic, reason = "a test fails by panicking")]
    pub async fn run_apart(&self, builder: Builder, capability: &str) -> Result<RunningWorker> {
        let capability = Capability::parse(capability)?;
        let before = self.instances(&capability).await?;
        let shutdown = Shutdown::new();
        let guard = shutdown.token().drop_guard();
        let builder = builder.shutdown(shutdown.clone());
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build()?;
        let (answer, answered) = tokio::sync::oneshot::channel();
        std::thread::Builder::new().name("worker".to_owned()).spawn(move || {
            // Nobody waits any more where the test has failed.
            let _ = answer.send(runtime.block_on(builder.run()));
            runtime.shutdown_background();
        })?;
        let ended = task::spawn("worker", async move {
            let _guard = guard;
            answered.await.unwrap_or_else(|_| panic!("the worker panicked"))
        });
        self.ready(RunningWorker { shutdown, ended }, &capability, &before).await
    }

    /// Waits until a run has set a timer: `run`, or `<step>~<n>`.
    ///
    /// # Panics
    /// When it has not within a minute.
    pub async fn has_timer(&self, run: &RunId, timer: &str) {
        let (stream, place) = (Names::of(&self.namespace).runs, format!("{}.timer.{run}.{timer}", self.namespace));
        let reader = Reader::new(&self.connection);
        until(&place, 3 * PATIENCE, || async { reader.last(&stream, &place).await.ok()?.map(|_| ()) }).await;
    }

    /// Whose entries have the capability. Their number says nothing: those of who is gone may go at any moment.
    pub(crate) async fn instances(&self, capability: &Capability) -> Result<BTreeSet<InstanceId>> {
        Ok(self.client.serving(capability).await?.into_iter().map(|agent| agent.instance).collect())
    }

    async fn ready(
        &self,
        running: RunningWorker,
        capability: &Capability,
        before: &BTreeSet<InstanceId>,
    ) -> Result<RunningWorker> {
        let ready = async {
            loop {
                let now = self.instances(capability).await.unwrap_or_default();
                if !now.is_subset(before) || running.ended.is_finished() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), ready).await.context("the worker is not ready")?;
        if running.ended.is_finished() {
            running.stop().await?;
            anyhow::bail!("the worker ended at once");
        }
        Ok(running)
    }
}

impl RunningWorker {
    /// Asks it to drain.
    pub fn drain(&self) {
        self.shutdown.begin();
    }

    /// Drains it and waits for its end.
    ///
    /// # Errors
    /// What ended it.
    pub async fn stop(self) -> Result<()> {
        self.shutdown.begin();
        Ok(self.ended.join().await.context("the worker panicked")??)
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    /// What ended it.
    pub async fn ended(self) -> Result<()> {
        Ok(self.ended.join().await.context("the worker panicked")??)
    }
}

fn options_for(site: &Site) -> Options {
    let urls = match site {
        Site::One(server) => server.url(),
        Site::Three(cluster) => cluster.url(),
    };
    Options { servers: urls.split(',').map(str::to_owned).collect(), ..Options::default() }
}

/// A capability by name.
///
/// # Panics
/// When it is none.
#[allow(clippy::panic, reason = "a test fails by panicking")]
pub fn capability(name: &str) -> Capability {
    Capability::parse(name).unwrap_or_else(|error| panic!("{error}"))
}
