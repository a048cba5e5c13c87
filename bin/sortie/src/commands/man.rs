//! `sortie man`: manual pages, one for each command.

use std::{fs, io, path::PathBuf};

use clap::Command;
use clap_mangen::Man;
use process::{ExitCode, Problem};
use serde::Serialize;

use crate::{
    cli::{Cli, VERSION},
    session::Session,
};

const EXAMPLES: &str = "\
Examples:
  sortie man | man -l -                     read the page of `sortie` itself
  sortie man ~/.local/share/man/man1        write the pages of all commands: `man sortie-dead-list`";

/// Write manual pages: that of `sortie` to standard output, or those of all commands into a folder
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ManArgs {
    /// The folder, made where it is not there
    dir: Option<PathBuf>,
}

#[derive(Serialize)]
struct Document {
    pages: Vec<PathBuf>,
}

pub(crate) fn run(args: ManArgs, session: &Session) -> Result<ExitCode, Problem> {
    let output = session.output();
    let Some(dir) = args.dir else {
        let text = page(&man(grammar()))?;
        output.show(&serde_json::json!({ "page": text }), || text.clone())?;
        return Ok(ExitCode::Done);
    };
    let pages = write_all(dir)?;
    output.show(&pages, || format!("{} pages are in {}", pages.pages.len(), folder_of(&pages)))?;
    Ok(ExitCode::Done)
}

/// All words with all that is said about them; what `-h` leaves out would stand there without a text.
fn grammar() -> Command {
    Cli::grammar().mut_args(|arg| arg.hide_short_help(false)).disable_help_subcommand(true)
}

fn man(command: Command) -> Man {
    Man::new(command).source(format!("sortie {VERSION}")).manual("Sortie")
}

fn folder_of(document: &Document) -> String {
    let folder = document.pages.first().and_then(|page| page.parent());
    folder.map(|folder| folder.display().to_string()).unwrap_or_default()
}

fn page(man: &Man) -> Result<String, Problem> {
    let mut text = Vec::new();
    man.render(&mut text)
        .map_err(|error| Problem::new(ExitCode::Internal, format!("no manual page can be made: {error}")))?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Every page, in the order of the commands.
fn write_all(dir: PathBuf) -> Result<Document, Problem> {
    let failed = |error: io::Error| {
        Problem::new(ExitCode::Configuration, format!("manual pages cannot be written to {}: {error}", dir.display()))
            .advise("name a folder that you may write to")
    };
    fs::create_dir_all(&dir).map_err(failed)?;
    let mut grammar = grammar();
    // Names the commands as their pages are called: `sortie-dead-list`.
    grammar.build();
    let mut pages = Vec::new();
    let mut commands = vec![grammar];
    while let Some(command) = commands.pop() {
        commands.extend(command.get_subcommands().filter(|verb| !verb.is_hide_set()).cloned());
        let man = man(command);
        let path = dir.join(man.get_filename());
        fs::write(&path, page(&man)?).map_err(failed)?;
        pages.push(path);
    }
    pages.sort();
    Ok(Document { pages })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page_with_its_examples() {
        let folder = tempfile::tempdir().unwrap();
        let document = write_all(folder.path().join("man1")).unwrap();
        for name in ["sortie.1", "sortie-submit.1", "sortie-dead-list.1", "sortie-process-coordinator.1"] {
            let path = folder.path().join("man1").join(name);
            assert!(document.pages.contains(&path), "{name} is missing of {:?}", document.pages);
            let text = fs::read_to_string(path).unwrap();
            assert!(text.starts_with(".ie") || text.contains(".TH "), "{text}");
            assert!(text.contains("Examples:"), "{name} has no examples");
            assert!(text.contains("certificates to trust"), "{name} says nothing of a flag that few need");
        }
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_told() {
        let problem = write_all("/dev/null/man1".into()).map(|_| ()).unwrap_err();
        assert_eq!(problem.code, ExitCode::Configuration);
        assert!(problem.advice.is_some());
    }
}
