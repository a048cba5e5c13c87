//! JSON with `${ … }` in its texts.

mod scan;

#[cfg(test)]
mod tests;

use protocol::{Failure, codes};
use serde_json::{Map, Value};

use crate::{
    Expression, Payload, Scope,
    expression::{self, Names, Root},
};
use scan::Piece;

/// How large a template's value may become, in bytes of JSON.
pub const VALUE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// JSON with `${ … }` in its texts. A text that is one expression alone becomes its value; others become text: texts as they
/// are, everything else as JSON. `$${` is a literal `${`. Keys are taken as they are.
#[derive(Debug)]
pub struct Template {
    node: Node,
}

#[derive(Debug)]
enum Node {
    /// No expression in it.
    Literal(Value),
    /// A text that is one expression alone.
    Whole(Expression),
    Text(Vec<Part>),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

#[derive(Debug)]
enum Part {
    Literal(String),
    Expression(Expression),
}

/// What is wrong with a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The text that it is in, as a JSON pointer below the template.
    pub pointer: String,
    /// What is wrong, with line and column of that text.
    pub fault: expression::Fault,
}

/// A mention of a name somewhere in a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The text that it is in, as a JSON pointer below the template.
    pub pointer: String,
    /// What is named, with line and column of that text.
    pub reference: expression::Reference,
    /// Whether the value itself is needed. If not, it is only handed on, and may be held.
    pub is_read: bool,
}

impl Template {
    /// Compiles every expression in it.
    ///
    /// # Errors
    /// All faults of all expressions.
    pub fn compile(value: &Value, names: &Names<'_>) -> Result<Self, Vec<Fault>> {
        let mut faults = Vec::new();
        let node = compile(value, names, "", &mut faults);
        if faults.is_empty() { Ok(Self { node }) } else { Err(faults) }
    }

    /// What its expressions name.
    pub fn references(&self) -> Vec<Reference> {
        let mut references = Vec::new();
        collect(&self.node, "", &mut references);
        // Only what is alone in the whole template is handed on.
        if let Node::Whole(expression) = &self.node
            && expression.only_names()
        {
            references.iter_mut().for_each(|reference| reference.is_read = !may_be_held(&reference.reference.root));
        }
        references
    }

    /// All expressions in it.
    pub(crate) fn expressions(&self) -> Vec<&Expression> {
        let mut expressions = Vec::new();
        self.node.gather(&mut expressions);
        expressions
    }

    /// Whether there is no expression in it.
    pub fn is_literal(&self) -> bool {
        matches!(self.node, Node::Literal(_))
    }

    /// The value; held where the template only hands on what is held.
    ///
    /// # Errors
    /// `expression_failed`, never retried.
    pub fn evaluate(&self, scope: &dyn Scope) -> Result<Payload, Failure> {
        match &self.node {
            Node::Whole(expression) => expression.hand_on(scope),
            node => {
                let mut left = VALUE_BYTES_MAX;
                value(node, scope, &mut left).map(Payload::from)
            }
        }
    }
}

/// An expression, bare or alone in `${ … }`.
pub(crate) fn expression(text: &str, names: &Names<'_>) -> Result<Expression, Vec<expression::Fault>> {
    let pieces = scan::pieces(text.trim_end()).map_err(|fault| vec![fault])?;
    match pieces.as_slice() {
        [Piece::Expression { source, offset }] => compile_inside(text, source, *offset, names),
        pieces if pieces.iter().any(|piece| matches!(piece, Piece::Expression { .. })) => {
            let message = "this is one expression: write it bare, or `${ … }` around all of it".to_owned();
            Err(vec![expression::Fault { line: 1, column: 1, message }])
        }
        _ => Expression::compile(text, names),
    }
}

/// Whether a text has an expression in it, so that its value is not known yet.
pub(crate) fn has_expression(text: &str) -> bool {
    scan::pieces(text).is_ok_and(|pieces| pieces.iter().any(|piece| matches!(piece, Piece::Expression { .. })))
}

impl Node {
    fn gather<'n>(&'n self, expressions: &mut Vec<&'n Expression>) {
        match self {
            Self::Literal(_) => {}
            Self::Whole(expression) => expressions.push(expression),
            Self::Text(parts) => expressions.extend(parts.iter().filter_map(|part| match part {
                Part::Expression(expression) => Some(expression),
                Part::Literal(_) => None,
            })),
            Self::List(items) => items.iter().for_each(|item| item.gather(expressions)),
            Self::Map(entries) => entries.iter().for_each(|(_, item)| item.gather(expressions)),
        }
    }
}

fn may_be_held(root: &Root) -> bool {
    matches!(root, Root::Input | Root::StepOutput(_) | Root::Local(_))
}

fn compile(value: &Value, names: &Names<'_>, pointer: &str, faults: &mut Vec<Fault>) -> Node {
    let node = match value {
        Value::String(text) => return compile_text(text, names, pointer, faults),
        Value::Array(items) => {
            let each = |(index, item)| compile(item, names, &document::below(pointer, &format!("{index}")), faults);
            Node::List(items.iter().enumerate().map(each).collect())
        }
        Value::Object(map) => Node::Map(
            map.iter()
                .map(|(key, item)| (key.clone(), compile(item, names, &document::below(pointer, key), faults)))
                .collect(),
        ),
        other => return Node::Literal(other.clone()),
    };
    let is_literal = match &node {
        Node::List(items) => items.iter().all(|item| matches!(item, Node::Literal(_))),
        Node::Map(entries) => entries.iter().all(|(_, item)| matches!(item, Node::Literal(_))),
        _ => false,
    };
    // `$${` has become `${`, so it is put together from what was compiled.
    if is_literal { Node::Literal(literal(node)) } else { node }
}

fn literal(node: Node) -> Value {
    match node {
        Node::Literal(value) => value,
        Node::List(items) => items.into_iter().map(literal).collect(),
        Node::Map(entries) => entries.into_iter().map(|(key, item)| (key, literal(item))).collect(),
        Node::Whole(_) | Node::Text(_) => Value::Null,
    }
}

fn compile_text(text: &str, names: &Names<'_>, pointer: &str, faults: &mut Vec<Fault>) -> Node {
    let pieces = match scan::pieces(text) {
        Ok(pieces) => pieces,
        Err(fault) => {
            faults.push(Fault { pointer: pointer.to_owned(), fault });
            return Node::Literal(Value::Null);
        }
    };
    let is_whole = matches!(pieces.as_slice(), [Piece::Expression { .. }]);
    let mut parts = Vec::new();
    for piece in pieces {
        match piece {
            Piece::Literal(literal) => parts.push(Part::Literal(literal)),
            Piece::Expression { source, offset } => match compile_inside(text, source, offset, names) {
                Ok(expression) => parts.push(Part::Expression(expression)),
                Err(found) => {
                    faults.extend(found.into_iter().map(|fault| Fault { pointer: pointer.to_owned(), fault }));
                }
            },
        }
    }
    match (is_whole, parts.pop()) {
        (true, Some(Part::Expression(expression))) => Node::Whole(expression),
        (_, None) => Node::Literal(Value::String(String::new())),
        (_, Some(Part::Literal(only))) if parts.is_empty() => Node::Literal(Value::String(only)),
        (_, Some(last)) => {
            parts.push(last);
            Node::Text(parts)
        }
    }
}

/// Compiles a part of a text; its places are those of the text.
fn compile_inside(
    text: &str,
    source: &str,
    offset: usize,
    names: &Names<'_>,
) -> Result<Expression, Vec<expression::Fault>> {
    match Expression::compile(source, names) {
        Ok(expression) => Ok(expression.inside(text, offset)),
        Err(faults) => Err(faults.into_iter().map(|fault| fault.inside(text, offset)).collect()),
    }
}

fn collect(node: &Node, pointer: &str, references: &mut Vec<Reference>) {
    let mut of = |expression: &Expression| {
        references.extend(expression.references().iter().map(|reference| Reference {
            pointer: pointer.to_owned(),
            reference: reference.clone(),
            is_read: true,
        }));
    };
    match node {
        Node::Literal(_) => {}
        Node::Whole(expression) => of(expression),
        Node::Text(parts) => {
            for part in parts {
                if let Part::Expression(expression) = part {
                    of(expression);
                }
            }
        }
        Node::List(items) => {
            for (index, item) in items.iter().enumerate() {
                collect(item, &document::below(pointer, &index.to_string()), references);
            }
        }
        Node::Map(entries) => {
            for (key, item) in entries {
                collect(item, &document::below(pointer, key), references);
            }
        }
    }
}

fn value(node: &Node, scope: &dyn Scope, left: &mut usize) -> Result<Value, Failure> {
    match node {
        Node::Literal(value) => Ok(value.clone()),
        Node::Whole(expression) => {
            let value = expression.evaluate(scope)?;
            take(left, size(&value))?;
            Ok(value)
        }
        Node::Text(parts) => {
            let mut text = String::new();
            for part in parts {
                let before = text.len();
                match part {
                    Part::Literal(literal) => text.push_str(literal),
                    Part::Expression(expression) => match expression.evaluate(scope)? {
                        Value::String(value) => text.push_str(&value),
                        other => text.push_str(&other.to_string()),
                    },
                }
                take(left, text.len() - before)?;
            }
            Ok(Value::String(text))
        }
        Node::List(items) => items.iter().map(|item| value(item, scope, left)).collect(),
        Node::Map(entries) => {
            let mut map = Map::new();
            for (key, item) in entries {
                map.insert(key.clone(), value(item, scope, left)?);
            }
            Ok(Value::Object(map))
        }
    }
}

/// About the size of a value as JSON.
fn size(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 8,
        Value::String(text) => text.len() + 2,
        Value::Array(items) => items.iter().map(size).sum::<usize>() + 2,
        Value::Object(map) => map.iter().map(|(key, item)| key.len() + size(item) + 4).sum::<usize>() + 2,
    }
}

fn take(left: &mut usize, bytes: usize) -> Result<(), Failure> {
    *left = left.checked_sub(bytes).ok_or_else(|| {
        let message =
            format!("what is put together is more than {VALUE_BYTES_MAX} bytes; hand on a whole output alone");
        Failure::new(codes::EXPRESSION_FAILED, message)
    })?;
    Ok(())
}
