//! `sortie process`: every process of a fleet out of this one binary, the same as its own binary would run.

use clap::Subcommand;
use process::{
    ExitCode, ProcessArgs,
    probe::{Question, probe},
    settings::Environment,
};

const EXAMPLES: &str = "\
Examples:
  sortie process coordinator                      any number of them may run
  sortie process coordinator --metrics 9464       with /metrics, /healthz and /readyz
  sortie process agent-exec words.yaml            an agent of the commands that a file declares
  sortie process agent-http shop.yaml             an agent of the HTTP calls that a file declares
  sortie process agent-files --root ~/src         an agent that examines files
  sortie process health --ready --metrics 9464    exit 0 if the process that serves this port takes work";

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
    #[command(after_help = exec::agent::EXAMPLES)]
    AgentExec(exec::agent::Args),
    /// An agent of HTTP calls: a file says which call answers which capability
    #[command(after_help = http_agent::agent::EXAMPLES)]
    AgentHttp(http_agent::agent::Args),
    /// An agent that examines and lists files
    #[command(after_help = agent_files::EXAMPLES)]
    AgentFiles(agent_files::Args),
    /// The agent that `sortie bench` asks: it answers with what it was given
    #[command(after_help = bench::agent::EXAMPLES)]
    AgentBench(bench::agent::Args),
    /// Ask a process on this machine how it is, where --metrics or SORTIE_METRICS says; for health checks of containers
    Health {
        /// Ask whether it takes work, not only whether it lives
        #[arg(long)]
        ready: bool,
    },
}

/// Runs it to its end, which is the end of this process.
pub(crate) fn run(command: ProcessCommand, args: &ProcessArgs) -> ! {
    match command.which {
        Which::Coordinator => process::run(coordinator::serve::PROGRAM, args, coordinator::serve),
        Which::AgentExec(words) => {
            process::run(exec::agent::PROGRAM, args, |process| exec::agent::serve(words, process))
        }
        Which::AgentHttp(words) => {
            process::run(http_agent::agent::PROGRAM, args, |process| http_agent::agent::serve(words, process))
        }
        Which::AgentFiles(words) => {
            process::run(agent_files::serve::PROGRAM, args, |process| agent_files::serve(words, process))
        }
        Which::AgentBench(words) => {
            process::run(bench::agent::PROGRAM, args, |process| bench::agent::serve(words, process))
        }
        Which::Health { ready } => {
            let question = if ready { Question::Ready } else { Question::Healthy };
            // No process of its own: it would take the very port that it is to ask at.
            process::leave(match probe(question, &args.endpoint, &Environment::of_process()) {
                Ok(()) => ExitCode::Done,
                Err(problem) => {
                    eprintln!("sortie: {problem}");
                    problem.code
                }
            })
        }
    }
}
