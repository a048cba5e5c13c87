//! A fleet with a worker, coordinators, and workflows to run.

use std::{
    collections::BTreeMap,
    process::Stdio,
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::{Context as _, Result};
use broker::{Bucket, Publisher, Reader, topology};
use coordinator::{Config, Coordinator};
use prometheus::Registry;
use protocol::{
    Outcome, RequestId, RunId, WorkflowName,
    run::definition_key,
    subject::filter,
    topology::{Names, RUN_PARTITIONS, run_consumer},
};
use serde_json::{Value, json};
use sortie_tests::{Fleet, RunningWorker, binaries, process::WorkerProcess, until, until_some};
use tokio::process::Command;
use worker::{Context, Failure};

/// Longer than a partition takes to move, on a machine that does other things.
pub(crate) const BOUND: Duration = Duration::from_secs(60);

/// Three steps, one after the other, each a request for `work`.
pub(crate) fn three_steps() -> Value {
    json!({
        "workflow": "three", "version": "1.0.0",
        "steps": {
            "a": { "call": "work", "with": { "give": "${ input.n }", "ms": "${ input.ms }" } },
            "b": { "needs": ["a"], "call": "work", "with": { "give": "${ steps.a.output + 1 }", "ms": "${ input.ms }" } },
            "c": { "needs": ["b"], "call": "work", "with": { "give": "${ steps.b.output + 1 }", "ms": "${ input.ms }" } },
        },
        "output": "${ steps.c.output }",
    })
}

/// A fleet whose worker does `work`.
pub(crate) struct Site {
    pub(crate) fleet: Fleet,
    pub(crate) names: Names,
    pub(crate) reader: Reader,
    pub(crate) publisher: Publisher,
    /// How often each request was begun.
    pub(crate) begun: Begun,
    _worker: Option<RunningWorker>,
}

/// How often each request was begun.
#[derive(Clone, Default)]
pub(crate) struct Begun(Arc<Mutex<BTreeMap<String, u32>>>);

impl Begun {
    pub(crate) fn all(&self) -> BTreeMap<String, u32> {
        self.0.lock().unwrap().clone()
    }

    pub(crate) fn has(&self, id: &str) -> bool {
        self.0.lock().unwrap().contains_key(id)
    }

    fn note(&self, id: &RequestId) {
        *self.0.lock().unwrap().entry(id.to_string()).or_default() += 1;
    }
}

impl Site {
    pub(crate) async fn start() -> Result<Self> {
        Self::on(Fleet::start().await?).await
    }

    /// `work` waits `ms` and gives back what its input says to `give`; it fails for good where that says `fail`, and on
    /// its first attempts where that says how many `fails`.
    pub(crate) async fn on(fleet: Fleet) -> Result<Self> {
        let begun = Begun::default();
        let noted = begun.clone();
        let work = move |context: Context, input: Value| {
            noted.note(context.id());
            async move {
                let cancelled = context.cancellation();
                tokio::select! {
                    () = tokio::time::sleep(Duration::from_millis(input["ms"].as_u64().unwrap_or(0))) => {}
                    () = cancelled.cancelled() => return Err(Failure::new("stopped", "cancelled")),
                }
                let fail = input["fail"].as_str().filter(|code| !code.is_empty());
                match (fail, input["fails"].as_u64()) {
                    (Some(code), _) => Err(Failure::new(code, "as it was told").give_up()),
                    (None, Some(fails)) if u64::from(context.attempt()) <= fails => {
                        Err(Failure::new("not_yet", "as it was told"))
                    }
                    _ => Ok(input["give"].clone()),
                }
            }
        };
        let builder = fleet.worker("work").slots(100).capability("work", work);
        let worker = fleet.run(builder, "work").await?;
        Ok(Self {
            names: Names::of(&fleet.namespace),
            reader: Reader::new(&fleet.connection),
            publisher: Publisher::new(&fleet.connection),
            begun,
            fleet,
            _worker: Some(worker),
        })
    }

    /// Brings a workflow.
    pub(crate) async fn apply(&self, definition: &Value) -> Result<WorkflowName> {
        let name = WorkflowName::parse(definition["workflow"].as_str().context("a name")?)?;
        let bucket = Bucket::new(&self.fleet.connection, &self.publisher, self.names.workflows.as_str());
        bucket.put(&definition_key(&name), definition.to_string(), None).await?;
        Ok(name)
    }

    /// A coordinator in this process, with a connection of its own.
    pub(crate) async fn coordinate(&self) -> Result<Coordinator> {
        self.coordinate_with(Config::default()).await
    }

    pub(crate) async fn coordinate_with(&self, config: Config) -> Result<Coordinator> {
        let connection = broker::Connection::open(self.fleet.worker_config().broker).await?;
        Ok(Coordinator::start(&connection, config, &Registry::new()).await?)
    }

    /// A coordinator as a process, which a test may kill.
    pub(crate) fn coordinator_process(&self) -> Result<WorkerProcess> {
        let mut command = Command::new(binaries::path("coordinator"));
        command.env("SORTIE_SERVER", self.fleet.url()).env("SORTIE_LOG", "warn");
        command.stdin(Stdio::null()).kill_on_drop(true);
        Ok(WorkerProcess::of(command.spawn().context("coordinator")?))
    }

    pub(crate) async fn outcome(&self, run: &RunId) -> Result<Outcome> {
        Ok(self.fleet.client.wait(&RequestId::from(run), BOUND).await?)
    }

    /// The facts in the log of a run that is alive.
    pub(crate) async fn facts(&self, run: &RunId) -> Vec<String> {
        let facts = self.fleet.client.run_facts(run, 0).await.unwrap_or_default();
        facts.into_iter().map(|fact| fact.name).collect()
    }

    /// Waits until a run's log has this fact.
    pub(crate) async fn has_fact(&self, run: &RunId, name: &str) {
        until(name, BOUND, || async { self.facts(run).await.iter().any(|fact| fact == name).then_some(()) }).await;
    }

    /// Waits until nothing is left of any run: no fact, nothing ack-pending, nothing queued.
    pub(crate) async fn is_empty(&self) {
        let left = Mutex::new(String::new());
        let empty = until_some(BOUND, || async {
            let count = |stream| topology::subject_counts(&self.fleet.connection, stream, ">");
            let facts = count(&self.names.runs).await.ok()?;
            let requests = count(&self.names.requests).await.ok()?;
            let mut pending = 0;
            for partition in 0..RUN_PARTITIONS {
                let consumer = run_consumer(&self.fleet.namespace, partition);
                let state = topology::consumer_state(&self.fleet.connection, &consumer.stream, &consumer.name).await;
                let state = state.ok()?;
                pending += state.ack_pending + state.pending;
            }
            let is_empty = facts.is_empty() && requests.is_empty() && pending == 0;
            *left.lock().unwrap() = format!("{facts:?}, {requests:?}, {pending} not acknowledged");
            is_empty.then_some(())
        });
        assert!(empty.await.is_some(), "there is left: {}", left.lock().unwrap());
    }

    /// Events under a topic.
    pub(crate) async fn events(&self, topic: &str) -> u64 {
        let filter = filter::event(&self.fleet.namespace, topic);
        let counts = topology::subject_counts(&self.fleet.connection, &self.names.events, &filter).await;
        counts.unwrap_or_default().values().sum()
    }
}

pub(crate) fn run(text: &str) -> RunId {
    RunId::parse(text).unwrap()
}
