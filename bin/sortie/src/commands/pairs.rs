//! `--filter NAME=VALUE`: a filter said in one word, the same as its own flag.

use clap::{ArgMatches, Command};
use process::{ExitCode, Problem};

/// Reads the word.
///
/// # Errors
/// One sentence that shows the form.
pub(crate) fn parse(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
        None => Err(format!("`{text}` is not NAME=VALUE, such as capability=echo")),
    }
}

/// Reads the value as the flag of that name reads it.
///
/// # Errors
/// It names no filter, or a value that it cannot have.
pub(crate) fn read<T>(
    grammar: Command,
    name: &str,
    value: &str,
    known: &[&str],
    read: impl FnOnce(&ArgMatches) -> Result<T, clap::Error>,
) -> Result<T, Problem> {
    let refused = |fault: &str| {
        Problem::new(ExitCode::Usage, format!("--filter {name}={value}: {fault}"))
            .advise(format!("it knows {}", known.join(", ")))
    };
    if !known.contains(&name) {
        return Err(refused("there is no such filter"));
    }
    let matches = grammar.try_get_matches_from(["filter", &format!("--{name}={value}")]);
    matches.and_then(|matches| read(&matches)).map_err(|error| {
        let fault = error.to_string();
        refused(fault.lines().next().unwrap_or_default().trim_start_matches("error: "))
    })
}
