//! A `sortie` that goes on until it is told to end, and what it says meanwhile.

use std::{process::Stdio, time::Duration};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStderr, ChildStdout, Command},
    time::timeout,
};

const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Running {
    child: Child,
    out: Lines<BufReader<ChildStdout>>,
    err: Lines<BufReader<ChildStderr>>,
    /// What was said on standard error so far.
    pub(crate) said: Vec<String>,
}

impl Running {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::start_in(arguments, &[])
    }

    pub(crate) fn start_in(arguments: &[&str], env: &[(&str, &str)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sortie"));
        command.envs(env.iter().copied());
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap()).lines();
        let err = BufReader::new(child.stderr.take().unwrap()).lines();
        Self { child, out, err, said: Vec::new() }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id().unwrap()
    }

    /// The next line on standard output.
    pub(crate) async fn line(&mut self) -> String {
        let line = timeout(PATIENCE, self.out.next_line()).await;
        line.unwrap_or_else(|_| panic!("no line came; it said {:#?}", self.said)).unwrap().unwrap()
    }

    /// Reads standard error until a line has this in it, if none had it yet, and gives that line.
    pub(crate) async fn until(&mut self, what: &str) -> String {
        if let Some(line) = self.said.iter().find(|line| line.contains(what)) {
            return line.clone();
        }
        loop {
            match timeout(PATIENCE, self.err.next_line()).await {
                Ok(Ok(Some(line))) => {
                    self.said.push(line.clone());
                    if line.contains(what) {
                        return line;
                    }
                }
                _ => panic!("`{what}` was not said, but {:#?}", self.said),
            }
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        send(self.pid(), signal);
    }

    /// Waits for its end, reading what it still says: the exit code, none if a signal ended it.
    pub(crate) async fn end(mut self) -> (Option<i32>, Vec<String>) {
        let rest = async {
            while let Ok(Some(line)) = self.err.next_line().await {
                self.said.push(line);
            }
            self.child.wait().await.unwrap().code()
        };
        let code = timeout(PATIENCE, rest).await.unwrap();
        (code, self.said)
    }
}

pub(crate) fn send(pid: u32, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(pid).unwrap()), signal).unwrap();
}

/// Children of a process, by their ids.
pub(crate) fn children(pid: u32) -> Vec<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let of_task = |task: std::io::Result<std::fs::DirEntry>| {
        let text = std::fs::read_to_string(task.unwrap().path().join("children")).unwrap_or_default();
        text.split_whitespace().map(|pid| pid.parse().unwrap()).collect::<Vec<u32>>()
    };
    tasks.flat_map(of_task).collect()
}

/// Waits until a process has so many children.
pub(crate) async fn until_children(pid: u32, count: usize) -> Vec<u32> {
    let all = async {
        loop {
            let found = children(pid);
            if found.len() >= count {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, all).await.unwrap()
}

/// Waits until none of these processes is alive; a zombie is not.
pub(crate) async fn gone(pids: &[u32]) {
    let is_alive = |pid: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let state = stat.rsplit(") ").next().and_then(|rest| rest.chars().next());
        state.is_some_and(|state| !"ZX".contains(state))
    };
    let all = async {
        while pids.iter().any(is_alive) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, all).await.unwrap();
}
