//! The process group of a command: whatever the command starts is in it, and ends with the attempt.

use std::{future::Future, time::Duration};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use tokio::{process::Child, runtime::Handle, time::Instant};
use tokio_util::task::TaskTracker;

/// How long a process group has between SIGTERM and SIGKILL.
pub const GRACE: Duration = Duration::from_secs(2);

/// How long the end of a killed group is waited for: death is certain, but where the system's first process does not
/// wait for orphans, their group never quite goes away.
const KILL_WAIT: Duration = Duration::from_millis(500);

/// How often it is looked whether a group is gone. The number of a group that is gone may be given to another one, so
/// a group is signalled only shortly after it was last seen.
const LOOK: Duration = Duration::from_millis(20);

/// Ends the process groups of attempts that were dropped. Wait for it before the process exits, because a group that
/// ignores SIGTERM would survive an agent that is gone before the grace is over.
#[derive(Clone, Debug, Default)]
pub struct Reaper {
    tasks: TaskTracker,
}

impl Reaper {
    /// Returns once every group that was left is gone or killed; [`GRACE`] at most after the last attempt was dropped.
    pub async fn finish(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// A process group that must not outlive its attempt. Dropped, it gets SIGTERM at once, and SIGKILL after [`GRACE`] or
/// when the runtime ends, whichever comes first.
pub(super) struct Group {
    id: Option<Pid>,
    reaper: Reaper,
}

impl Group {
    pub(super) fn led_by(child: &Child, reaper: Reaper) -> Self {
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        Self { id: id.map(Pid::from_raw), reaper }
    }

    /// Ends the group and waits until it is gone, but no longer than [`GRACE`] and a moment. `meanwhile` goes on during that:
    /// it empties the pipes, so that the command can say its last words, and waits for the leader, which keeps the
    /// group in being until then.
    pub(super) async fn stop(mut self, meanwhile: impl Future) {
        let Some(id) = self.id.take() else { return };
        let remains = Remains { id };
        let ended = async {
            remains.signal(Signal::SIGTERM);
            if !remains.wait(GRACE).await {
                remains.signal(Signal::SIGKILL);
                remains.wait(KILL_WAIT).await;
            }
        };
        let meanwhile = async {
            meanwhile.await;
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = ended => {}
            () = meanwhile => {}
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let Some(id) = self.id.take() else { return };
        let remains = Remains { id };
        if !remains.signal(Signal::SIGTERM) {
            return;
        }
        // A drop cannot wait, so a task does. It ends by itself after the grace, and should the runtime end before, it
        // is dropped, and what remains is killed.
        if let Ok(runtime) = Handle::try_current() {
            self.reaper.tasks.spawn_on(async move { remains.wait(GRACE).await }, &runtime);
        }
    }
}

/// What is left of a group that was told to end. Dropped, it is killed.
struct Remains {
    id: Pid,
}

impl Remains {
    /// False if nothing is left.
    fn signal(&self, signal: impl Into<Option<Signal>>) -> bool {
        killpg(self.id, signal).is_ok()
    }

    /// Whether nothing is left before this long is over.
    async fn wait(&self, longest: Duration) -> bool {
        let started = Instant::now();
        while started.elapsed() < longest {
            if !self.signal(None) {
                return true;
            }
            tokio::time::sleep(LOOK).await;
        }
        false
    }
}

impl Drop for Remains {
    fn drop(&mut self) {
        self.signal(Signal::SIGKILL);
    }
}
