//! `sortie process`: every process of a fleet out of this one binary, the same as its own binary would run.

use clap::Subcommand;
use process::ProcessArgs;

const EXAMPLES: &str = "\
Examples:
  sortie process coordinator                      any number of them may run
  sortie process coordinator --metrics 9464       with /metrics, /healthz and /readyz";

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
}

/// Runs it to its end, which is the end of this process.
pub(crate) fn run(command: ProcessCommand, args: &ProcessArgs) -> ! {
    match command.which {
        Which::Coordinator => process::run(coordinator::serve::PROGRAM, args, coordinator::serve),
    }
}
