//! Waiting for a fact, with a bound.

use std::{
    future::Future,
    time::{Duration, Instant},
};

/// Asks until the answer is some, at most this long; none when the time is over.
pub async fn until_some<T, F, Fut>(within: Duration, mut ask: F) -> Option<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Option<T>>,
{
    let end = Instant::now() + within;
    loop {
        let answer = ask().await;
        if answer.is_some() || Instant::now() >= end {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Asks until the answer is some, at most this long.
///
/// # Panics
/// When the time is over: the fact did not come.
#[allow(clippy::panic, reason = "a test fails by panicking")]
pub async fn until<T, F, Fut>(what: &str, within: Duration, ask: F) -> T
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Option<T>>,
{
    until_some(within, ask).await.unwrap_or_else(|| panic!("{what}: not within {within:?}"))
}
