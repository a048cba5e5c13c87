//! `sortie process`: every process of a fleet out of this one binary, the same as its own binary would run.

use clap::Subcommand;
use process::ProcessArgs;

const EXAMPLES: &str = "\
Examples:
  sortie process coordinator                      any number of them may run
  sortie process coordinator --metrics 9464       with /metrics, /healthz and /readyz
  sortie process agent-exec words.yaml            an agent of the commands that a file declares
  sortie process agent-files --root ~/src         an agent that examines files";

/// Run one process of a fleet, as its own binary would
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ProcessCommand {
    #[command(subcommand)]
    which: Which,
}

#[derive(Debug, Subcommand)]
enum Which {
    /// The duties that nobody else has: dead letters of last resort, overdue schedules, deadlines, agents gone
    Coordinator,
    /// An agent of commands, in any language: a file says which command answers which capability
    AgentExec(exec::agent::Args),
    /// An agent that examines and lists files
    AgentFiles(agent_files::Args),
}

/// Runs it to its end, which is the end of this process.
pub(crate) fn run(command: ProcessCommand, args: &ProcessArgs) -> ! {
    match command.which {
        Which::Coordinator => process::run(coordinator::serve::PROGRAM, args, coordinator::serve),
        Which::AgentExec(words) => {
            process::run(exec::agent::PROGRAM, args, |process| exec::agent::serve(words, process))
        }
        Which::AgentFiles(words) => {
            process::run(agent_files::serve::PROGRAM, args, |process| agent_files::serve(words, process))
        }
    }
}
