//! A fleet whose requests are noted when they are accepted.

use std::{path::PathBuf, process::Stdio, time::Duration};

use anyhow::{Context, Result};
use broker::{Bucket, Publisher, topology};
use client::{AcceptedFile, Fault, Proof, RequestBuilder, Sight};
use coordinator::{Config, Coordinator};
use prometheus::Registry;
use protocol::{RequestId, RunId, UniqueKey, WorkflowName, run::definition_key, topology::Names};
use serde_json::{Value, json};
use sortie_tests::{
    Fleet, binaries,
    fleet::capability,
    process::{Start, WorkerProcess},
    until,
};
use tempfile::TempDir;
use tokio::process::Command;

/// Longer than anything here takes on a machine that does other things.
pub(crate) const BOUND: Duration = Duration::from_secs(60);

pub(crate) struct Site {
    pub(crate) fleet: Fleet,
    pub(crate) names: Names,
    folder: TempDir,
    pub(crate) noted: AcceptedFile,
}

impl Site {
    pub(crate) async fn start() -> Result<Self> {
        Self::on(Fleet::start().await?)
    }

    pub(crate) fn on(fleet: Fleet) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let noted = AcceptedFile::append_to(&folder.path().join("accepted.jsonl"))?;
        Ok(Self { names: Names::of(&fleet.namespace), fleet, folder, noted })
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.folder.path().join("accepted.jsonl")
    }

    pub(crate) async fn worker(&self) -> Result<WorkerProcess> {
        Start::new(env!("CARGO_BIN_EXE_test-worker")).ready(&self.fleet).await
    }

    pub(crate) async fn coordinate(&self) -> Result<Coordinator> {
        let connection = broker::Connection::open(self.fleet.worker_config().broker).await?;
        Ok(Coordinator::start(&connection, Config::default(), &Registry::new()).await?)
    }

    /// A workflow of one step that does what its input says, and one that waits for a signal.
    pub(crate) async fn workflows(&self) -> Result<[WorkflowName; 2]> {
        let work = json!({ "workflow": "one", "version": "1.0.0", "steps": { "a": { "call": "work", "with": "${ input }" } } });
        let wait = json!({ "workflow": "ask", "version": "1.0.0", "steps": { "a": { "signal": "go" } } });
        Ok([self.workflow(&work).await?, self.workflow(&wait).await?])
    }

    pub(crate) async fn workflow(&self, definition: &Value) -> Result<WorkflowName> {
        let publisher = Publisher::new(&self.fleet.connection);
        let bucket = Bucket::new(&self.fleet.connection, &publisher, self.names.workflows.as_str());
        let name = WorkflowName::parse(definition["workflow"].as_str().context("a name")?)?;
        bucket.put(&definition_key(&name), definition.to_string(), None).await?;
        Ok(name)
    }

    pub(crate) async fn submit(&self, id: &str, input: Value) -> Result<RequestId> {
        self.submit_as(id, input, |request| request).await
    }

    pub(crate) async fn submit_as(
        &self,
        id: &str,
        input: Value,
        more: impl Fn(RequestBuilder<'_>) -> RequestBuilder<'_>,
    ) -> Result<RequestId> {
        let id = RequestId::parse(id)?;
        let request = self.fleet.client.request(&capability("work"), &input).id(id.clone()).noted_in(&self.noted);
        more(request).submit().await?;
        Ok(id)
    }

    pub(crate) async fn unique(&self, key: &str, input: Value) -> Result<RequestId> {
        let request = self.fleet.client.request(&capability("work"), &input).unique(UniqueKey::parse(key)?);
        Ok(request.noted_in(&self.noted).submit().await?.id().clone())
    }

    pub(crate) async fn run(&self, workflow: &WorkflowName, id: &str, input: Value) -> Result<RunId> {
        let run = RunId::parse(id)?;
        self.fleet.client.start(workflow, &input).id(&run).noted_in(&self.noted).submit().await?;
        Ok(run)
    }

    /// Proves, and gives the faults too.
    pub(crate) async fn prove(&self) -> Result<(Proof, Vec<Fault>)> {
        let mut faults = Vec::new();
        let mut watch = |sight: Sight<'_>| {
            if let Sight::Fault(fault) = sight {
                faults.push(fault.clone());
            }
        };
        let proof = self.fleet.client.prove(&self.file(), &mut watch).await?;
        Ok((proof, faults))
    }

    /// Proves that nothing is wrong.
    pub(crate) async fn proved(&self) -> Result<Proof> {
        let (proof, faults) = self.prove().await?;
        assert!(proof.holds() && faults.is_empty(), "{proof:?}: {faults:?}");
        Ok(proof)
    }

    /// Runs `sortie audit`, and gives its exit code and its document.
    pub(crate) async fn audit(&self, arguments: &[&str]) -> Result<(i32, Value)> {
        let output = self.sortie(&[&["audit", "--json"], arguments].concat()).await?;
        let document = serde_json::from_slice(&output.stdout).with_context(|| format!("{output:?}"))?;
        Ok((output.status.code().context("a code")?, document))
    }

    pub(crate) async fn sortie(&self, arguments: &[&str]) -> Result<std::process::Output> {
        let mut command = Command::new(binaries::path("sortie"));
        command.args(["--server", &self.fleet.url()]).args(arguments).stdin(Stdio::null()).kill_on_drop(true);
        Ok(tokio::time::timeout(BOUND, command.output()).await??)
    }

    /// Waits until nothing is queued or scheduled but `messages`.
    pub(crate) async fn at_rest(&self, messages: u64) {
        until("everything is done", BOUND, || async {
            let requests = topology::stream_state(&self.fleet.connection, &self.names.requests).await.ok()?.messages;
            let unique = topology::stream_state(&self.fleet.connection, &self.names.unique).await.ok()?.messages;
            (requests + unique == messages).then_some(())
        })
        .await;
    }

    /// Deletes what lies on a subject, as somebody does by hand.
    pub(crate) async fn purge(&self, stream: &str, subject: &str) -> Result<()> {
        let purged = topology::purge(&self.fleet.connection, stream, subject, None).await?;
        anyhow::ensure!(purged == 1, "{subject}: {purged}");
        Ok(())
    }
}
