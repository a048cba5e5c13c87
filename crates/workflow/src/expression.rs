//! CEL expressions, checked when a workflow is read and bounded when it runs.
//!
//! ```text
//!   source ──► parse ──► check: names, functions, bounds; paths are cut out ──► Path | Program
//!   scope  ──► only what the paths name is looked up, and converted when CEL asks for it ──► JSON
//! ```
//!
//! The parser and the interpreter are the crate `cel`. What it does not bound is bounded here: the paths (`steps.a.output.b`) are
//! replaced by variables that convert their value when they are first read, and calls are put around whatever can grow or
//! be repeated, which count the work.

mod check;
mod json;
mod names;
mod parse;
mod path;
mod plain;
mod run;
mod work;

#[cfg(test)]
pub(crate) mod tests;

use std::fmt;

use protocol::{Failure, codes, limits};
use serde_json::Value;

use crate::Payload;

pub use names::{Names, Reference, Root};
use path::Path;
pub(crate) use path::Segment;
use run::Program;

/// The length of an expression's source, in bytes.
pub const SOURCE_BYTES_MAX: usize = 4 * 1024;

/// How many comprehensions (`map`, `filter`, `all`, `exists`, `exists_one`) may stand in one another.
pub const COMPREHENSIONS_NESTED_MAX: usize = 2;

/// How deep an expression may be nested: `1 + 1 + 1` is two deep.
pub const DEPTH_MAX: usize = 100;

/// How much data one expression may read, in bytes: the length of each text and key, and 8 for every value.
pub const READ_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// How much one expression may go through or make, counted as [`READ_BYTES_MAX`] is.
pub const WORK_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// A compiled CEL expression.
#[derive(Debug)]
pub struct Expression {
    source: String,
    code: Code,
    references: Vec<Reference>,
}

/// How its value is found.
#[derive(Debug)]
enum Code {
    /// It only names something: no CEL, no conversion.
    Path(Path),
    Program(Box<Program>),
}

/// What is wrong with an expression, and where in its source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The line of the source, from 1.
    pub line: u64,
    /// The column of the source in characters, from 1.
    pub column: u64,
    /// What is wrong and what would be right.
    pub message: String,
}

/// What an expression can name.
pub trait Scope {
    /// `input`.
    fn input(&self) -> &Payload;
    /// `run`: `id`, `workflow`, `version`, `started`.
    fn run(&self) -> &Value;
    /// `steps.<name>`, for steps that the plan has.
    fn step(&self, name: &str) -> Option<StepInScope<'_>>;
    /// `item`, `index`, `turn`, `last`: where they are known.
    fn local(&self, name: &str) -> Option<&Payload>;
}

/// What an expression can see of a step.
#[derive(Clone, Copy, Debug)]
pub struct StepInScope<'a> {
    /// `output`; null before its end and after a failure.
    pub output: &'a Payload,
    /// `status`: `waiting`, `running`, `completed`, `failed`, `skipped`, `cancelled`.
    pub status: &'static str,
    /// `error`: the failure as JSON, else null.
    pub error: &'a Value,
}

impl Expression {
    /// Checks and compiles a source.
    ///
    /// # Errors
    /// Everything that is wrong with it: what cannot be parsed, names and functions that are not known at this place, bounds.
    pub fn compile(source: &str, names: &Names<'_>) -> Result<Self, Vec<Fault>> {
        if source.len() > SOURCE_BYTES_MAX {
            let message = format!(
                "an expression of {} bytes is too long; {SOURCE_BYTES_MAX} are the limit. Let an agent do it",
                source.len()
            );
            return Err(vec![Fault { line: 1, column: 1, message }]);
        }
        // The parser takes up to 100 KB of stack for a bracket in a debug build, more than a task of ours may have.
        let checked = match plain::parse(source) {
            Some(parsed) => check::check(parsed, source, names),
            None => stacker::grow(parse::STACK_BYTES, || check::check(parse::parse(source)?, source, names)),
        }?;
        Ok(Self { source: source.trim().to_owned(), code: checked.code, references: checked.references })
    }

    /// Its text, without space around it.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// What it names, in the order of its text.
    pub fn references(&self) -> &[Reference] {
        &self.references
    }

    /// The same, whose source is a part of a larger text: its references have their places in that.
    pub(crate) fn inside(mut self, text: &str, offset: usize) -> Self {
        for reference in &mut self.references {
            (reference.line, reference.column) = shifted(text, offset, reference.line, reference.column);
        }
        self
    }

    /// What it looks up: where each path begins, and what is selected from there.
    pub(crate) fn paths(&self) -> impl Iterator<Item = (&Root, &[Segment])> {
        let paths: Vec<&Path> = match &self.code {
            Code::Path(path) => vec![path],
            Code::Program(program) => program.slots.iter().map(|slot| &slot.path).collect(),
        };
        paths.into_iter().map(|path| (&path.root, path.segments.as_slice()))
    }

    /// Its value.
    ///
    /// # Errors
    /// `expression_failed`, never retried.
    pub fn evaluate(&self, scope: &dyn Scope) -> Result<Value, Failure> {
        let value = match &self.code {
            Code::Path(path) => path.find(scope).and_then(|value| json::copy(value, READ_BYTES_MAX)),
            Code::Program(program) => program.run(scope),
        };
        value.map_err(|reason| self.failure(&reason))
    }

    /// Its value, held where it only names something that is held.
    ///
    /// # Errors
    /// `expression_failed`, never retried.
    pub(crate) fn hand_on(&self, scope: &dyn Scope) -> Result<Payload, Failure> {
        match &self.code {
            Code::Path(path) if path.is_bare() => {
                path.payload(scope).map_err(|reason| self.failure(&reason)).map(std::borrow::Cow::into_owned)
            }
            _ => self.evaluate(scope).map(Payload::from),
        }
    }

    /// Whether it is nothing but the name of something that may be held.
    pub(crate) fn only_names(&self) -> bool {
        matches!(&self.code, Code::Path(path) if path.is_bare())
    }

    fn failure(&self, reason: &str) -> Failure {
        let source = limits::truncate(&self.source, 500);
        Failure::new(codes::EXPRESSION_FAILED, format!("`{source}`: {reason}"))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line > 1 {
            write!(f, "line {}, ", self.line)?;
        }
        write!(f, "column {}: {}", self.column, self.message)
    }
}

impl Fault {
    /// The same, of a source that is a part of a larger text.
    pub(crate) fn inside(self, text: &str, offset: usize) -> Self {
        let (line, column) = shifted(text, offset, self.line, self.column);
        Self { line, column, ..self }
    }

    /// A fault at a byte of the source.
    fn at(source: &str, offset: usize, message: impl Into<String>) -> Self {
        let (line, column) = place(source, offset);
        Self { line, column, message: message.into() }
    }
}

/// A place in an expression as a place in the text that it begins in at that byte.
fn shifted(text: &str, offset: usize, line: u64, column: u64) -> (u64, u64) {
    let (first_line, first_column) = place(text, offset);
    (first_line + line - 1, if line == 1 { first_column + column - 1 } else { column })
}

/// Line and column, from 1, of a byte of a text.
pub(crate) fn place(text: &str, offset: usize) -> (u64, u64) {
    let mut end = offset.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let before = &text[..end];
    let line_begin = before.rfind('\n').map_or(0, |at| at + 1);
    (before.matches('\n').count() as u64 + 1, before[line_begin..].chars().count() as u64 + 1)
}
