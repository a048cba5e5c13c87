//! Signals: the first asks for an orderly end, the second ends at once.
//!
//! SIGTERM and SIGINT count. SIGHUP (the terminal is gone) asks for an orderly end too, but never is the
//! second signal, because shell and kernel both send it; under `nohup` it stays ignored.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::exit::{self, ExitCode};

/// The wish to end, handed down to whatever has to end in order. Clones are the same wish.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    orderly: CancellationToken,
    hurried: CancellationToken,
    again: Arc<AtomicBool>,
}

impl Shutdown {
    /// A wish that nobody has expressed yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks for an orderly end, as the first signal does.
    pub fn begin(&self) {
        self.orderly.cancel();
    }

    /// Asks for an orderly end, after which whoever started the process is to start it again: [`run`](crate::run())
    /// then leaves with 75 in place of 0.
    pub fn begin_again(&self) {
        if !self.has_begun() {
            self.again.store(true, Ordering::Release);
        }
        self.begin();
    }

    /// Whether the process is to be started again after its orderly end.
    pub fn is_again(&self) -> bool {
        self.again.load(Ordering::Acquire)
    }

    /// Whether it was asked for.
    pub fn has_begun(&self) -> bool {
        self.orderly.is_cancelled()
    }

    /// Waits until it is asked for. Safe to drop and to call again.
    pub async fn begun(&self) {
        self.orderly.cancelled().await;
    }

    /// Waits until it is to end at once, which only [`OnSignal::Hurry`] asks for. Safe to drop and to call again.
    pub async fn hurried(&self) {
        self.hurried.cancelled().await;
    }

    /// The same as a token, for what takes one. Cancelling it asks for an orderly end.
    pub fn token(&self) -> CancellationToken {
        self.orderly.clone()
    }
}

/// What the first signal does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnSignal {
    /// Asks for an orderly end; the second one ends at once.
    Drain,
    /// Asks for an orderly end; the second one hurries it ([`Shutdown::hurried`]), the third one ends at once. For a
    /// process that would leave others behind.
    Hurry,
    /// Ends at once.
    Leave,
}

/// Signals that this process now receives.
#[derive(Debug)]
pub struct Listener {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Option<Signal>,
}

impl Listener {
    /// Takes the signals. Needs a runtime.
    ///
    /// # Errors
    /// The operating system refuses.
    pub fn new() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: match hang_up_is_ignored() {
                true => None,
                false => Some(signal(SignalKind::hangup())?),
            },
        })
    }

    /// Turns signals into the wish to end, and then into the end.
    pub async fn listen(mut self, shutdown: Shutdown, on_signal: OnSignal) {
        let mut is_first = true;
        loop {
            let (name, code) = self.next().await;
            if on_signal == OnSignal::Leave {
                exit::leave(code);
            }
            // The wish may have come another way before: the first signal then says the same once more, and a supervisor
            // that sends it must not cut the orderly end short.
            if std::mem::take(&mut is_first) {
                tracing::info!(signal = name, "stopping; a second signal stops at once");
                shutdown.begin();
            } else if name != HANG_UP {
                tracing::warn!(signal = name, "stopped at once");
                if on_signal == OnSignal::Drain || shutdown.hurried.is_cancelled() {
                    exit::leave(code);
                }
                shutdown.hurried.cancel();
            }
        }
    }

    async fn next(&mut self) -> (&'static str, ExitCode) {
        let hang_up = async {
            match &mut self.hang_up {
                Some(signal) => signal.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => ("SIGINT", ExitCode::Interrupted),
            _ = self.terminate.recv() => ("SIGTERM", ExitCode::Terminated),
            _ = hang_up => (HANG_UP, ExitCode::Terminated),
        }
    }
}

const HANG_UP: &str = "SIGHUP";

/// Whether whoever started us ignores SIGHUP for us, as `nohup` does. Where that cannot be read, we leave
/// the signal alone, which keeps it as it was.
fn hang_up_is_ignored() -> bool {
    match std::fs::read_to_string("/proc/self/status") {
        Ok(status) => ignores_hang_up(&status),
        Err(_) => true,
    }
}

fn ignores_hang_up(status: &str) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_none_or(|mask| mask & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mask_of_ignored_signals_begins_with_hang_up() {
        assert!(ignores_hang_up("Name:\tx\nSigIgn:\t0000000000001001\n"));
        assert!(!ignores_hang_up("SigIgn:\t0000000000001000\nSigCgt:\t0000000000000001\n"));
        assert!(ignores_hang_up(""));
    }

    #[tokio::test]
    async fn every_clone_hears_the_wish() {
        let shutdown = Shutdown::new();
        let other = shutdown.clone();
        assert!(!other.has_begun());
        shutdown.begin();
        other.begun().await;
        assert!(other.token().is_cancelled());
    }
}
