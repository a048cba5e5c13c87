//! The agent that examines files, and lists them.

use clap::Parser;
use process::ProcessArgs;
use sortie_agent_files::{Args, EXAMPLES, serve};

/// Examines files (SHA-256, size, lines, words, language, terms), and lists folders
#[derive(Debug, Parser)]
#[command(name = "agent-files", version, after_help = EXAMPLES)]
struct Cli {
    #[command(flatten)]
    agent: Args,
    #[command(flatten)]
    process: ProcessArgs,
}

fn main() -> ! {
    let cli = Cli::parse();
    process::run(serve::PROGRAM, &cli.process, |process| serve(cli.agent, process))
}
