//! Source to tree, and the parser's errors to sentences.

use std::sync::{Arc, LazyLock};

use cel::{Env, IdedExpr as Tree, ParseError, common::ast::SourceInfo};

use super::{DEPTH_MAX, Fault};

/// Stack for the deepest source that the parser takes.
pub(super) const STACK_BYTES: usize = 64 * 1024 * 1024;

/// How deep brackets and conditions may be nested, for the parser.
const BRACKETS_MAX: u16 = 48;

/// The standard library of CEL without its optional values.
pub(super) static ENVIRONMENT: LazyLock<Arc<Env>> =
    LazyLock::new(|| Arc::new(Env::stdlib().with_optional_support(false)));

pub(super) struct Parsed {
    pub tree: Tree,
    pub info: SourceInfo,
}

pub(super) fn parse(source: &str) -> Result<Parsed, Vec<Fault>> {
    let parser = ENVIRONMENT.parser().enable_ident_escape_syntax(true).max_recursion_depth(BRACKETS_MAX);
    match parser.parse_with_source_info(source) {
        Ok((tree, info)) => Ok(Parsed { tree, info }),
        Err(errors) => Err(sentences(source, &errors.errors)),
    }
}

/// One fault per place. What the grammar says of a source whose words were not understood is a guess, and left out.
fn sentences(source: &str, errors: &[ParseError]) -> Vec<Fault> {
    let mut faults: Vec<Fault> = Vec::new();
    let is_lexical = |error: &&ParseError| error.msg.contains("token recognition error");
    let has_lexical = errors.iter().any(|error| is_lexical(&error));
    for error in errors.iter().filter(|error| !has_lexical || is_lexical(error)) {
        let Some(message) = sentence(&error.msg) else { continue };
        let at = |number: isize| u64::try_from(number).unwrap_or(1).max(1);
        let fault = Fault { line: at(error.pos.0), column: at(error.pos.1), message };
        if !faults.iter().any(|known| (known.line, known.column) == (fault.line, fault.column)) {
            faults.push(fault);
        }
    }
    if faults.is_empty() {
        faults.push(Fault::at(source, 0, "this is not an expression"));
    }
    faults
}

fn sentence(message: &str) -> Option<String> {
    if message.contains("Recursion limit") {
        return Some(format!("brackets are nested too deep; {DEPTH_MAX} deep is the limit, brackets less"));
    }
    // What it makes of a tree that has holes after another error.
    if message.starts_with("No `") || message.starts_with("Incomplete `") {
        return None;
    }
    let message = message.strip_prefix("Syntax error: ").unwrap_or(message);
    let quoted = || {
        let begin = message.find('\'')? + 1;
        let rest = &message[begin..];
        let end = rest.find("' expecting").or_else(|| rest.rfind('\''))?;
        Some(&rest[..end])
    };
    if message.starts_with("token recognition error") {
        return Some(match quoted()? {
            text if text.starts_with(['"', '\'']) => format!("the text {text} does not end, or has an unknown escape"),
            text => format!("`{text}` is not part of the language"),
        });
    }
    let unexpected = ["mismatched input", "extraneous input", "no viable alternative at input"];
    if unexpected.iter().any(|begin| message.starts_with(begin)) {
        return Some(match quoted()? {
            "<EOF>" => "something is missing at the end".to_owned(),
            text => format!("`{text}` is not expected here"),
        });
    }
    Some(protocol::limits::truncate(message, 200))
}
