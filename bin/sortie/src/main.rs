//! The command line of Sortie, and every process of a fleet in one binary.

mod cli;
mod commands;
mod output;
mod refusal;
mod session;
mod supervisor;

use clap::Parser;

fn main() -> ! {
    cli::Cli::parse().run()
}
