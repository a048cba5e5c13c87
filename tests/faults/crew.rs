//! The processes of a fleet, each started again whenever it ends, as whoever runs them would.

use std::{
    fs::File,
    io::Write,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use broker::task::{self, Owned};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use sortie_tests::{
    PATIENCE, binaries,
    victim::{Orders, stands_still},
};
use tokio::{
    process::{Child, Command},
    sync::{mpsc, oneshot},
};

/// Before somebody who ended by themselves is started again.
const STARTED_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// Where agents note each attempt that they begin.
pub(crate) const DIARY: &str = "diary";

/// Where agents that run commands read what they are to do.
const COMMANDS_FILE: &str = "commands.yaml";

/// What they are to do.
const COMMANDS: &str = "kind: commands\nversion: 1.0.0\ncapabilities:\n  copy:\n    command: [cat]\n";

/// What a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// It serves `work`, as its requests say.
    Agent,
    /// It serves `copy`, with a command: agent-exec.
    Commands,
    Coordinator,
}

/// A process that is to be there.
#[derive(Clone, Debug)]
pub(crate) struct Post {
    pub(crate) role: Role,
    /// Where it finds its broker.
    pub(crate) url: String,
    /// Words before its own that put it into another place, such as a network namespace.
    pub(crate) through: Vec<String>,
    /// Variables of its own.
    pub(crate) environment: Vec<(String, String)>,
}

/// All of them.
#[derive(Debug)]
pub(crate) struct Crew {
    members: Vec<Member>,
}

/// One that is kept alive.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) post: Post,
    orders: mpsc::Sender<Order>,
    log: PathBuf,
    keeper: Owned<Result<()>>,
}

enum Order {
    /// Or none, to be told its id.
    Signal(Option<Signal>, oneshot::Sender<Result<u32>>),
    /// It is not started again.
    End(oneshot::Sender<Result<ExitStatus>>),
}

/// Three agents, two that run commands, and two coordinators.
pub(crate) fn usual(url: &str) -> Vec<Post> {
    use Role::{Agent, Commands, Coordinator};
    [Agent, Agent, Agent, Commands, Commands, Coordinator, Coordinator].map(|role| Post::new(role, url)).into()
}

impl Post {
    pub(crate) fn new(role: Role, url: &str) -> Self {
        Self { role, url: url.to_owned(), through: Vec::new(), environment: Vec::new() }
    }

    fn command(&self, folder: &Path) -> Result<Command> {
        let program = match self.role {
            Role::Agent => PathBuf::from(env!("CARGO_BIN_EXE_victim")),
            Role::Commands => binaries::path("agent-exec"),
            Role::Coordinator => binaries::path("coordinator"),
        };
        // It dies with this process, however that ends.
        let mut command = match self.through.split_first() {
            None => embedded::parent::command(program),
            Some((first, more)) => {
                let mut command = embedded::parent::command(first);
                command.args(more).arg(program);
                command
            }
        };
        match self.role {
            Role::Agent => {
                let orders = Orders { slots: 12, ..Orders::new(self.url.clone(), &folder.join(DIARY)) };
                command.arg(serde_json::to_string(&orders)?);
            }
            Role::Commands => {
                command.arg(folder.join(COMMANDS_FILE)).args(["--slots", "4"]);
            }
            Role::Coordinator => {}
        }
        command.env("SORTIE_SERVER", &self.url).env("SORTIE_LOG", "info");
        Ok(command.into())
    }
}

impl Crew {
    /// Starts them all; their logs go into the folder.
    ///
    /// # Errors
    /// When one cannot be started.
    pub(crate) fn start(posts: Vec<Post>, folder: &Path) -> Result<Self> {
        // Once: whoever is started again may read it at any moment.
        std::fs::write(folder.join(COMMANDS_FILE), COMMANDS)?;
        let members = posts.into_iter().enumerate().map(|(number, post)| {
            let log = folder.join(format!("{:?}-{number}.log", post.role).to_lowercase());
            Member::start(post, folder.to_owned(), log)
        });
        Ok(Self { members: members.collect::<Result<_>>()? })
    }

    /// Those of a role, by number.
    pub(crate) fn of(&self, role: Role) -> Vec<usize> {
        (0..self.members.len()).filter(|number| self.members[*number].post.role == role).collect()
    }

    pub(crate) fn member(&self, number: usize) -> &Member {
        &self.members[number]
    }

    /// Lets each end in good order, and says what their logs tell of faults.
    ///
    /// # Errors
    /// When one ends otherwise.
    pub(crate) async fn end(self) -> Result<()> {
        for member in self.members {
            let log = member.log.clone();
            member.end().await.with_context(|| format!("its log is {}", log.display()))?;
            let panicked =
                std::fs::read_to_string(&log)?.lines().find(|line| line.contains("panicked at")).map(str::to_owned);
            ensure!(panicked.is_none(), "{}: {}", log.display(), panicked.unwrap_or_default());
        }
        Ok(())
    }
}

impl Member {
    fn start(post: Post, folder: PathBuf, log: PathBuf) -> Result<Self> {
        // One order at a time: each is waited for.
        let (orders, ordered) = mpsc::channel(1);
        let keeper = Keeper { post: post.clone(), folder, log: log.clone() };
        let child = keeper.spawn()?;
        let keeper = task::spawn("keeper", keeper.keep(child, ordered));
        Ok(Self { post, orders, log, keeper })
    }

    /// Sends the process of the moment a signal; one that was sent SIGSTOP stands still when this returns.
    ///
    /// # Errors
    /// When nobody keeps it any more.
    pub(crate) async fn signal(&self, signal: Signal) -> Result<()> {
        let pid = self.send(Some(signal)).await?;
        if signal == Signal::SIGSTOP { stands_still(pid).await } else { Ok(()) }
    }

    /// The id of the process of the moment.
    ///
    /// # Errors
    /// When nobody keeps it any more.
    pub(crate) async fn pid(&self) -> Result<u32> {
        self.send(None).await
    }

    async fn send(&self, signal: Option<Signal>) -> Result<u32> {
        let (answer, answered) = oneshot::channel();
        self.orders.send(Order::Signal(signal, answer)).await.ok().context("it is kept no more")?;
        answered.await.context("it is kept no more")?
    }

    async fn end(self) -> Result<()> {
        let (answer, answered) = oneshot::channel();
        if self.orders.send(Order::End(answer)).await.is_err() {
            // What its keeper says of it says more.
            return self.keeper.join().await.context("its keeper panicked")?;
        }
        let status = answered.await.context("it is kept no more")??;
        ensure!(status.code() == Some(0), "{:?} ended with {status} when it was to drain", self.post.role);
        self.keeper.join().await.context("its keeper panicked")?
    }
}

/// What starts a process again.
#[derive(Debug)]
struct Keeper {
    post: Post,
    folder: PathBuf,
    log: PathBuf,
}

impl Keeper {
    fn spawn(&self) -> Result<Child> {
        let output = File::options().create(true).append(true).open(&self.log)?;
        let mut command = self.post.command(&self.folder)?;
        command.envs(self.post.environment.iter().cloned());
        // An agent that reads its input to the end ends itself there, so that stays open.
        command.stdin(Stdio::piped()).stdout(output.try_clone()?).stderr(output).kill_on_drop(true);
        command.spawn().with_context(|| format!("{:?}", self.post.role))
    }

    /// One that was killed was killed by us, and one that says itself that it is to be started again, or that there is no
    /// broker, does as it should.
    fn note(&self, ended: ExitStatus) -> Result<()> {
        writeln!(File::options().append(true).open(&self.log)?, "--- ended with {ended}")?;
        let again: &[i32] = if self.post.role == Role::Agent { &[1] } else { &[69, 75] };
        let is_usual =
            ended.signal() == Some(Signal::SIGKILL as i32) || ended.code().is_some_and(|code| again.contains(&code));
        ensure!(is_usual, "{:?} ended by itself with {ended}", self.post.role);
        Ok(())
    }

    async fn keep(self, mut child: Child, mut orders: mpsc::Receiver<Order>) -> Result<()> {
        loop {
            // Waiting for a child would close it.
            let _input = child.stdin.take();
            let ended = loop {
                tokio::select! {
                    status = child.wait() => break status?,
                    order = orders.recv() => match order {
                        Some(Order::Signal(signal, answer)) => {
                            // It has not been waited for, so the number is still its own.
                            let _ = answer.send(send(&child, signal));
                        }
                        Some(Order::End(answer)) => {
                            let _ = answer.send(drained(child).await);
                            return Ok(());
                        }
                        None => return Ok(()),
                    },
                }
            };
            self.note(ended)?;
            tokio::time::sleep(STARTED_AGAIN_AFTER).await;
            child = self.spawn()?;
        }
    }
}

fn send(child: &Child, signal: Option<Signal>) -> Result<u32> {
    let pid = child.id().context("it has ended")?;
    kill(Pid::from_raw(i32::try_from(pid)?), signal)?;
    Ok(pid)
}

async fn drained(mut child: Child) -> Result<ExitStatus> {
    // One whose input has been closed, or that was frozen, hears it all the same.
    send(&child, Some(Signal::SIGTERM))?;
    send(&child, Some(Signal::SIGCONT))?;
    Ok(tokio::time::timeout(2 * PATIENCE, child.wait()).await.context("it does not end")??)
}
