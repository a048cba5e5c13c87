use std::sync::Arc;

use broker::{
    Connection, Error,
    task::{self, Owned},
    topology,
};
use futures_util::{StreamExt, stream::FuturesUnordered};
use prometheus::Registry;
use protocol::{InstanceId, topology::bucket_stream};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{
    Config, Metrics,
    duty::{
        Duty, Shift,
        agents_gone::AgentsGone,
        crons::{Crons, Fires},
        dead_letters::{Advised, DeadLetters},
        deadlines::Deadlines,
        gauges::Gauges,
        overdue::Overdue,
        redrive::Redrive,
        triggers::Triggers,
        wishes::Wishes,
    },
    post::Post,
    runs::{self, Strays, Timers},
};

/// A running coordinator. It ends when this is dropped, as if it were killed; [`Coordinator::stopped`] ends it in order.
#[derive(Debug)]
pub struct Coordinator {
    handle: Handle,
    instance: InstanceId,
    runs: runs::Held,
    tasks: Vec<Owned<()>>,
}

/// Stops a coordinator from elsewhere.
#[derive(Clone, Debug)]
pub struct Handle {
    stop: CancellationToken,
}

impl Handle {
    /// Asks it to stop: it gives its leases back and ends.
    pub fn stop(&self) {
        self.stop.cancel();
    }
}

impl Coordinator {
    /// Starts one. It only checks that the streams are there, and waits for them as long as
    /// [`Config::topology_within`] says: making them is for `sortie topology apply`.
    ///
    /// # Errors
    /// `NotFound` with what to do when a stream is not there in time; `Invalid` when `registry` has metrics of these
    /// names already; else what the broker says.
    pub async fn start(connection: &Connection, config: Config, registry: &Registry) -> Result<Self, Error> {
        let metrics = Metrics::new(registry).map_err(|error| Error::new(broker::Kind::Invalid, error.to_string()))?;
        let post = Post::new(connection.clone(), config, metrics);
        wait_for_topology(&post).await?;
        post.now().await?;
        let handle = Handle { stop: CancellationToken::new() };
        let config = &post.config;
        let mut tasks = vec![
            spawn(Overdue::new(&post), &post, config.overdue_every, post.store.room(), &handle),
            spawn(Deadlines::new(&post), &post, config.deadlines_every, Arc::default(), &handle),
            spawn(DeadLetters::new(&post), &post, config.dead_letters_every, Arc::default(), &handle),
            spawn(AgentsGone::new(&post), &post, config.agents_every, Arc::default(), &handle),
            spawn(Crons::new(&post), &post, config.crons_every, Arc::default(), &handle),
            spawn(Wishes::new(&post), &post, config.wishes_every, Arc::default(), &handle),
            task::spawn("triggers", Triggers::new(&post).keep(handle.stop.clone())),
            task::spawn("fires", Fires::new(&post).keep(handle.stop.clone())),
            spawn(Gauges::new(&post), &post, config.gauges_every, Arc::default(), &handle),
            spawn(Strays::new(&post), &post, config.strays_every, Arc::default(), &handle),
            spawn(Timers::new(&post), &post, config.timers_every, Arc::default(), &handle),
            spawn(Redrive::new(&post), &post, config.redrive_every, Arc::default(), &handle),
            task::spawn("advisories", Advised::new(&post).keep(handle.stop.clone())),
        ];
        let (runs, of_runs) = runs::start(&post, &handle.stop);
        tasks.extend(of_runs);
        tracing::info!(instance = %post.instance, namespace = %post.namespace(), "coordinator started");
        Ok(Self { handle, instance: post.instance.clone(), runs, tasks })
    }

    /// What stops it from elsewhere.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Who it is in leases and events.
    pub fn instance(&self) -> &InstanceId {
        &self.instance
    }

    /// How many partitions of the runs' logs it has now, of 16.
    pub fn partitions(&self) -> usize {
        self.runs.partitions()
    }

    /// Waits until it was stopped and has given its leases back. False if a duty panicked: the others stop then too,
    /// for another coordinator to take them.
    pub async fn stopped(self) -> bool {
        let mut was_in_order = true;
        let mut ends: FuturesUnordered<_> = self.tasks.into_iter().map(Owned::join).collect();
        while let Some(end) = ends.next().await {
            if end.is_none() {
                was_in_order = false;
                self.handle.stop();
            }
        }
        was_in_order
    }
}

fn spawn<D: Duty>(duty: D, post: &Post, every: std::time::Duration, bell: Arc<Notify>, handle: &Handle) -> Owned<()> {
    task::spawn(D::NAME, Shift::new(duty, post, every, bell).keep(handle.stop.clone()))
}

async fn wait_for_topology(post: &Post) -> Result<(), Error> {
    let names = &post.names;
    let buckets = [&names.agents, &names.config, &names.desired, &names.locks, &names.state, &names.workflows];
    let buckets = buckets.map(|bucket| bucket_stream(bucket));
    let streams =
        [&names.requests, &names.unique, &names.outcomes, &names.runs, &names.events, &names.dead, &names.advisories];
    let until = std::time::Instant::now() + post.config.topology_within;
    for stream in streams.into_iter().chain(&buckets) {
        let within = until.saturating_duration_since(std::time::Instant::now());
        topology::wait_for_stream(&post.connection, stream, within).await?;
    }
    Ok(())
}
