//! Worker processes that a test may kill, and that somebody starts again.

use std::{
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result};
use broker::task::{self, Owned};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{
    process::{Child, Command},
    sync::Notify,
};

use crate::{Fleet, fleet::capability, until};

/// How a `test-worker` process is started.
#[derive(Clone, Debug)]
pub struct Start {
    /// Its binary: `env!("CARGO_BIN_EXE_test-worker")`, which only a test can say.
    pub binary: &'static str,
    /// Attempts at once.
    pub slots: usize,
    /// How long its registry entry stands without renewal.
    pub registry_ttl: Duration,
}

/// One worker process, killed when this is dropped.
#[derive(Debug)]
pub struct WorkerProcess(pub(crate) Child);

/// A worker process that is started again whenever it has died, until this is dropped.
#[derive(Debug)]
pub struct Supervised {
    _keeper: Owned<()>,
}

impl Start {
    /// With ten slots.
    pub fn new(binary: &'static str) -> Self {
        Self { binary, slots: 10, registry_ttl: Duration::from_secs(30) }
    }

    /// Starts one.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(&self, fleet: &Fleet) -> Result<WorkerProcess> {
        let mut command = Command::new(self.binary);
        command.arg(fleet.url()).arg(self.slots.to_string()).arg(self.registry_ttl.as_secs().to_string());
        command.stdin(Stdio::null()).kill_on_drop(true);
        Ok(WorkerProcess(command.spawn().context("test-worker")?))
    }

    /// Starts one and waits until it serves.
    ///
    /// # Errors
    /// When it cannot be started.
    pub async fn ready(&self, fleet: &Fleet) -> Result<WorkerProcess> {
        let process = self.spawn(fleet)?;
        let pid = process.id()?;
        // By its own entry: those of earlier ones may go meanwhile.
        until("a worker process is ready", Duration::from_secs(20), || async {
            let serving = fleet.client.serving(&capability("work")).await.ok()?;
            serving.iter().any(|agent| agent.pid == pid).then_some(())
        })
        .await;
        Ok(process)
    }

    /// Keeps one alive; each death is told.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn supervise(self, fleet: &Arc<Fleet>, died: &Arc<Notify>) -> Result<Supervised> {
        let (fleet, died) = (Arc::clone(fleet), Arc::clone(died));
        let mut process = self.spawn(&fleet)?;
        let keeper = task::spawn("keeper", async move {
            loop {
                let _ = process.0.wait().await;
                died.notify_one();
                match self.spawn(&fleet) {
                    Ok(started) => process = started,
                    Err(_) => return,
                }
            }
        });
        Ok(Supervised { _keeper: keeper })
    }
}

impl WorkerProcess {
    /// One that was started another way.
    pub fn of(child: Child) -> Self {
        Self(child)
    }

    /// Its process id.
    ///
    /// # Errors
    /// When it has ended.
    pub fn id(&self) -> Result<u32> {
        self.0.id().context("the process has ended")
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// When it has ended.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill(Pid::from_raw(i32::try_from(self.id()?)?), signal)?)
    }

    /// Waits until it ends.
    ///
    /// # Errors
    /// When it does not within a bound.
    pub async fn ended(mut self, within: Duration) -> Result<ExitStatus> {
        Ok(tokio::time::timeout(within, self.0.wait()).await.context("the process does not end")??)
    }
}
