//! Keeps one child running until it is told otherwise.

use std::{sync::Arc, time::Duration};

use broker::task;
use nix::sys::signal::Signal;
use protocol::duration;
use tokio::{sync::watch, time::Instant};

use super::{
    child::{Child, Spec},
    console::{Console, Speaker},
    restart::{self, End, Next, Streak},
};

/// How a child is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    /// It is about to be started, for the first time or again.
    Waiting,
    /// It runs, with this process id.
    Running(u32),
    /// It ended, by itself or because it was told to.
    Ended,
    /// It is not started again, for this reason.
    GivenUp(String),
}

/// What is wished of a child. A wish only ever becomes stronger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Wish {
    Run,
    /// End in good order, within this time.
    End(Duration),
    Die,
}

/// The owner of one child. Dropped, it kills the child.
#[derive(Debug)]
pub(crate) struct Keeper {
    name: String,
    wish: watch::Sender<Wish>,
    condition: watch::Receiver<Condition>,
    _task: task::Owned<()>,
}

impl Keeper {
    /// Starts a child, and again whenever it crashes.
    pub(crate) fn start(spec: Spec, console: &Arc<Console>) -> Self {
        let (wish, wished) = watch::channel(Wish::Run);
        let (told, condition) = watch::channel(Condition::Waiting);
        let name = spec.name.clone();
        let speaker = console.speaker(&name);
        let keeping = Keeping { spec, speaker, console: Arc::clone(console), wished, told };
        Self { name, wish, condition, _task: task::spawn("keeper", keeping.keep()) }
    }

    /// What it is called.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Whether it has ended or was given up.
    pub(crate) fn is_over(&self) -> bool {
        is_over(&self.condition.borrow())
    }

    /// Its process id, while it runs.
    pub(crate) fn pid(&self) -> Option<u32> {
        match *self.condition.borrow() {
            Condition::Running(pid) => Some(pid),
            _ => None,
        }
    }

    /// Tells it to end in good order, and to die if that takes longer. Returns at once.
    pub(crate) fn end(&self, grace: Duration) {
        self.wish(Wish::End(grace));
    }

    /// Kills it and whatever it started, with SIGKILL, and does not start it again. Returns at once.
    pub(crate) fn kill(&self) {
        self.wish(Wish::Die);
    }

    /// Waits until it has ended and will not be started again.
    pub(crate) async fn ended(&self) {
        let mut condition = self.condition.clone();
        // An error means that nobody keeps it any more.
        let _ = condition.wait_for(is_over).await;
    }

    /// Waits until it is given up, and says why. May be dropped and called again.
    pub(crate) async fn given_up(&self) -> String {
        let mut condition = self.condition.clone();
        match condition.wait_for(|condition| matches!(condition, Condition::GivenUp(_))).await.as_deref() {
            Ok(Condition::GivenUp(why)) => why.clone(),
            _ => std::future::pending().await,
        }
    }

    fn wish(&self, wish: Wish) {
        self.wish.send_if_modified(|now| {
            let stronger = wish > *now && !matches!((&now, &wish), (Wish::End(_), Wish::End(_)));
            if stronger {
                *now = wish;
            }
            stronger
        });
    }
}

fn is_over(condition: &Condition) -> bool {
    matches!(condition, Condition::Ended | Condition::GivenUp(_))
}

struct Keeping {
    spec: Spec,
    speaker: Speaker,
    console: Arc<Console>,
    wished: watch::Receiver<Wish>,
    told: watch::Sender<Condition>,
}

impl Keeping {
    async fn keep(mut self) {
        let mut streak = Streak::default();
        let condition = loop {
            let began = Instant::now();
            let end = match Child::start(&self.spec, &self.speaker, &self.console) {
                Ok(child) => self.run(child).await,
                Err(error) => break self.give_up(&format!("cannot be started: {error}")),
            };
            if *self.wished.borrow() != Wish::Run {
                break Condition::Ended;
            }
            let (now, next) = restart::next(streak, end, began.elapsed());
            streak = now;
            match next {
                Next::Ended => {
                    self.console.say(&format!("{} has ended by itself", self.spec.name));
                    break Condition::Ended;
                }
                Next::GivenUp(why) => break self.give_up(&format!("{end} and is given up: {why}")),
                Next::Again(wait) => {
                    let name = &self.spec.name;
                    self.console.say(&format!("{name} {end}; starting it again in {}", duration::format(wait)));
                    if !self.wait(wait).await {
                        break Condition::Ended;
                    }
                }
            }
        };
        self.told.send_replace(condition);
    }

    /// Lets a child run to its end, hurried on by what is wished.
    async fn run(&mut self, mut child: Child) -> End {
        self.told.send_replace(Condition::Running(child.pid()));
        let mut heeded = Wish::Run;
        let mut deadline = None;
        let end = loop {
            let wish = *self.wished.borrow_and_update();
            match wish {
                Wish::End(grace) if heeded == Wish::Run => {
                    child.signal(Signal::SIGTERM);
                    // One that is stopped hears nothing until it goes on.
                    child.signal(Signal::SIGCONT);
                    deadline = Some(Instant::now() + grace);
                }
                Wish::Die => child.signal(Signal::SIGKILL),
                _ => {}
            }
            heeded = wish;
            tokio::select! {
                end = child.wait() => break end.unwrap_or(End::Exited(-1)),
                changed = self.wished.changed() => {
                    if changed.is_err() {
                        child.signal(Signal::SIGKILL);
                    }
                }
                () = passed(deadline) => {
                    self.console.say(&format!("{} did not end in time and is killed", self.spec.name));
                    child.signal(Signal::SIGKILL);
                    deadline = None;
                }
            }
        };
        self.told.send_replace(Condition::Waiting);
        child.bury().await;
        end
    }

    /// Waits before another start; false if another wish came.
    async fn wait(&mut self, wait: Duration) -> bool {
        tokio::time::timeout(wait, self.wished.wait_for(|wish| *wish != Wish::Run)).await.is_err()
    }

    fn give_up(&self, why: &str) -> Condition {
        self.console.say(&format!("{} {why}", self.spec.name));
        Condition::GivenUp(why.to_owned())
    }
}

async fn passed(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
