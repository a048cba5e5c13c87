//! CEL expressions, and JSON with `${ … }` in it.

use protocol::Failure;
use serde_json::Value;

use crate::Payload;

/// A compiled CEL expression.
#[derive(Debug)]
pub struct Expression {}

/// JSON with `${ … }` in its texts. A text that is one expression alone becomes its value; others become text.
#[derive(Debug)]
pub struct Template {}

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
    /// Its value.
    ///
    /// # Errors
    /// `expression_failed`, never retried.
    pub fn evaluate(&self, _scope: &dyn Scope) -> Result<Value, Failure> {
        unimplemented!()
    }
}

impl Template {
    /// The value; held where the template only hands on what is held.
    ///
    /// # Errors
    /// `expression_failed`, never retried.
    pub fn evaluate(&self, _scope: &dyn Scope) -> Result<Payload, Failure> {
        unimplemented!()
    }
}
