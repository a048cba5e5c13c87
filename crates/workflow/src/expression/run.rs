//! Runs a program: reads what it names when it asks for it, counts its work, and says what went wrong in a sentence.

use std::{
    borrow::Cow,
    sync::{Arc, Mutex, OnceLock},
};

use cel::{
    Context, ExecutionError, IdedExpr as Tree, Value as CelValue,
    common::value::{CowVal, Val},
    context::VariableResolver,
};
use serde_json::Value;

use super::{
    READ_BYTES_MAX, Scope, WORK_BYTES_MAX,
    json::{self, Exceeded},
    parse::ENVIRONMENT,
    path::Path,
    work::{Function, Work, lock},
};

/// Stack that the interpreter takes for one level of a tree.
const LEVEL_STACK_BYTES: usize = if cfg!(debug_assertions) { 128 * 1024 } else { 16 * 1024 };

/// A checked tree whose paths are variables.
#[derive(Debug)]
pub(super) struct Program {
    pub tree: Tree,
    pub slots: Vec<Slot>,
    /// The functions of ours that it calls.
    pub functions: Vec<&'static Function>,
    /// How deep the tree is, without the calls that count.
    pub depth: usize,
}

/// What a variable stands for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Slot {
    pub path: Path,
    /// Whether only the presence is asked for: `has(…)`.
    pub is_test: bool,
}

/// The variable of a slot; no source can spell it.
pub(super) fn variable(slot: usize) -> String {
    format!("@{slot}")
}

impl Program {
    pub(super) fn run(&self, scope: &dyn Scope) -> Result<Value, String> {
        let found: Vec<Found<'_>> = self.slots.iter().map(|slot| slot.find(scope)).collect();
        let variables = Variables {
            found: &found,
            converted: self.slots.iter().map(|_| OnceLock::new()).collect(),
            left: Mutex::new(READ_BYTES_MAX),
        };
        let work = Arc::new(Work::new());
        let mut context = Context::with_env(Arc::clone(&ENVIRONMENT));
        context.set_variable_resolver(&variables);
        for function in &self.functions {
            work.declare(&mut context, function)?;
        }
        // Each level may have a call that counts around it.
        let stack_bytes = (2 * self.depth + 4) * LEVEL_STACK_BYTES;
        stacker::maybe_grow(stack_bytes, stack_bytes, || {
            let result = CelValue::resolve_val(&self.tree, &context);
            if *lock(&variables.left) == 0 {
                return Err(Exceeded::sentence());
            }
            if work.is_exhausted() {
                return Err(format!(
                    "it is too much work: it goes through more than {WORK_BYTES_MAX} bytes, counting 8 for every value. Let an agent do it"
                ));
            }
            let value = result.map_err(|error| variables.explain(&error))?;
            json::from_cel(value.as_ref())
        })
    }
}

impl Slot {
    fn find<'s>(&self, scope: &'s dyn Scope) -> Result<Cow<'s, Value>, String> {
        match self.is_test {
            true => self.path.is_there(scope).map(|is_there| Cow::Owned(Value::Bool(is_there))),
            false => self.path.find(scope),
        }
    }
}

/// The values of the slots, converted when they are first read.
struct Variables<'f> {
    found: &'f [Found<'f>],
    converted: Vec<OnceLock<Option<Box<dyn Val + 'f>>>>,
    /// How many bytes may still be read; 0 once it was too much.
    left: Mutex<u64>,
}

/// The value of a slot, or why there is none.
type Found<'s> = Result<Cow<'s, Value>, String>;

impl<'f> Variables<'f> {
    fn convert(&self, slot: usize) -> Option<Box<dyn Val + 'f>> {
        let value = self.found.get(slot)?.as_ref().ok()?;
        let mut left = lock(&self.left);
        let converted = json::to_cel(value, &mut left, 0);
        if converted.is_err() {
            *left = 0;
        }
        converted.ok()
    }

    fn explain(&self, error: &ExecutionError) -> String {
        match error {
            ExecutionError::UndeclaredReference(name) => match slot_of(name).and_then(|slot| self.found.get(slot)) {
                Some(Err(reason)) => reason.clone(),
                _ => format!("`{name}` is not known"),
            },
            ExecutionError::NoSuchKey(key) => format!("there is no `{key}`"),
            ExecutionError::NoSuchOverload(call) => {
                let types = call.argument_types().join(" and ");
                format!("`{}` cannot be applied to {types}", operator(call.function()))
            }
            ExecutionError::UnsupportedBinaryOperator(name, left, right) => {
                format!("`{name}` cannot be applied to {} and {}", left.type_of(), right.type_of())
            }
            ExecutionError::ValuesNotComparable(left, right) => {
                format!("{} cannot be compared with {}", left.type_of(), right.type_of())
            }
            ExecutionError::UnexpectedType { got, want } => format!("it has {got} where {want} belongs"),
            ExecutionError::IndexOutOfBounds(index) => match index {
                CelValue::Int(index) => format!("the list has no [{index}]"),
                _ => "the list has no such index".to_owned(),
            },
            ExecutionError::DivisionByZero(_) | ExecutionError::RemainderByZero(_) => "it divides by zero".to_owned(),
            ExecutionError::Overflow(..) => "a number becomes too large".to_owned(),
            ExecutionError::DuplicateKey(_) => "a map has the same key twice".to_owned(),
            ExecutionError::UnsupportedKeyType(_) => "a key of a map is text, a whole number, true or false".to_owned(),
            ExecutionError::FunctionError { function, message } => format!("`{function}`: {message}"),
            ExecutionError::UnsupportedIndex(index, list) => {
                format!("{} is no index of a {}", index.type_of(), list.type_of())
            }
            ExecutionError::InvalidArgumentCount { expected, actual } => {
                format!("a function has {actual} arguments and takes {expected}")
            }
            // Others may show a whole value, whose maps are in another order in each process: a failure is part of a run, and
            // the same everywhere.
            _ => "it is applied to what it is not for".to_owned(),
        }
    }
}

impl VariableResolver for Variables<'_> {
    fn resolve<'b>(&'b self, variable: &str) -> Option<CowVal<'b, 'b>> {
        let slot = slot_of(variable)?;
        let value = self.converted.get(slot)?.get_or_init(|| self.convert(slot)).as_ref()?;
        Some(CowVal::Borrowed(value.as_ref()))
    }
}

fn slot_of(variable: &str) -> Option<usize> {
    variable.strip_prefix('@')?.parse().ok()
}

/// `_>_` as a person writes it.
fn operator(name: &str) -> &str {
    match name {
        "_[_]" => "[…]",
        "_._" => ".",
        "@in" => "in",
        _ => name.trim_matches('_'),
    }
}
