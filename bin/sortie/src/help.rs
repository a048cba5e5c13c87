//! Examples in every `--help`: a verb of a group shows those lines of its group's examples that speak of it.

use clap::Command;

const HEAD: &str = "Examples:";

/// Gives every command that says nothing after its help the examples of its group that name it.
pub(crate) fn with_examples(command: Command) -> Command {
    let path = command.get_name().to_owned();
    inherit(command, &path, &[])
}

fn inherit(command: Command, path: &str, inherited: &[String]) -> Command {
    let said = command.get_after_help().map(ToString::to_string);
    let examples: Vec<String> = match &said {
        Some(text) => text.lines().skip_while(|line| *line != HEAD).skip(1).map(str::to_owned).collect(),
        None => inherited.iter().filter(|line| speaks_of(line, path)).cloned().collect(),
    };
    let command = match said {
        None if !examples.is_empty() => command.after_help(format!("{HEAD}\n{}", examples.join("\n"))),
        _ => command,
    };
    command.mut_subcommands(|verb| {
        let path = format!("{path} {}", verb.get_name());
        inherit(verb, &path, &examples)
    })
}

/// Whether a line runs this very command, and not one whose name only begins so.
fn speaks_of(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| line[at + path.len()..].chars().next().is_none_or(|next| next == ' '))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;

    fn missing(command: &Command, path: &str, found: &mut Vec<String>) {
        let has_examples = command.get_after_help().is_some_and(|text| text.to_string().contains(HEAD));
        if !has_examples {
            found.push(path.to_owned());
        }
        for verb in command.get_subcommands().filter(|verb| verb.get_name() != "help") {
            missing(verb, &format!("{path} {}", verb.get_name()), found);
        }
    }

    #[test]
    fn the_help_of_every_command_has_examples() {
        let mut found = Vec::new();
        missing(&Cli::grammar(), "sortie", &mut found);
        assert!(
            found.is_empty(),
            "no examples in the --help of {found:?}: give each an after_help with `{HEAD}`, or add a line that runs it to \
             the examples of its group"
        );
    }

    #[test]
    fn a_verb_has_the_lines_of_its_group_that_run_it() {
        let group = Command::new("dead")
            .after_help("Examples:\n  sortie dead list   all\n  sortie dead lists\n  x | sortie dead list")
            .subcommands([
                Command::new("list"),
                Command::new("none"),
                Command::new("own").after_help("Examples:\n  y"),
            ]);
        let command = with_examples(Command::new("sortie").subcommand(group));
        let verbs: Vec<_> = command.get_subcommands().flat_map(Command::get_subcommands).collect();
        let shown = |verb: &Command| verb.get_after_help().map(ToString::to_string);
        assert_eq!(shown(verbs[0]).unwrap(), "Examples:\n  sortie dead list   all\n  x | sortie dead list");
        assert_eq!(shown(verbs[1]), None);
        assert_eq!(shown(verbs[2]).unwrap(), "Examples:\n  y");
    }
}
