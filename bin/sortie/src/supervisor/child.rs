//! One process: started in a group of its own, its output handed on line by line, ended with everything it started.

use std::{
    ffi::OsString, io, os::unix::process::ExitStatusExt, path::PathBuf, process::Stdio, sync::Arc, time::Duration,
};

use broker::task;
use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use tokio::{io::AsyncRead, process::Command};

use super::{
    console::{Console, Speaker, Stream},
    lines,
    restart::End,
};

/// How long the last lines of a child that ended may take to come.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What to run.
#[derive(Clone, Debug)]
pub(crate) struct Spec {
    /// What it is called in front of its lines.
    pub(crate) name: String,
    /// The program.
    pub(crate) program: PathBuf,
    /// Its arguments.
    pub(crate) args: Vec<OsString>,
    /// Variables of ours that it does not inherit.
    pub(crate) env_removed: Vec<&'static str>,
    /// Variables that it gets.
    pub(crate) env: Vec<(OsString, OsString)>,
    /// Where it runs. Defaults to where we do.
    pub(crate) directory: Option<PathBuf>,
}

#[derive(Debug)]
pub(super) struct Child {
    process: tokio::process::Child,
    group: Pid,
    readers: Vec<task::Owned<()>>,
}

impl Child {
    /// Starts it. It dies with us, however we end.
    pub(super) fn start(spec: &Spec, speaker: &Speaker, console: &Arc<Console>) -> io::Result<Self> {
        let mut command = Command::from(embedded::parent::command(&spec.program));
        command.args(&spec.args);
        for name in &spec.env_removed {
            command.env_remove(name);
        }
        command.envs(spec.env.iter().map(|(name, value)| (name, value)));
        if let Some(directory) = &spec.directory {
            command.current_dir(directory);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut process = command.spawn()?;
        let group = process.id().and_then(|pid| i32::try_from(pid).ok()).map(Pid::from_raw);
        let group = group.ok_or_else(|| io::Error::other("it ended at once"))?;
        let out = process.stdout.take().map(|stream| reader(stream, Stream::Out, speaker, console));
        let err = process.stderr.take().map(|stream| reader(stream, Stream::Err, speaker, console));
        Ok(Self { process, group, readers: out.into_iter().chain(err).collect() })
    }

    /// Its process id, which is its group's too.
    pub(super) fn pid(&self) -> u32 {
        self.group.as_raw().unsigned_abs()
    }

    /// Signals it and what it started. That it is gone already is no error.
    pub(super) fn signal(&self, signal: Signal) {
        let _ = killpg(self.group, signal);
    }

    /// Waits for its end. May be dropped and called again.
    pub(super) async fn wait(&mut self) -> io::Result<End> {
        let status = self.process.wait().await?;
        Ok(match (status.code(), status.signal()) {
            (Some(code), _) => End::Exited(code),
            (None, signal) => End::Killed(signal.unwrap_or_default()),
        })
    }

    /// Ends what it left behind, and waits for its last words.
    pub(super) async fn bury(self) {
        self.signal(Signal::SIGKILL);
        let last_words = async {
            for reader in self.readers {
                reader.join().await;
            }
        };
        let _ = tokio::time::timeout(LAST_WORDS, last_words).await;
    }
}

fn reader<R>(stream: R, which: Stream, speaker: &Speaker, console: &Arc<Console>) -> task::Owned<()>
where
    R: AsyncRead + Unpin + Send + 'static,
{
    let (speaker, console) = (speaker.clone(), Arc::clone(console));
    task::spawn("output", async move {
        // A pipe that cannot be read has nothing more to say.
        let _ = lines::each(stream, |line| console.line(&speaker, which, line)).await;
    })
}
