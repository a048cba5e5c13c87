//! The watchdog: a thread of its own that notices a worker which lives but no longer works, and ends it so that whoever
//! started it starts it again.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

use crate::machinery::Machinery;

/// How often it looks.
const LOOK: Duration = Duration::from_secs(1);

/// How long the machinery may stand still before it counts as dead. A frozen process comes back and first finds itself
/// late, so this is counted in looks, not by the clock.
const STILL_LOOKS_MAX: u32 = 30;

/// Exit code: every slot is held by a handler that ignores its end.
const EXIT_SLOTS_HELD: i32 = 70;

/// Exit code: start me again.
const EXIT_START_AGAIN: i32 = 75;

/// How long the last line may take to be shipped.
const LOGGED_WITHIN: Duration = Duration::from_secs(1);

/// Why the process has to be started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Every slot is held by a handler that ignores its end.
    SlotsHeld,
    /// The machinery no longer turns.
    Still,
}

/// Looks until `ended` is closed or there is a verdict.
pub(crate) fn watch(machinery: &Weak<Machinery>, beats: &Arc<AtomicU64>, ended: &Receiver<()>) -> Option<Verdict> {
    let mut last = (beats.load(Ordering::Relaxed), 0_u32);
    let mut look = Instant::now();
    loop {
        match ended.recv_timeout(LOOK) {
            Err(RecvTimeoutError::Timeout) => {}
            _ => return None,
        }
        let machinery = machinery.upgrade()?;
        if machinery.slots.all_stuck() {
            return Some(Verdict::SlotsHeld);
        }
        let now = beats.load(Ordering::Relaxed);
        // A look that itself came late says that the whole process stood still.
        let is_late = look.elapsed() > 3 * LOOK;
        look = Instant::now();
        last = if now != last.0 || is_late { (now, 0) } else { (now, last.1 + 1) };
        if last.1 >= STILL_LOOKS_MAX {
            return Some(Verdict::Still);
        }
    }
}

impl Verdict {
    /// Ends the process: neither verdict leaves anything that could drain.
    #[allow(clippy::disallowed_methods, reason = "a worker whose threads are all held cannot return to its main")]
    pub(crate) fn exit(self, logs: &process::Logs) -> ! {
        let (what, code) = match self {
            Self::SlotsHeld => ("every slot is held by a handler that ignores its end", EXIT_SLOTS_HELD),
            Self::Still => ("the worker no longer works", EXIT_START_AGAIN),
        };
        tracing::error!("{what}: exiting to be started again");
        // Whoever asks why it went finds it in the fleet's log.
        logs.settle(LOGGED_WITHIN);
        std::process::exit(code)
    }

    /// The same as one sentence.
    pub(crate) fn sentence(self) -> &'static str {
        match self {
            Self::SlotsHeld => "every slot is held by a handler that ignores its end: start the process again",
            Self::Still => "the worker no longer works: start the process again",
        }
    }
}
