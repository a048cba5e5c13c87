//! `sortie completions`: what makes a shell complete the words of this command line.

use clap_complete::Shell;
use process::{ExitCode, Problem};
use serde::Serialize;

use crate::{cli::Cli, session::Session};

const EXAMPLES: &str = "\
Examples:
  sortie completions bash > ~/.local/share/bash-completion/completions/sortie
  sortie completions zsh > ~/.zfunc/_sortie             with `fpath+=~/.zfunc` before compinit in ~/.zshrc
  sortie completions fish > ~/.config/fish/completions/sortie.fish
  source <(sortie completions bash)                     for this shell alone";

/// Print a script that makes a shell complete commands and flags
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

#[derive(Serialize)]
struct Document {
    shell: String,
    script: String,
}

pub(crate) fn run(args: &CompletionsArgs, session: &Session) -> Result<ExitCode, Problem> {
    let document = Document { shell: args.shell.to_string(), script: script(args.shell) };
    session.output().show(&document, || document.script.clone())?;
    Ok(ExitCode::Done)
}

fn script(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::grammar(), "sortie", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn every_shell_learns_every_command() {
        let grammar = Cli::grammar();
        for shell in Shell::value_variants() {
            let script = script(*shell);
            for command in grammar.get_subcommands() {
                assert!(script.contains(command.get_name()), "{shell} does not know `{}`", command.get_name());
            }
            assert!(script.contains("--json") || script.contains("-l json"), "{shell} knows no flags");
        }
    }
}
