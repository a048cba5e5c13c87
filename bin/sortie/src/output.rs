//! Results on standard output: one JSON document with `--json`, else tables and lines for people.

use std::io::{self, IsTerminal, Write};

use comfy_table::{Attribute, Cell, ContentArrangement, Table, presets};
use process::{
    ExitCode, Problem,
    settings::{Environment, environment as variable},
};
use serde::Serialize;

/// How results are written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    is_json: bool,
    colour: bool,
}

impl Output {
    /// Colours only on a terminal, and not where NO_COLOR is set.
    pub(crate) fn new(is_json: bool, environment: &Environment) -> Self {
        let colour = io::stdout().is_terminal() && environment.get(variable::NO_COLOR).is_none();
        Self { is_json, colour }
    }

    /// Tables without colour.
    #[cfg(test)]
    pub(crate) fn plain() -> Self {
        Self { is_json: false, colour: false }
    }

    /// Whether `--json` was given.
    pub(crate) fn is_json(self) -> bool {
        self.is_json
    }

    /// Whether standard output may be coloured.
    pub(crate) fn colour(self) -> bool {
        self.colour
    }

    /// The one document with `--json`, else what `human` writes.
    pub(crate) fn show<T: Serialize>(self, document: &T, human: impl FnOnce() -> String) -> Result<(), Problem> {
        self.text(&self.shown(document, human)?)
    }

    /// The same in a command that goes on afterwards, whether anybody reads it or not.
    pub(crate) fn announce<T: Serialize>(self, document: &T, human: impl FnOnce() -> String) -> Result<(), Problem> {
        match write(ended(&self.shown(document, human)?).as_bytes()) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(unwritable(&error)),
            _ => Ok(()),
        }
    }

    /// A JSON document: indented on a terminal, one line elsewhere.
    pub(crate) fn document<T: Serialize>(self, document: &T) -> Result<(), Problem> {
        self.text(&json(document)?)
    }

    /// Text and the end of its line, if it has none.
    pub(crate) fn text(self, text: &str) -> Result<(), Problem> {
        self.bytes(ended(text).as_bytes())
    }

    /// Bytes as they are.
    pub(crate) fn bytes(self, bytes: &[u8]) -> Result<(), Problem> {
        match write(bytes) {
            Ok(()) => Ok(()),
            // Whoever read, `head` for one, has seen enough: that is no failure of ours.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => process::leave(ExitCode::Done),
            Err(error) => Err(unwritable(&error)),
        }
    }

    fn shown<T: Serialize>(self, document: &T, human: impl FnOnce() -> String) -> Result<String, Problem> {
        if self.is_json { json(document) } else { Ok(human()) }
    }

    /// A table with a head, as wide as the terminal at most.
    pub(crate) fn table<R: IntoIterator<Item = String>>(
        self,
        head: &[&str],
        rows: impl IntoIterator<Item = R>,
    ) -> String {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
        if self.colour {
            table.set_header(head.iter().map(|title| Cell::new(title).add_attribute(Attribute::Bold)));
        } else {
            table.force_no_tty().set_header(head.iter().copied());
        }
        for row in rows {
            table.add_row(row);
        }
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        table.trim_fmt()
    }
}

fn json<T: Serialize>(document: &T) -> Result<String, Problem> {
    let text = if io::stdout().is_terminal() {
        serde_json::to_string_pretty(document)
    } else {
        serde_json::to_string(document)
    };
    text.map_err(|error| Problem::new(ExitCode::Internal, format!("no JSON can be made: {error}")))
}

fn ended(text: &str) -> String {
    let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    format!("{text}{end}")
}

fn write(bytes: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes)?;
    stdout.flush()
}

fn unwritable(error: &io::Error) -> Problem {
    Problem::new(ExitCode::Internal, format!("standard output cannot be written: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_aligned_and_has_no_colour_elsewhere_than_on_a_terminal() {
        let output = Output::plain();
        let row = |cells: [&str; 2]| cells.map(str::to_owned);
        let table = output.table(&["KIND", "SLOTS"], [row(["words", "4"]), row(["a-longer-one", "12"])]);
        assert_eq!(table, "KIND          SLOTS\nwords         4\na-longer-one  12");
    }
}
