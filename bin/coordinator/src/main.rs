//! The coordinator: dead letters of last resort, overdue schedules, deadlines and the unserved, agents gone.

use clap::Parser;
use coordinator::serve;
use process::ProcessArgs;

/// Does the duties that nobody else has; stateless, any number of them may run
#[derive(Debug, Parser)]
#[command(name = "coordinator", version)]
struct Cli {
    #[command(flatten)]
    process: ProcessArgs,
}

fn main() -> ! {
    process::run(serve::PROGRAM, &Cli::parse().process, serve)
}
