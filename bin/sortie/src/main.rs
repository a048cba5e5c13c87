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

/// What takes large futures and their many small parts apart for less than the allocator of the C library.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ! {
    cli::Cli::read().run()
}
