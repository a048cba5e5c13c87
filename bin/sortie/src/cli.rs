//! The words of the command line, and what each of them starts.

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand, error::ErrorKind};
use process::{ExitCode, ProcessArgs, Program, settings::Environment, settings::environment as variable};

use crate::{commands, help, session::Session};

pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

const EXAMPLES: &str = "\
Examples:
  sortie demo                                see a fleet examine every file below this folder
  sortie up --agents agents.yaml             a server, a coordinator and your agents, until Ctrl-C
  sortie submit echo '{\"hi\":1}' --wait       ask for something and print its outcome
  ls *.png | sortie map resize --lines       a request per line, a result per line
  sortie dead list                           what was given up, and why

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
    Demo(commands::demo::DemoArgs),
    Up(commands::up::UpArgs),
    Submit(commands::submit::SubmitArgs),
    Map(commands::map::MapArgs),
    Watch(commands::watch::WatchArgs),
    Outcome(commands::outcome::OutcomeArgs),
    Why(commands::why::WhyArgs),
    Cancel(commands::cancel::CancelArgs),
    Agents(commands::agents::AgentsArgs),
    Queues(commands::queues::QueuesArgs),
    Logs(commands::logs::LogsArgs),
    Later(commands::later::LaterArgs),
    Breaker(commands::breaker::BreakerArgs),
    Cron(commands::cron::CronArgs),
    Workflow(commands::workflow::WorkflowArgs),
    Run(commands::run::RunArgs),
    Trigger(commands::trigger::TriggerArgs),
    Config(commands::config::ConfigArgs),
    Dead(commands::dead::DeadArgs),
    Top(commands::top::TopArgs),
    Doctor(commands::doctor::DoctorArgs),
    Audit(commands::audit::AuditArgs),
    Check(commands::check::CheckArgs),
    Bench(commands::bench::BenchArgs),
    Topology(commands::topology::TopologyArgs),
    Process(commands::process::ProcessCommand),
    Completions(commands::completions::CompletionsArgs),
    Man(commands::man::ManArgs),
}

/// Flags that few need: `--help` shows them, `-h` does not.
const RARE: [&str; 9] =
    ["nkey", "user", "tls_ca", "tls_cert", "tls_key", "inbox_prefix", "log_format", "ship_logs", "metrics"];

impl Cli {
    /// Reads the command line; ends the process where it makes no sense, or where help was asked for.
    pub(crate) fn read() -> Self {
        let mut command = Self::grammar();
        let matches = command.get_matches_mut();
        let cli = Self::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
        let brings_a_server = match &cli.command {
            Command::Up(_) | Command::Demo(_) => true,
            Command::Bench(args) => args.brings_a_server(),
            _ => false,
        };
        if brings_a_server && cli.process.connection.server.is_some() {
            let message = match cli.command {
                Command::Bench(_) => "this starts a server of its own; --fleet measures the fleet at --server",
                _ => "this command starts a server of its own, so --server has no meaning here",
            };
            command.error(ErrorKind::ArgumentConflict, message).exit();
        }
        cli
    }

    /// The words of the command line, examples included.
    pub(crate) fn grammar() -> clap::Command {
        help::with_examples(Self::command()).mut_args(|arg| match RARE.contains(&arg.get_id().as_str()) {
            true => arg.hide_short_help(true),
            false => arg,
        })
    }

    /// Does what was asked for, and ends the process.
    pub(crate) fn run(self) -> ! {
        let Self { process: mut args, json, command } = self;
        let program = command.program();
        if let Command::Process(which) = command {
            commands::process::run(which, &args);
        }
        if args.log.log_format.is_none() && Environment::of_process().get(variable::LOG_FORMAT).is_none() {
            // Services log JSON where nobody looks; what a command has to say is for whoever called it.
            args.log.log_format = Some("human".to_owned());
        }
        process::run(program, &args, |process| async move {
            let session = Session::new(process, json);
            match command {
                Command::Demo(args) => commands::demo::run(args, &session).await,
                Command::Up(args) => commands::up::run(args, &session).await,
                Command::Submit(args) => commands::submit::run(args, &session).await,
                Command::Map(args) => commands::map::run(args, &session).await,
                Command::Watch(args) => commands::watch::run(args, &session).await,
                Command::Outcome(args) => commands::outcome::run(args, &session).await,
                Command::Why(args) => commands::why::run(args, &session).await,
                Command::Cancel(args) => commands::cancel::run(args, &session).await,
                Command::Agents(args) => commands::agents::run(args, &session).await,
                Command::Bench(args) => commands::bench::run(args, &session).await,
                Command::Breaker(args) => commands::breaker::run(args, &session).await,
                Command::Queues(args) => commands::queues::run(args, &session).await,
                Command::Logs(args) => commands::logs::run(args, &session).await,
                Command::Later(args) => commands::later::run(args, &session).await,
                Command::Cron(args) => commands::cron::run(args, &session).await,
                Command::Trigger(args) => commands::trigger::run(args, &session).await,
                Command::Workflow(args) => commands::workflow::run(args, &session).await,
                Command::Run(args) => commands::run::run(args, &session).await,
                Command::Config(args) => commands::config::run(args, &session).await,
                Command::Dead(args) => commands::dead::run(args, &session).await,
                Command::Top(args) => commands::top::run(args, &session).await,
                Command::Check(args) => commands::check::run(args, &session).await,
                Command::Doctor(args) => commands::doctor::run(args, &session).await,
                Command::Audit(args) => commands::audit::run(args, &session).await,
                Command::Topology(args) => commands::topology::run(args, &session).await,
                Command::Completions(args) => commands::completions::run(&args, &session),
                Command::Man(args) => commands::man::run(args, &session),
                Command::Process(_) => Ok(ExitCode::Done),
            }
        })
    }
}

impl Command {
    /// What the first Ctrl-C does: it ends a command at once, unless there is something to end in order.
    fn program(&self) -> Program {
        let program = Program::command("sortie", VERSION);
        match self {
            // A live screen gives the terminal back first.
            Self::Up(_) | Self::Demo(_) | Self::Top(_) | Self::Bench(_) => program.hurrying(),
            _ => program,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_flag_is_declared_twice() {
        Cli::grammar().debug_assert();
    }

    #[test]
    fn help_is_what_it_was() {
        let mut grammar = Cli::grammar().term_width(110);
        grammar.build();
        insta::assert_snapshot!("help", grammar.render_help());
        for name in ["demo", "up"] {
            let command = grammar.find_subcommand_mut(name).map(|command| command.render_help());
            insta::assert_snapshot!(format!("help_{name}"), command.map(|help| help.to_string()).unwrap_or_default());
        }
    }
}
