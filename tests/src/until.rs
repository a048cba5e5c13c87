//! Waiting for a fact, with a bound.

use std::{
    future::Future,
    time::{Duration, Instant},
};

/// Asks until the answer is some, at most this long.
///
/// # Panics
/// When the time is over: the fact did not come.
#[allow(clippy::panic, reason = "a test fails by panicking")]
pub async fn until<T, F, Fut>(what: &str, within: Duration, mut ask: F) -> T
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Option<T>>,
{
    let end = Instant::now() + within;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < end, "{what}: not within {within:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
