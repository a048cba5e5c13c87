//! The agent as a process: what its own binary and `sortie process agent-exec` run.

mod attempt;

use std::{path::PathBuf, sync::Arc};

use process::{ExitCode, Problem, Process, Program, settings::AgentArgs};
use serde_json::Value;
use worker::{CapabilityConfig, Context, Worker};

use crate::{
    CommandHandler, Definition,
    command::{self, Reaper},
    definition::{self, CommandDefinition},
};

/// What the binary says about itself.
pub const PROGRAM: Program = Program::service("agent-exec", env!("CARGO_PKG_VERSION"));

/// What `--help` shows beneath the flags: how to call it, and the smallest useful file.
pub const EXAMPLES: &str = "\
Examples:
  agent-exec words.yaml                      serve what the file declares
  agent-exec words.yaml --slots 4            four commands at once

The file:
  kind: words
  version: 1.0.0
  capabilities:
    count-words:
      command: [wc, -w, --]                  # no shell; the input comes as JSON on stdin
      args_from: [path]                      # and these fields of it as arguments
      output: text                           # or json, or lines
      timeout: 10s
      exit: {75: retry, 65: give_up}
      layers:                                # each may be left out, and so may all
        rate_limit: {count: 10, per: 1s}     # in this agent; fleet-wide it is `sortie queues limit`
        circuit_breaker: {failures: 5, open_for: 30s}
        cache: {ttl: 10m}
        retry_rules: [{message: \"(?i)quota\", then: retry, after: 1m}]
      schema: {input: {type: object, required: [path]}}";

/// The words of this agent on a command line.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// File that says which command answers which capability, YAML or JSON
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Commands at once [default: 10]
    #[arg(long, value_name = "N")]
    pub slots: Option<usize>,
    /// Where its settings are.
    #[command(flatten)]
    pub settings: AgentArgs,
}

/// Serves what the file declares until the process is asked to stop and all that runs has ended.
///
/// # Errors
/// Every fault of the file, or everything that keeps its commands from running on this machine, both with exit code 64;
/// and what [`worker::Builder::run`] says.
pub async fn serve(args: Args, process: Process) -> Result<ExitCode, Problem> {
    let definition = read(&args)?;
    let reaper = Reaper::default();
    let handlers = CommandHandler::all(&definition, &command::own, &reaper).map_err(|sentences| {
        let place = args.file.display();
        let lines: Vec<String> = sentences.iter().map(|sentence| format!("{place}: {sentence}")).collect();
        Problem::new(ExitCode::Configuration, lines.join("\n"))
    })?;
    let mut builder = Worker::builder(definition.kind.as_str())
        .version(definition.version)
        .in_process(&process)
        .settings_from(args.settings);
    if let Some(slots) = args.slots {
        builder = builder.setting("slots", slots);
    }
    for (capability, handler) in handlers {
        let declared = definition.capabilities.get(&capability);
        let config = declared.map(config).unwrap_or_default();
        let handler = Arc::new(handler);
        builder = builder.capability_with(capability.as_str(), config, move |context: Context, input: Value| {
            attempt::answer(Arc::clone(&handler), context, input)
        });
        if let Some(declared) = declared {
            builder = builder.layered(&declared.layers);
        }
    }
    let ended = builder.run().await;
    // What attempts left behind that ignores SIGTERM must not outlive the agent.
    reaper.finish().await;
    ended?;
    Ok(ExitCode::Done)
}

/// What the worker has to know of a command; it has its own defaults for what the definition leaves out.
fn config(command: &CommandDefinition) -> CapabilityConfig {
    let default = CapabilityConfig::default();
    CapabilityConfig {
        description: command.description.clone(),
        timeout: command.timeout.unwrap_or(default.timeout),
        retry: command.retry.as_ref().map_or(default.retry, definition::Retry::policy),
        input_schema: command.schema.input.clone(),
        output_schema: command.schema.output.clone(),
        ..default
    }
}

fn read(args: &Args) -> Result<Definition, Problem> {
    Definition::read(&args.file).map_err(|error| Problem::new(ExitCode::Configuration, error.to_string()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use std::time::Duration;

    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_definition_says_goes_before_the_workers_defaults() {
        let text = "{kind: k, version: 1.0.0, capabilities: {
            all: {command: [wc], description: Counts., timeout: 5s, retry: {attempts: 7}, schema: {input: {type: string}}},
            none: {command: [wc]}}}";
        let definition = Definition::parse(text).unwrap();
        let [all, none] = ["all", "none"].map(|name| {
            let found = definition.capabilities.iter().find(|(capability, _)| capability.as_str() == name);
            config(found.unwrap().1)
        });
        assert_eq!((all.timeout, all.retry.attempts_max), (Duration::from_secs(5), 7));
        assert_eq!((all.description.as_deref(), all.input_schema), (Some("Counts."), Some(json!({"type": "string"}))));
        let default = CapabilityConfig::default();
        assert_eq!((none.timeout, none.retry), (default.timeout, default.retry));
        assert_eq!((none.input_schema, none.output_schema), (None, None));
    }

    #[test]
    fn every_fault_of_the_file_is_a_bad_configuration() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("words.yaml");
        std::fs::write(&file, "kind: Words\nversion: 1.0.0\ncapabilities: {a: {}}\n").unwrap();
        let problem = read(&Args { file, slots: None, settings: AgentArgs::default() }).unwrap_err();
        assert_eq!((problem.code, problem.message.lines().count()), (ExitCode::Configuration, 2), "{problem}");
    }
}
