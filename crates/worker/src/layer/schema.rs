//! Holds input and output against their JSON Schemas, and names every fault.

use std::{
    sync::Arc,
    task::{Context as TaskContext, Poll},
};

use futures_util::{FutureExt, future::BoxFuture};
use jsonschema::Validator;
use protocol::{Failure, codes, limits};
use serde_json::{Value, json};
use tower::{Layer, Service, ServiceExt};

use crate::{BoxService, Call, Reply};

/// Faults of a value that a failure names.
pub const FAULTS_MAX: usize = 50;

/// One fault's sentence, in bytes.
const FAULT_BYTES_MAX: usize = 300;

/// The JSON Schemas of a capability, compiled once. Where there is none, everything is taken.
#[derive(Clone, Debug, Default)]
pub struct Shapes {
    input: Option<Arc<Validator>>,
    output: Option<Arc<Validator>>,
}

/// What [`Shapes`] make of a handler.
#[derive(Clone, Debug)]
pub struct Shaped {
    inner: BoxService,
    shapes: Shapes,
}

impl Shapes {
    /// Compiles them.
    ///
    /// # Errors
    /// A sentence where one of them is no JSON Schema.
    pub fn compile(input: Option<&Value>, output: Option<&Value>) -> Result<Self, String> {
        let compile = |schema: Option<&Value>| schema.map(jsonschema::validator_for).transpose();
        let input = compile(input).map_err(|error| format!("schema.input: {error}"))?;
        let output = compile(output).map_err(|error| format!("schema.output: {error}"))?;
        Ok(Self { input: input.map(Arc::new), output: output.map(Arc::new) })
    }

    /// Whether the input is what its schema says.
    ///
    /// # Errors
    /// `invalid_input`, never retried; `details.faults` has each fault with its JSON `pointer` and a `message`.
    pub fn check_input(&self, value: &Value) -> Result<(), Failure> {
        check(self.input.as_deref(), value, codes::INVALID_INPUT, "the input is not what its schema says")
    }

    /// Whether the result is what its schema says.
    ///
    /// # Errors
    /// `invalid_output`, never retried: the handler is wrong, and stays wrong. Details as for the input.
    pub fn check_output(&self, value: &Value) -> Result<(), Failure> {
        check(self.output.as_deref(), value, codes::INVALID_OUTPUT, "the result is not what its schema says")
    }
}

fn check(validator: Option<&Validator>, value: &Value, code: &str, sentence: &str) -> Result<(), Failure> {
    let Some(validator) = validator else { return Ok(()) };
    if validator.is_valid(value) {
        return Ok(());
    }
    let mut faults = Vec::new();
    let mut errors = validator.iter_errors(value);
    for error in errors.by_ref().take(FAULTS_MAX) {
        faults.push((error.instance_path().to_string(), limits::truncate(&error.to_string(), FAULT_BYTES_MAX)));
    }
    let more = errors.take(10 * FAULTS_MAX).count();
    let first = faults.first().map_or_else(String::new, |(pointer, message)| match pointer.as_str() {
        "" => message.clone(),
        pointer => format!("{pointer}: {message}"),
    });
    let others = match faults.len() + more {
        0 | 1 => String::new(),
        count => format!(" (and {} more)", count - 1),
    };
    let list: Vec<Value> =
        faults.iter().map(|(pointer, message)| json!({ "pointer": pointer, "message": message })).collect();
    let mut details = json!({ "faults": list });
    if more > 0 {
        details["left_out"] = more.into();
    }
    Err(Failure::new(code, format!("{sentence}: {first}{others}")).details(details).give_up())
}

impl Layer<BoxService> for Shapes {
    type Service = Shaped;
    fn layer(&self, inner: BoxService) -> Shaped {
        Shaped { inner, shapes: self.clone() }
    }
}

impl Service<Call> for Shaped {
    type Response = Reply;
    type Error = Failure;
    type Future = BoxFuture<'static, Result<Reply, Failure>>;

    fn poll_ready(&mut self, _context: &mut TaskContext<'_>) -> Poll<Result<(), Failure>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: Call) -> Self::Future {
        let Self { inner, shapes } = self.clone();
        async move {
            if shapes.input.is_some() {
                shapes.check_input(&call.content_type.decode(&call.body)?)?;
            }
            let reply = inner.oneshot(call).await?;
            if shapes.output.is_some() {
                shapes.check_output(&reply.content_type.decode(&reply.body)?)?;
            }
            Ok(reply)
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_is_named_with_its_pointer_and_nothing_is_tried_again() {
        let input =
            json!({"type": "object", "required": ["path"], "properties": {"n": {"items": {"type": "integer"}}}});
        let shapes = Shapes::compile(Some(&input), Some(&json!({"type": "string"}))).unwrap();
        assert!(shapes.check_input(&json!({"path": "x"})).is_ok());
        let failure = shapes.check_input(&json!({"n": [1, "two", "three"]})).unwrap_err();
        assert_eq!((failure.code.as_str(), failure.retryable), (codes::INVALID_INPUT, false));
        assert!(failure.message.ends_with("(and 2 more)"), "{failure}");
        let details = failure.details.unwrap();
        let faults = details["faults"].as_array().unwrap();
        let mut pointers: Vec<&str> = faults.iter().map(|fault| fault["pointer"].as_str().unwrap()).collect();
        pointers.sort_unstable();
        assert_eq!((pointers, details.get("left_out")), (vec!["", "/n/1", "/n/2"], None));
        let failure = shapes.check_output(&json!(1)).unwrap_err();
        assert_eq!((failure.code.as_str(), failure.retryable), (codes::INVALID_OUTPUT, false));
        assert!(Shapes::default().check_input(&Value::Null).is_ok());
        assert!(Shapes::compile(Some(&json!({"type": 7})), None).is_err());
    }

    #[test]
    fn faults_are_bounded() {
        let shapes = Shapes::compile(Some(&json!({"items": {"type": "integer"}})), None).unwrap();
        let many: Vec<&str> = vec!["x"; FAULTS_MAX + 7];
        let details = shapes.check_input(&json!(many)).unwrap_err().details.unwrap();
        assert_eq!((details["faults"].as_array().unwrap().len(), details["left_out"].clone()), (FAULTS_MAX, 7.into()));
    }
}
