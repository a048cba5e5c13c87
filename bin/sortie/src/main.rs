//! The command line of Sortie, and every process of a fleet in one binary.

mod cli;
mod commands;
mod demo;
mod fleet;
mod help;
mod meter;
mod output;
mod patience;
mod refusal;
mod session;
mod supervisor;

fn main() -> ! {
    cli::Cli::read().run()
}
