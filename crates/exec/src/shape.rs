//! Whether a value is what a JSON Schema says.

use jsonschema::Validator;
use protocol::{Failure, codes, limits};
use serde_json::{Value, json};

use crate::definition::Schemas;

/// Faults of a value that a failure names.
pub const FAULTS_MAX: usize = 20;

/// The schemas of one capability, compiled once.
#[derive(Debug, Default)]
pub(crate) struct Shapes {
    input: Option<Validator>,
    output: Option<Validator>,
}

impl Shapes {
    /// Fails with a sentence where one of them is no JSON Schema.
    pub(crate) fn compile(schemas: &Schemas) -> Result<Self, String> {
        let compile = |schema: &Option<Value>| schema.as_ref().map(jsonschema::validator_for).transpose();
        let input = compile(&schemas.input).map_err(|error| format!("schema.input: {error}"))?;
        let output = compile(&schemas.output).map_err(|error| format!("schema.output: {error}"))?;
        Ok(Self { input, output })
    }

    /// Code `invalid_input`, not to be tried again.
    pub(crate) fn check_input(&self, value: &Value) -> Result<(), Failure> {
        check(self.input.as_ref(), value, codes::INVALID_INPUT, "the input is not what schema.input says")
    }

    /// Code `invalid_output`, not to be tried again: the command is wrong, and stays wrong.
    pub(crate) fn check_output(&self, value: &Value) -> Result<(), Failure> {
        check(self.output.as_ref(), value, codes::INVALID_OUTPUT, "the result is not what schema.output says")
    }
}

fn check(validator: Option<&Validator>, value: &Value, code: &str, sentence: &str) -> Result<(), Failure> {
    let Some(validator) = validator else { return Ok(()) };
    if validator.is_valid(value) {
        return Ok(());
    }
    let faults: Vec<String> = validator
        .iter_errors(value)
        .take(FAULTS_MAX)
        .map(|error| limits::truncate(&format!("{}: {error}", error.instance_path()), 300))
        .collect();
    let first = faults.first().map_or("", String::as_str).trim_start_matches(": ");
    Err(Failure::new(code, format!("{sentence}: {first}")).details(json!({ "faults": faults })).give_up())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[test]
    fn every_fault_is_named_and_nothing_is_tried_again() {
        let schema = json!({"type": "object", "required": ["path"], "properties": {"n": {"type": "integer"}}});
        let shapes =
            Shapes::compile(&Schemas { input: Some(schema), output: Some(json!({"type": "string"})) }).unwrap();
        assert!(shapes.check_input(&json!({"path": "x"})).is_ok());
        let failure = shapes.check_input(&json!({"n": "many"})).unwrap_err();
        assert_eq!((failure.code.as_str(), failure.retryable), (codes::INVALID_INPUT, false));
        assert_eq!(failure.details.unwrap()["faults"].as_array().unwrap().len(), 2);
        let failure = shapes.check_output(&json!(1)).unwrap_err();
        assert_eq!((failure.code.as_str(), failure.retryable), (codes::INVALID_OUTPUT, false));
        assert!(Shapes::default().check_input(&Value::Null).is_ok());
        assert!(Shapes::compile(&Schemas { input: Some(json!({"type": 7})), output: None }).is_err());
    }
}
