//! Any program that serves a fleet, started as a user would.

use std::{path::Path, process::Stdio, time::Duration};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use tokio::process::Command;

use crate::{Fleet, PATIENCE, fleet::capability, process::WorkerProcess, until};

/// Longer than an agent that has nothing to do takes to go.
const DRAINED_WITHIN: Duration = Duration::from_secs(15);

/// A program that finds the fleet in its environment.
pub fn command(fleet: &Fleet, program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env("SORTIE_SERVER", fleet.url()).env("SORTIE_LOG", "warn").stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// Starts a program and waits until it serves the capability.
///
/// # Errors
/// When it cannot be started or ends at once.
pub async fn serving(fleet: &Fleet, mut command: Command, name: &str) -> Result<WorkerProcess> {
    let before = &fleet.instances(&capability(name)).await?;
    let mut child = command.spawn().context("the program cannot be started")?;
    let ended = until("a program serves", PATIENCE, || {
        let ended = child.try_wait().ok().flatten();
        async move {
            let serves = !fleet.instances(&capability(name)).await.ok()?.is_subset(before);
            (serves || ended.is_some()).then_some(ended)
        }
    })
    .await;
    ensure!(ended.is_none(), "the program ended at once: {ended:?}");
    Ok(WorkerProcess(child))
}

/// Asks a program to end, and sees that it ends in order.
///
/// # Errors
/// When it ends otherwise, or not at all.
pub async fn drain(process: WorkerProcess) -> Result<()> {
    process.signal(Signal::SIGTERM)?;
    let status = process.ended(DRAINED_WITHIN).await?;
    ensure!(status.code() == Some(0), "a drain ends with {status}");
    Ok(())
}
