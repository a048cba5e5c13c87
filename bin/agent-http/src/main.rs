//! HTTP endpoints as agents: serves the calls that a YAML file declares.

use clap::Parser;
use http_agent::agent;
use process::ProcessArgs;

/// Serves the HTTP calls that a file declares: fields of the input fill them, the answer is the result
#[derive(Debug, Parser)]
#[command(name = "agent-http", version, after_help = agent::EXAMPLES)]
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
