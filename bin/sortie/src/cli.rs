//! The words of the command line, and what each of them starts.

use clap::{Parser, Subcommand};
use process::{ProcessArgs, Program, settings::Environment, settings::environment as variable};

use crate::{commands, session::Session};

pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

const EXAMPLES: &str = "\
Examples:
  sortie demo                                   see a fleet examine every file below this folder
  sortie up --agents agents.yaml                a server, a coordinator and your agents, until Ctrl-C
  sortie submit echo '{\"hi\":1}' --wait          ask for something and print its outcome
  find . -name '*.rs' | sortie map count --lines  one request per line, one result per line
  sortie dead list                              what was given up, and why

Exit codes:
  0 done   1 the work failed   2 usage   64 configuration   69 broker unreachable
  70 internal   75 still pending, or start me again   77 refused by permission";

/// A fleet of agents on NATS JetStream: publish to a subject, an agent does it, exactly one outcome is recorded, and
/// nothing that the broker acknowledged is ever lost
#[derive(Debug, Parser)]
#[command(name = "sortie", version, after_help = EXAMPLES, max_term_width = 110)]
pub(crate) struct Cli {
    /// Print one JSON document instead of tables and sentences
    #[arg(long, global = true)]
    json: bool,
    #[command(flatten)]
    process: ProcessArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Submit(commands::submit::SubmitArgs),
    Map(commands::map::MapArgs),
    Watch(commands::watch::WatchArgs),
    Outcome(commands::outcome::OutcomeArgs),
    Cancel(commands::cancel::CancelArgs),
    Agents(commands::agents::AgentsArgs),
    Later(commands::later::LaterArgs),
    Dead(commands::dead::DeadArgs),
    Topology(commands::topology::TopologyArgs),
}

impl Cli {
    /// Does what was asked for, and ends the process.
    pub(crate) fn run(mut self) -> ! {
        let program = self.command.program();
        if self.process.log.log_format.is_none() && Environment::of_process().get(variable::LOG_FORMAT).is_none() {
            // Services log JSON where nobody looks; what a command has to say is for whoever called it.
            self.process.log.log_format = Some("human".to_owned());
        }
        let Self { process: args, json, command } = self;
        process::run(program, &args, |process| async move {
            let session = Session::new(process, json);
            match command {
                Command::Submit(args) => commands::submit::run(args, &session).await,
                Command::Map(args) => commands::map::run(args, &session).await,
                Command::Watch(args) => commands::watch::run(args, &session).await,
                Command::Outcome(args) => commands::outcome::run(args, &session).await,
                Command::Cancel(args) => commands::cancel::run(args, &session).await,
                Command::Agents(args) => commands::agents::run(args, &session).await,
                Command::Later(args) => commands::later::run(args, &session).await,
                Command::Dead(args) => commands::dead::run(args, &session).await,
                Command::Topology(args) => commands::topology::run(args, &session).await,
            }
        })
    }
}

impl Command {
    /// What the first Ctrl-C does: it ends a command at once, unless there is something to end in order.
    fn program(&self) -> Program {
        Program::command("sortie", VERSION)
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn no_flag_is_declared_twice() {
        Cli::command().debug_assert();
    }
}
