//! The agent in any language: serves the commands that a YAML file declares.

use clap::Parser;
use exec::agent;
use process::ProcessArgs;

const EXAMPLES: &str = "\
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
      schema: {input: {type: object, required: [path]}}";

/// Serves the commands that a file declares: JSON on stdin, the result on stdout, progress on stderr
#[derive(Debug, Parser)]
#[command(name = "agent-exec", version, after_help = EXAMPLES)]
struct Cli {
    #[command(flatten)]
    agent: agent::Args,
    #[command(flatten)]
    process: ProcessArgs,
}

fn main() -> ! {
    let cli = Cli::parse();
    process::run(agent::PROGRAM, &cli.process, |process| agent::serve(cli.agent, process))
}
