//! Work that blocks, beside the runtime: it says how far it is, and stops when nobody wants its answer any more.

use std::{ops::ControlFlow, pin::pin, time::Duration};

use protocol::control::Progress;
use tokio::{sync::watch, task::JoinError};
use tokio_util::sync::CancellationToken;
use worker::Context;

use crate::{Problem, Result};

/// The first and every further word on how far it is: what is done sooner says nothing.
const TOLD_EVERY: Duration = Duration::from_millis(500);

/// Where the work says how far it is.
#[derive(Debug)]
pub(crate) struct Far {
    seen: watch::Sender<Option<Step>>,
    cancelled: CancellationToken,
}

/// How much is done, and of how much.
type Step = (u64, Option<u64>);

impl Far {
    /// This much of so much is done. Breaks when the work is to stop.
    pub(crate) fn is(&self, done: u64, of: Option<u64>) -> ControlFlow<()> {
        self.seen.send_replace(Some((done, of)));
        if self.cancelled.is_cancelled() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

/// Runs `work` on a thread where it may block, until it ends; `words` says how far it is. Dropping this stops it, too.
pub(crate) async fn run<T: Send + 'static>(
    context: &Context,
    words: fn(u64, Option<u64>) -> Progress,
    work: impl FnOnce(&Far) -> Result<T> + Send + 'static,
) -> Result<T> {
    let cancelled = context.cancellation();
    let _stop = cancelled.clone().drop_guard();
    let (seen, mut steps) = watch::channel(None);
    let far = Far { seen, cancelled };
    let mut working = pin!(tokio::task::spawn_blocking(move || work(&far)));
    loop {
        tokio::select! {
            ended = &mut working => return ended.unwrap_or_else(|error| Err(unended(error))),
            () = tokio::time::sleep(TOLD_EVERY) => {}
        }
        let step = *steps.borrow_and_update();
        if let Some((done, of)) = step {
            context.say(words(done, of)).await;
        }
    }
}

/// A panic goes on in the handler, which has a catcher around it; else the runtime ends.
fn unended(error: JoinError) -> Problem {
    match error.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(_) => Problem::Stopped,
    }
}
