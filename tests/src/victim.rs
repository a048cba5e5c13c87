//! A worker in a process of its own, to be killed, stopped and cut off.
//!
//! The process is the helper binary `victim`; what it is to be is told in one argument, and what a request asks of it
//! stands in the request's body.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context, Result};
use nix::{
    sys::signal::{self, Signal},
    unistd::Pid,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::process::{Child, ChildStdin, Command};

use crate::{Fleet, PATIENCE, fleet::capability};

/// The capability that a victim serves.
pub const CAPABILITY: &str = "work";

/// The wait before a victim's retries.
pub const BACKOFF: Duration = Duration::from_millis(400);

/// What a victim is to be.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Orders {
    /// Where its broker is: URLs, separated by commas.
    pub server: String,
    /// Attempts at once.
    pub slots: usize,
    /// How long a drain waits.
    pub drain_grace: Duration,
    /// How long each attempt takes, whatever the request says.
    pub works: Option<Duration>,
    /// How many of the first attempts fail, whatever the request says.
    pub fails: Option<u32>,
    /// Where it notes each attempt that it begins: attempt and request id, a line each.
    pub diary: PathBuf,
}

/// What is asked of a victim.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Task {
    /// How long an attempt takes, in milliseconds.
    pub works_ms: u64,
    /// How many of the first attempts fail.
    pub fails: u32,
    /// Whether the failure is one that is not retried.
    pub gives_up: bool,
    /// Size of the result.
    pub result_bytes: usize,
}

/// One such process; killed when this is dropped.
#[derive(Debug)]
pub struct Victim {
    child: Child,
    /// It ends when its input does, so that it never outlives this process. Waiting for a child would close it.
    _input: Option<ChildStdin>,
    log: PathBuf,
}

impl Orders {
    /// A worker with one slot, and little patience for a drain.
    pub fn new(server: impl Into<String>, diary: &Path) -> Self {
        Self {
            server: server.into(),
            slots: 1,
            drain_grace: Duration::from_secs(10),
            works: None,
            fails: None,
            diary: diary.to_owned(),
        }
    }
}

impl Victim {
    /// Starts one. `program` is the path of the helper binary, which only a test knows; its log goes to `log`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(program: &str, orders: &Orders, log: &Path) -> Result<Self> {
        let output = fs::File::options().create(true).append(true).open(log)?;
        let mut command = Command::new(program);
        command.arg(serde_json::to_string(orders)?).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(output.try_clone()?).stderr(output);
        let mut child = command.spawn().context("a victim")?;
        Ok(Self { _input: child.stdin.take(), child, log: log.to_owned() })
    }

    /// Its process id.
    ///
    /// # Errors
    /// When it has ended and was waited for.
    pub fn pid(&self) -> Result<u32> {
        self.child.id().context("the victim has ended")
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// When it has ended.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        Ok(signal::kill(Pid::from_raw(i32::try_from(self.pid()?)?), signal)?)
    }

    /// Freezes it: when this returns, all of it stands still.
    ///
    /// # Errors
    /// When it has ended, or goes on.
    pub async fn freeze(&self) -> Result<()> {
        self.signal(Signal::SIGSTOP)?;
        stands_still(self.pid()?).await
    }

    /// Waits until it serves.
    ///
    /// # Errors
    /// When it does not within 20 s.
    pub async fn serves(&self, fleet: &Fleet) -> Result<()> {
        let (capability, pid) = (capability(CAPABILITY), self.pid()?);
        let ready = async {
            loop {
                let agents = fleet.client.serving(&capability).await.unwrap_or_default();
                if agents.iter().any(|agent| agent.pid == pid) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, ready)
            .await
            .with_context(|| format!("the victim does not serve:\n{}", self.log()))
    }

    /// Whether it has not ended.
    ///
    /// # Errors
    /// When the operating system does not say.
    pub fn lives(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it does not end within this long.
    pub async fn ended(&mut self, within: Duration) -> Result<ExitStatus> {
        let ended = tokio::time::timeout(within, self.child.wait()).await;
        Ok(ended.with_context(|| format!("the victim lives on:\n{}", self.log()))??)
    }

    /// Asks it to drain, and waits for its end.
    ///
    /// # Errors
    /// When it does not end within this long, or not in good order.
    pub async fn drain(mut self, within: Duration) -> Result<()> {
        self.signal(Signal::SIGTERM)?;
        let status = self.ended(within).await?;
        anyhow::ensure!(status.success(), "the drain ended with {status}:\n{}", self.log());
        Ok(())
    }

    /// Kills it, and waits for its end.
    ///
    /// # Errors
    /// When the operating system refuses.
    pub async fn kill(mut self) -> Result<()> {
        Ok(self.child.kill().await?)
    }

    /// What it logged.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

/// Waits until a process that was sent SIGSTOP stands still: its threads stop one by one, and each goes on until it does.
///
/// # Errors
/// When it goes on for 5 s.
pub async fn stands_still(pid: u32) -> Result<()> {
    let stopped = async {
        loop {
            let threads = fs::read_dir(format!("/proc/{pid}/task"))?;
            let stats =
                threads.flatten().map(|thread| fs::read_to_string(thread.path().join("stat")).unwrap_or_default());
            // The state stands behind the name, which is in parentheses; a thread that has ended has none.
            let mut states = stats.filter_map(|stat| stat.rsplit_once(')')?.1.trim_start().chars().next());
            if states.all(|state| state == 'T') {
                return Ok::<_, std::io::Error>(());
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    Ok(tokio::time::timeout(Duration::from_secs(5), stopped).await.context("a stopped process goes on")??)
}

/// The attempts that victims began, as their diary tells.
pub fn attempts(diary: &Path) -> Vec<u32> {
    let text = fs::read_to_string(diary).unwrap_or_default();
    text.lines().filter_map(|line| line.split(' ').next()?.parse().ok()).collect()
}
