//! The agent in any language: serves the commands that a YAML file declares.

use clap::Parser;
use exec::agent;
use process::ProcessArgs;

/// Serves the commands that a file declares: JSON on stdin, the result on stdout, progress on stderr
#[derive(Debug, Parser)]
#[command(name = "agent-exec", version, after_help = agent::EXAMPLES)]
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
