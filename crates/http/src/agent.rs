//! The agent as a process: what its own binary and `sortie process agent-http` run.

use std::path::PathBuf;

use process::{
    ExitCode, Problem, Process, Program,
    settings::{AgentArgs, Secret},
};
use serde_json::Value;
use worker::{CapabilityConfig, Context, Worker};

use crate::{
    Caller, Definition,
    call::Identity,
    definition::{CallDefinition, Retry},
};

/// What the binary says about itself.
pub const PROGRAM: Program = Program::service("agent-http", env!("CARGO_PKG_VERSION"));

/// What `--help` shows beneath the flags: how to call it, and the smallest useful file.
pub const EXAMPLES: &str = "\
Examples:
  agent-http shop.yaml                       serve what the file declares
  agent-http shop.yaml --slots 4             four calls at once

The file:
  kind: shop
  version: 1.0.0
  allow_private: [shop.internal]             # else only public addresses are called
  headers: {Authorization: Bearer secret://env/SHOP_TOKEN}
  capabilities:
    get-order:
      url: https://shop.internal/orders/{order}        # fields of the input, encoded
      query: {lang: \"{lang?}\"}                         # left out where it is missing
      timeout: 10s
    place-order:
      method: POST
      url: https://shop.internal/orders
      body: {article: \"{article}\", count: \"{count}\"}   # or input, or none
      retry: {attempts: 5}                             # 429 and 5xx; other 4xx fail at once
      layers:                                          # and rate_limit, cache, retry_rules
        circuit_breaker: {name: shop, failures: 5, open_for: 30s}";

/// The words of this agent on a command line.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// File that says which HTTP call answers which capability, YAML or JSON
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Calls at once [default: 10]
    #[arg(long, value_name = "N")]
    pub slots: Option<usize>,
    /// Where its settings are.
    #[command(flatten)]
    pub settings: AgentArgs,
}

/// Serves what the file declares until the process is asked to stop and all that runs has ended.
///
/// # Errors
/// Every fault of the file, or every secret that is not there, both with exit code 64; and what
/// [`worker::Builder::run`] says.
pub async fn serve(args: Args, process: Process) -> Result<ExitCode, Problem> {
    let misconfigured = |message: String| Problem::new(ExitCode::Configuration, message);
    let definition = Definition::read(&args.file).map_err(|error| misconfigured(error.to_string()))?;
    let callers = Caller::all(&definition, &Secret::of_variable).map_err(|sentences| {
        let place = args.file.display();
        let lines: Vec<String> = sentences.iter().map(|sentence| format!("{place}: {sentence}")).collect();
        misconfigured(lines.join("\n"))
    })?;
    let mut builder = Worker::builder(definition.kind.as_str())
        .version(definition.version)
        .in_process(&process)
        .settings_from(args.settings);
    if let Some(slots) = args.slots {
        builder = builder.setting("slots", slots);
    }
    for (capability, caller) in callers {
        let declared = definition.capabilities.get(&capability);
        let config = declared.map(config).unwrap_or_default();
        builder = builder
            .capability_with(capability.as_str(), config, move |context: Context, input: Value| {
                let caller = caller.clone();
                async move { caller.call(&input, &identity(&context)).await }
            })
            .validated();
        if let Some(declared) = declared {
            builder = builder.layered(&declared.layers);
        }
    }
    builder.run().await?;
    Ok(ExitCode::Done)
}

fn identity(context: &Context) -> Identity {
    Identity { idempotency_key: context.idempotency_key().to_owned(), traceparent: context.trace().parent.clone() }
}

/// What the worker has to know of a call; it has its own defaults for what the definition leaves out.
fn config(call: &CallDefinition) -> CapabilityConfig {
    let default = CapabilityConfig::default();
    CapabilityConfig {
        description: call.description.clone(),
        timeout: call.timeout.unwrap_or(default.timeout),
        retry: call.retry.as_ref().map_or(default.retry, Retry::policy),
        input_schema: call.schema.input.clone(),
        output_schema: call.schema.output.clone(),
        ..default
    }
}
