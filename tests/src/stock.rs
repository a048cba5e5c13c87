//! Programs that speak to a fleet with nothing of ours: Python with nats-py, and the `nats` command line.

use std::{
    path::PathBuf,
    process::{Output, Stdio},
};

use anyhow::{Context, Result, ensure};
use broker::topology;
use protocol::topology::{Source, worker_consumer};
use tokio::process::Command;

use crate::{Fleet, PATIENCE, binaries::workspace, fleet::capability, program};

/// A program of `tests/python`.
pub fn script(name: &str) -> PathBuf {
    workspace().join("tests/python").join(name)
}

/// A Python program that finds the fleet in its environment.
pub fn python(fleet: &Fleet, name: &str, arguments: &[&str]) -> Command {
    let mut command = program::command(fleet, "python3".as_ref());
    command.arg(script(name)).args(arguments).env("NATS_URL", fleet.url()).env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

/// The `nats` command line, without a context of whoever runs the tests.
pub fn nats(fleet: &Fleet, arguments: &[&str]) -> Command {
    let mut command = program::command(fleet, "nats".as_ref());
    command.env("XDG_CONFIG_HOME", "/nonexistent").args(["--server", &fleet.url()]).args(arguments);
    command
}

/// Whether python3 with nats-py is here, which `.ci/run` installs; where it is not, the test says that it did nothing.
pub async fn has_python() -> bool {
    is_here("python3", &["-c", "import nats"]).await
}

/// Whether the `nats` command line is here, which `.ci/run` installs; where it is not, the test says that it did nothing.
pub async fn has_nats() -> bool {
    is_here("nats", &["--version"]).await
}

/// Whether Prometheus and its tool are here, which `.ci/run` installs where it can; where they are not, the test says that
/// it did nothing.
pub async fn has_prometheus() -> bool {
    is_here("promtool", &["--version"]).await && is_here("prometheus", &["--version"]).await
}

async fn is_here(program: &str, arguments: &[&str]) -> bool {
    let tried = Command::new(program).args(arguments).stdin(Stdio::null()).output().await;
    let is_here = tried.is_ok_and(|output| output.status.success());
    if !is_here {
        eprintln!("SKIPPED: `{program} {}` does not work here; .ci/run installs what is missing", arguments.join(" "));
    }
    is_here
}

/// Runs a program to its end.
///
/// # Errors
/// When it cannot be run, or does not end.
pub async fn run(mut command: Command) -> Result<Output> {
    Ok(tokio::time::timeout(3 * PATIENCE, command.output()).await.context("the program does not end")??)
}

/// What a program wrote, if it ended well.
///
/// # Errors
/// When it did not.
pub async fn said(command: Command) -> Result<String> {
    let output = run(command).await?;
    ensure!(output.status.success(), "{output:?}");
    Ok(String::from_utf8(output.stdout)?)
}

/// The consumers of a capability, as `sortie topology apply --capability` makes them for foreign agents.
///
/// # Errors
/// When the broker refuses.
pub async fn make_consumers(fleet: &Fleet, name: &str) -> Result<()> {
    for source in Source::ALL {
        let consumer = worker_consumer(&fleet.namespace, &capability(name), source, 1);
        topology::ensure_consumer(&fleet.connection, &consumer).await?;
    }
    Ok(())
}
