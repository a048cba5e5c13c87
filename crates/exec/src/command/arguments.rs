//! Fields of the input as arguments of a command. No shell ever reads them.

use protocol::{Failure, codes};
use serde_json::Value;

/// One argument made of a field, in bytes: what Linux takes as one argument.
pub const ARGUMENT_BYTES_MAX: usize = 128 * 1024 - 1;

/// The fields' values in this order, or `invalid_input`.
pub(super) fn select(fields: &[String], input: &Value) -> Result<Vec<String>, Failure> {
    fields.iter().map(|field| argument(field, input.get(field))).collect()
}

fn argument(field: &str, value: Option<&Value>) -> Result<String, Failure> {
    let text = match value {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        Some(Value::Bool(truth)) => truth.to_string(),
        Some(_) => return Err(refused(field, "is not text, a number or a boolean")),
        None => return Err(refused(field, "is missing")),
    };
    if text.contains('\0') {
        return Err(refused(field, "has a NUL in it"));
    }
    if text.len() > ARGUMENT_BYTES_MAX {
        return Err(refused(field, "is too long for an argument"));
    }
    Ok(text)
}

fn refused(field: &str, why: &str) -> Failure {
    Failure::new(codes::INVALID_INPUT, format!("field `{field}`, an argument of the command, {why}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use serde_json::json;

    use super::*;

    #[test]
    fn what_becomes_an_argument() {
        let long = "x".repeat(ARGUMENT_BYTES_MAX + 1);
        for (value, expected) in [
            (json!("; rm -rf /"), Some("; rm -rf /")),
            (json!("$(id) `id` \"'\\\n"), Some("$(id) `id` \"'\\\n")),
            (json!("-v"), Some("-v")),
            (json!(""), Some("")),
            (json!(1.5), Some("1.5")),
            (json!(-3), Some("-3")),
            (json!(true), Some("true")),
            (json!(null), None),
            (json!([1]), None),
            (json!({"a": 1}), None),
            (json!("a\0b"), None),
            (json!(long), None),
        ] {
            let found = select(&["field".to_owned()], &json!({ "field": value }));
            assert_eq!(found.clone().ok().map(|mut all| all.remove(0)).as_deref(), expected, "{value}");
            if let Err(failure) = found {
                assert_eq!((failure.code.as_str(), failure.retryable), (codes::INVALID_INPUT, false));
            }
        }
        for input in [json!({}), json!(null), json!("field"), json!(["field"])] {
            assert!(select(&["field".to_owned()], &input).is_err(), "{input}");
            assert_eq!(select(&[], &input).unwrap(), Vec::<String>::new());
        }
    }
}
