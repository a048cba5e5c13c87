//! What a person sees while a command waits for somebody else.

use std::{
    future::Future,
    io::{self, IsTerminal},
    pin::pin,
    time::Duration,
};

use indicatif::ProgressBar;

/// Whatever ends sooner needs no sign that it goes on.
const SHOWN_AFTER: Duration = Duration::from_secs(1);

/// How often the sign moves.
const MOVED_EVERY: Duration = Duration::from_millis(120);

/// Waits; once that has taken a second, and where standard error is a terminal, it says for what.
pub(crate) async fn waiting<F: Future>(what: String, future: F) -> F::Output {
    if !io::stderr().is_terminal() {
        return future.await;
    }
    let mut future = pin!(future);
    if let Ok(output) = tokio::time::timeout(SHOWN_AFTER, &mut future).await {
        return output;
    }
    let bar = ProgressBar::new_spinner().with_message(what);
    bar.enable_steady_tick(MOVED_EVERY);
    let output = future.await;
    bar.finish_and_clear();
    output
}
