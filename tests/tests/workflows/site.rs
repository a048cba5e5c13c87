//! A fleet of processes: a coordinator, and the agents that a shipped workflow needs.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use client::{RunRecord, StartedRun};
use protocol::{Outcome, RequestId, RunId, WorkflowName};
use serde_json::Value;
use sortie_tests::{Fleet, PATIENCE, binaries, process::WorkerProcess, program, until};
use tempfile::TempDir;
use tokio::process::Command;

/// Longer than a coordinator takes to begin and a dozen commands take to run, on a machine that does other things.
pub(crate) const BOUND: Duration = Duration::from_secs(60);

/// A fleet, and a folder in which its agents keep what they do.
pub(crate) struct Site {
    pub(crate) fleet: Fleet,
    pub(crate) folder: TempDir,
    _processes: Vec<WorkerProcess>,
}

/// What a command of the command line ended with.
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// Where a shipped file is.
pub(crate) fn shipped(file: &str) -> PathBuf {
    binaries::workspace().join("bin/sortie/workflows").join(file)
}

/// Commands of agents find the command line, as where it is installed.
#[allow(clippy::disallowed_methods, reason = "the test hands its own path on")]
fn path_with_ours() -> OsString {
    let ours = binaries::path("sortie").parent().map(Path::to_path_buf);
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::join_paths(ours.into_iter().chain(std::env::split_paths(&path))).unwrap()
}

impl Site {
    /// With an agent of a shipped file, which finds the folder in a variable.
    pub(crate) async fn with_commands(file: &str, serves: &str, variable: &str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut agent = Command::new(binaries::path("agent-exec"));
        agent.arg(shipped(file)).env(variable, folder.path());
        Self::with(agent, serves, folder).await
    }

    pub(crate) async fn with(agent: Command, serves: &str, folder: TempDir) -> Result<Self> {
        let fleet = Fleet::start().await?;
        let coordinator = Self::of(&fleet, Command::new(binaries::path("coordinator"))).spawn()?;
        let agent = program::serving(&fleet, Self::of(&fleet, agent), serves).await?;
        Ok(Self { fleet, folder, _processes: vec![WorkerProcess::of(coordinator), agent] })
    }

    fn of(fleet: &Fleet, mut command: Command) -> Command {
        command
            .env("PATH", path_with_ours())
            .env("NATS_URL", fleet.url())
            .env("SORTIE_SERVER", fleet.url())
            .env("SORTIE_LOG", "warn")
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    /// The command line.
    pub(crate) async fn sortie(&self, arguments: &[&str]) -> Result<Ended> {
        let mut command = Self::of(&self.fleet, Command::new(binaries::path("sortie")));
        let output = tokio::time::timeout(PATIENCE, command.args(arguments).output()).await??;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok(Ended { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) })
    }

    /// Applies shipped workflows as a user would; gives back the name of the first.
    pub(crate) async fn apply(&self, files: &[&str]) -> Result<WorkflowName> {
        let paths: Vec<String> = files.iter().map(|file| shipped(file).display().to_string()).collect();
        self.apply_paths(&paths).await?;
        Ok(WorkflowName::parse(files[0].trim_end_matches(".yaml"))?)
    }

    /// Applies a shipped workflow in which times are shorter, so that a test need not wait for hours. Everything else is as
    /// it is shipped; each time must stand there once.
    pub(crate) async fn apply_hurried(&self, file: &str, times: &[(&str, &str)]) -> Result<WorkflowName> {
        let mut text = fs::read_to_string(shipped(file))?;
        for (shipped, shorter) in times {
            ensure!(text.matches(shipped).count() == 1, "{shipped} is not once in {file}");
            text = text.replace(shipped, shorter);
        }
        let hurried = self.folder.path().join(file);
        fs::write(&hurried, text)?;
        self.apply_paths(&[hurried.display().to_string()]).await?;
        Ok(WorkflowName::parse(file.trim_end_matches(".yaml"))?)
    }

    async fn apply_paths(&self, paths: &[String]) -> Result<()> {
        let mut arguments = vec!["workflow", "apply"];
        arguments.extend(paths.iter().map(String::as_str));
        let applied = self.sortie(&arguments).await?;
        ensure!(applied.code == 0, "{}{}", applied.out, applied.err);
        // A warning says that nobody serves what a step asks for, or that its input is not what they take.
        ensure!(applied.err.is_empty(), "{}", applied.err);
        Ok(())
    }

    pub(crate) async fn start(&self, workflow: &WorkflowName, id: &str, input: &Value) -> Result<StartedRun> {
        Ok(self.fleet.client.start(workflow, input).id(&RunId::parse(id)?).submit().await?)
    }

    /// Starts a run, and waits until it is over.
    pub(crate) async fn run(&self, workflow: &WorkflowName, id: &str, input: &Value) -> Result<Over> {
        let started = self.start(workflow, id, input).await?;
        self.over(started.run()).await
    }

    /// Waits until a run is over and told.
    pub(crate) async fn over(&self, run: &RunId) -> Result<Over> {
        let outcome = self.fleet.client.wait(&RequestId::from(run), BOUND).await?;
        // The summary comes behind the outcome.
        let record = until("the run is told", BOUND, || async {
            let record = self.fleet.client.run_record(run).await.ok()??;
            matches!(record, RunRecord::Ended(_)).then_some(record)
        })
        .await;
        Ok(Over { outcome, facts: record.facts().iter().map(|fact| fact.name.clone()).collect() })
    }

    /// The lines of a file in the folder; none where it is not there.
    pub(crate) fn lines(&self, file: &str) -> Vec<String> {
        let text = fs::read_to_string(self.folder.path().join(file)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The data of the last event on a topic.
    pub(crate) async fn event(&self, topic: &str) -> Result<Value> {
        let (names, reader) =
            (protocol::topology::Names::of(&self.fleet.namespace), broker::Reader::new(&self.fleet.connection));
        let subject = protocol::subject::event(&self.fleet.namespace, topic);
        let found = reader.last(&names.events, &subject).await?.context("no event")?;
        Ok(serde_json::from_slice(&found.body)?)
    }
}

/// A run that is over.
pub(crate) struct Over {
    pub(crate) outcome: Outcome,
    /// The names of its facts, in the order in which they happened.
    pub(crate) facts: Vec<String>,
}

impl Over {
    /// What it came to.
    pub(crate) fn output(&self) -> Value {
        self.outcome.result().unwrap_or_else(|failure| panic!("{failure}"))
    }

    /// The facts that are outcomes of steps, as `step.item`.
    pub(crate) fn outcomes(&self) -> Vec<&str> {
        self.facts.iter().filter_map(|fact| fact.strip_prefix("step.")?.strip_suffix(".outcome")).collect()
    }
}
