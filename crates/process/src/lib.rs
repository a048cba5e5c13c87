//! What every Sortie binary does the same way: settings, logs, metrics endpoint, signals, exit codes.
//!
//! It is not where work is done. It says where the broker is, and talks to it only to ship log lines, over a connection
//! that it is given.
//!
//! ```text
//! flags ─┐
//! env   ─┼─ settings ─ logging ─ runtime ─ signals ─ endpoint ─ your main ─ exit code
//! files ─┘   (or every fault at once)                            (a Process)  (one message, one door)
//! ```
//!
//! ```no_run
//! use clap::Parser;
//! use sortie_process::{ExitCode, ProcessArgs, Program};
//!
//! #[derive(Parser)]
//! struct Cli {
//!     #[command(flatten)]
//!     process: ProcessArgs,
//! }
//!
//! let cli = Cli::parse();
//! sortie_process::run(Program::service("agent-echo", "0.1.0"), &cli.process, |process| async move {
//!     process.health.ready();
//!     process.shutdown.begun().await;
//!     Ok(ExitCode::Done)
//! })
//! ```

pub mod endpoint;
mod exit;
mod health;
pub mod logging;
pub mod metrics;
pub mod probe;
mod run;
pub mod settings;
pub mod signals;

pub use exit::{CREDENTIALS_ADVICE, ExitCode, ExitError, Problem, STORE_FULL_ADVICE, leave};
pub use health::{Condition, Health};
pub use logging::Logs;
pub use run::{Process, Program, run};
pub use settings::{ProcessArgs, Settings};
pub use signals::Shutdown;
