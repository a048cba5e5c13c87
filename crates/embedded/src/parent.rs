//! Starting a child that dies with this process, however this process ends.
//!
//! Linux sends a chosen signal to a child when the *thread* that started it ends. So children are started by one thread
//! that lives as long as the process, and through util-linux's `setpriv`, which asks for the signal, and a shell that
//! looks whether it is too late for one; then it becomes the program. Where there is no such `setpriv`, a child outlives a
//! parent that is killed with SIGKILL, and nothing else differs.

use std::{
    ffi::OsStr,
    io,
    os::unix::process::CommandExt,
    process::{self, Child, Command},
    sync::{OnceLock, mpsc},
    thread,
    time::Duration,
};

use crate::bounded;

/// No signal comes to a child whose parent ended before it could ask for one: it looks whose child it is now, and ends too.
const UNLESS_ORPHANED: &str = r#"[ "$PPID" = "$0" ] || exit 143; exec "$@""#;

struct Order {
    command: Command,
    reply: mpsc::SyncSender<io::Result<Child>>,
}

/// A command for `program` that leads a process group of its own: Ctrl-C in a terminal reaches only this process, which
/// can then stop its children in the right order.
#[must_use]
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = if setpriv_works() {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--", "sh", "-c", UNLESS_ORPHANED]).arg(process::id().to_string());
        command.arg(program);
        command
    } else {
        Command::new(program)
    };
    command.process_group(0);
    command
}

/// Starts what [`command`] made, on the thread that outlives all others.
pub(crate) fn spawn(command: Command) -> io::Result<Child> {
    static PARENT: OnceLock<mpsc::Sender<Order>> = OnceLock::new();
    let parent = match PARENT.get() {
        Some(parent) => parent,
        None => {
            let started = start()?;
            // Of two threads started at the same moment one is kept, and the other ends before it has any child.
            PARENT.get_or_init(|| started)
        }
    };
    let (reply, child) = mpsc::sync_channel(1);
    let gone = |()| io::Error::other("the thread that starts children has ended");
    parent.send(Order { command, reply }).map_err(|_| gone(()))?;
    child.recv().map_err(|_| gone(()))?
}

fn start() -> io::Result<mpsc::Sender<Order>> {
    // Unbounded, yet each sender waits for its reply, so it holds no more than there are callers.
    let (sender, orders) = mpsc::channel::<Order>();
    thread::Builder::new().name("nats-server-parent".to_owned()).spawn(move || {
        for mut order in orders {
            let child = order.command.spawn();
            if let Err(mpsc::SendError(Ok(mut unclaimed))) = order.reply.send(child) {
                let _ = unclaimed.kill();
                let _ = unclaimed.wait();
            }
        }
    })?;
    Ok(sender)
}

fn setpriv_works() -> bool {
    static WORKS: OnceLock<bool> = OnceLock::new();
    *WORKS.get_or_init(|| {
        let mut probe = Command::new("setpriv");
        probe.args(["--pdeathsig", "KILL", "--", "true"]);
        cfg!(target_os = "linux")
            && bounded::run(&mut probe, Duration::from_secs(5)).is_ok_and(|ended| ended.status.success())
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn a_child_whose_parent_has_ended_already_does_not_begin() {
        let begin = |parent: String| {
            Command::new("sh").args(["-c", UNLESS_ORPHANED, &parent, "sh", "-c", "exit 7"]).status().unwrap().code()
        };
        assert_eq!(begin(process::id().to_string()), Some(7));
        assert_eq!(begin("1".to_owned()), Some(143));
    }

    #[test]
    fn a_child_outlives_the_thread_that_asked_for_it() {
        let mut sleeping = command("sleep");
        sleeping.arg("60");
        let mut child = thread::spawn(move || spawn(sleeping)).join().unwrap().unwrap();
        // The signal would come as the asking thread ends, which it has by now.
        let ended = bounded::until(Duration::from_millis(100), || child.try_wait()).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(ended, None);
    }
}
