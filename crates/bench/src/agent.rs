//! The agent that workloads ask: it answers with what it was given, after a nap if one is wished.

use std::time::Duration;

use process::{ExitCode, Problem, Process, Program, settings::AgentArgs};
use protocol::Failure;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use worker::{Context, Worker};

/// The capability; with more than one they are `bench`, `bench-2`, `bench-3` and so on.
pub const CAPABILITY: &str = "bench";

/// What the process says about itself.
pub const PROGRAM: Program = Program::service("agent-bench", env!("CARGO_PKG_VERSION"));

/// What `--help` shows beneath the flags.
pub const EXAMPLES: &str = "\
Examples:
  sortie process agent-bench --slots 256          for `sortie bench requests --fleet` on another machine
  sortie process agent-bench --capabilities 500   serves bench, bench-2, ... bench-500";

/// The flags of this agent.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Attempts at once
    #[arg(long, value_name = "N", default_value_t = 256)]
    pub slots: usize,
    /// How many capabilities it serves
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub capabilities: usize,
    /// Where its settings are.
    #[command(flatten)]
    pub settings: AgentArgs,
}

/// What is asked and answered.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[schemars(crate = "schemars")]
pub struct Load {
    /// Weight.
    pub text: String,
    /// How long the handler sleeps, in milliseconds.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub nap_ms: u64,
}

impl Load {
    /// One whose JSON has so many bytes, as far as that can be.
    #[must_use]
    pub fn of_bytes(bytes: usize, nap_ms: u64) -> Self {
        let empty = serde_json::to_vec(&Self { text: String::new(), nap_ms }).map_or(0, |body| body.len());
        Self { text: "x".repeat(bytes.saturating_sub(empty)), nap_ms }
    }
}

/// The name of the capability of this number, counted from 1.
#[must_use]
pub fn capability(number: usize) -> String {
    if number <= 1 { CAPABILITY.to_owned() } else { format!("{CAPABILITY}-{number}") }
}

/// Serves until the process is asked to stop.
///
/// # Errors
/// What [`worker::Builder::run`] says.
pub async fn serve(args: Args, process: Process) -> Result<ExitCode, Problem> {
    let mut builder = Worker::builder(CAPABILITY)
        .version(PROGRAM.version)
        .in_process(&process)
        .settings_from(args.settings)
        .setting("slots", args.slots);
    for number in 1..=args.capabilities.max(1) {
        builder = builder.capability(capability(number), answer);
    }
    builder.run().await?;
    Ok(ExitCode::Done)
}

async fn answer(_: Context, load: Load) -> Result<Load, Failure> {
    if load.nap_ms > 0 {
        tokio::time::sleep(Duration::from_millis(load.nap_ms)).await;
    }
    Ok(load)
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_weighs_what_it_should() {
        for bytes in [64, 256, 4096] {
            let body = serde_json::to_vec(&Load::of_bytes(bytes, 0)).unwrap_or_default();
            assert_eq!(body.len(), bytes);
        }
    }
}
