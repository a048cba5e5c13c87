use nix::{
    sys::signal::{self, Signal},
    unistd::Pid,
};

use super::Server;
use crate::Error;

/// A process stops within milliseconds, unless the disk keeps one of its threads.
#[cfg(target_os = "linux")]
const PAUSE_WITHIN: std::time::Duration = std::time::Duration::from_secs(5);

impl Server {
    /// Freezes it (SIGSTOP): connections stay open and nothing is answered, as when a machine hangs. On Linux all of it
    /// stands still when this returns; elsewhere a moment later.
    ///
    /// # Errors
    /// [`Error::NotRunning`], or [`Error::Process`] if it cannot be signalled.
    pub fn pause(&mut self) -> Result<(), Error> {
        self.signal(Signal::SIGSTOP)?;
        #[cfg(target_os = "linux")]
        {
            use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
            let pid = self.process_id()?;
            // Its threads stop one by one, and its parent is told when the last of them has.
            let stopped = crate::bounded::until(PAUSE_WITHIN, || {
                let status = waitid(Id::Pid(pid), WaitPidFlag::WSTOPPED | WaitPidFlag::WNOHANG)?;
                Ok(matches!(status, WaitStatus::Stopped(..)).then_some(()))
            });
            if stopped.map_err(Error::process("wait for nats-server"))?.is_none() {
                return Err(Error::Process {
                    doing: "pause nats-server".to_owned(),
                    source: std::io::ErrorKind::TimedOut.into(),
                });
            }
        }
        Ok(())
    }

    /// Lets it go on after [`pause`](Self::pause).
    ///
    /// # Errors
    /// Those of [`pause`](Self::pause).
    pub fn resume(&mut self) -> Result<(), Error> {
        self.signal(Signal::SIGCONT)
    }

    /// Puts it into lame duck mode: it hands leadership on, accepts nobody new, asks its clients to leave over the time
    /// its `lame_duck_duration` says (two minutes unless [`Config::extra`](crate::Config::extra) sets it, thirty seconds at least), and ends.
    ///
    /// # Errors
    /// Those of [`pause`](Self::pause).
    pub fn lame_duck(&mut self) -> Result<(), Error> {
        self.signal(Signal::SIGUSR2)
    }

    pub(super) fn signal(&mut self, signal: Signal) -> Result<(), Error> {
        if !self.is_running() {
            return Err(Error::NotRunning { name: self.name.clone() });
        }
        signal::kill(self.process_id()?, signal)
            .map_err(|error| Error::process(format!("send {signal} to nats-server"))(error.into()))
    }

    /// Until it is waited for, the process keeps its id, so that no stranger is signalled.
    fn process_id(&mut self) -> Result<Pid, Error> {
        let name = self.name.clone();
        let id = i32::try_from(self.running()?.id()).map_err(|_| Error::NotRunning { name })?;
        Ok(Pid::from_raw(id))
    }
}
