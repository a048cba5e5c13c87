//! My agents call a bank that allows five calls a second and is down now and then. While it is down nobody should call
//! it, no payment should fail, and quotes should come from somewhere else.
//!
//! These layers have a place of their own, whatever the order in which they are named: the rate limit is asked before
//! the breaker. Both put a request off without burning an attempt; `sortie later list` says what it waits for.
//!
//! ```text
//!   request -> rate limit (5/s) -> breaker `bank` -> pay       open: its requests wait, the whole fleet knows
//!                                  breaker `bank` -> quote     open: done by `guess` under the same id
//! ```
//!
//! ```sh
//! sortie up                                                        # in one terminal
//! cargo run -p sortie-worker --example 06-what-i-call-breaks       # in another
//! seq 1 20 | sortie map pay                                        # four seconds, none fails
//! sortie submit pay '"down"' --attempts 1 --wait                   # three of these open the breaker
//! sortie breaker list                                              # since when, until when, why
//! sortie submit quote '"up"' --wait                                # a guess
//! ```

use std::time::Duration;

use serde::Serialize;
use sortie_worker::{
    Context, Error, Failure, JsonSchema, Worker,
    layer::{CircuitBreaker, RateLimit},
};

#[derive(Serialize, JsonSchema)]
struct Answer {
    by: &'static str,
}

/// A bank that does as it is told.
async fn bank(mood: &serde_json::Value) -> Result<Answer, Failure> {
    match mood.as_str() {
        Some("down") => Err(Failure::new("bank_down", "the bank does not answer")),
        _ => Ok(Answer { by: "bank" }),
    }
}

async fn pay(_ctx: Context, mood: serde_json::Value) -> Result<Answer, Failure> {
    bank(&mood).await
}

async fn quote(_ctx: Context, mood: serde_json::Value) -> Result<Answer, Failure> {
    bank(&mood).await
}

async fn guess(_ctx: Context, _: serde_json::Value) -> Result<Answer, Failure> {
    Ok(Answer { by: "guess" })
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    // One name, so one breaker for both: they call the same bank.
    let breaker = CircuitBreaker::new().named("bank").failures(3).open_for(Duration::from_secs(5));
    Worker::builder("payments")
        .capability("pay", pay)
        .rate_limit(RateLimit::new(5, Duration::from_secs(1)))
        .circuit_breaker(breaker.clone())
        .capability("quote", quote)
        .circuit_breaker(breaker.fallback("guess"))
        .capability("guess", guess)
        .run()
        .await
}
