//! A worker process that does what its input says, for tests that kill it, stop it, and read its exit code.
//!
//! `test-worker URL SLOTS [REGISTRY_TTL_SECONDS]` serves `work`: `{"do":"echo"|"sleep"|"die"|"block"|"fail"|"retry","ms":N}`.
//! `block` holds its thread for a minute, `fail` gives up, `retry` fails until its third attempt.

use std::{process::ExitCode, time::Duration};

use serde_json::Value;
use sortie_tests::Latch;
use worker::{Backoff, CapabilityConfig, Config, Context, Failure, Kind, RetryPolicy, Worker};

async fn work(ctx: Context, input: Value) -> Result<Value, Failure> {
    match input["do"].as_str() {
        Some("sleep") => tokio::time::sleep(Duration::from_millis(input["ms"].as_u64().unwrap_or(0))).await,
        Some("die") => {
            tokio::time::sleep(Duration::from_millis(input["ms"].as_u64().unwrap_or(0))).await;
            nix::sys::signal::kill(nix::unistd::getpid(), nix::sys::signal::Signal::SIGKILL)?;
        }
        Some("block") => Latch::new().hold_thread(),
        Some("fail") => return Err(Failure::new("told", "as it was told").give_up()),
        Some("retry") if ctx.attempt() < 3 => return Err(Failure::new("told", "not yet")),
        _ => {}
    }
    Ok(input)
}

#[tokio::main(worker_threads = 2)]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let number = |index: usize| arguments.get(index).and_then(|text| text.parse::<u64>().ok());
    let registry_ttl = Duration::from_secs(number(3).unwrap_or(30));
    let config = Config {
        broker: broker::Options {
            servers: arguments[1].split(',').map(str::to_owned).collect(),
            ..broker::Options::default()
        },
        slots: usize::try_from(number(2).unwrap_or(1)).unwrap_or(1),
        stop_grace: Duration::from_millis(500),
        registry_ttl,
        registry_interval: registry_ttl / 3,
        ..Config::default()
    };
    let capability = CapabilityConfig::default()
        .timeout(Duration::from_secs(30))
        .retry(RetryPolicy { attempts_max: 3, backoff: Backoff::fixed(Duration::from_millis(300)) });
    match Worker::builder("test-worker").config(config).capability_with("work", capability, work).run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("test-worker: {error}");
            ExitCode::from(if matches!(error.kind(), Kind::Stuck | Kind::Again) { 75 } else { 69 })
        }
    }
}
