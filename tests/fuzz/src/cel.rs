//! Expressions with the data that they read: `input.a > 1`, a line of `---`, and a JSON document.

use serde_json::{Value, json};
use workflow::{Expression, Payload, Scope, StepInScope, Template, expression::Names};

use crate::text_of;

/// Feeds an expression and data: it has a value or a failure, the same each time, and an end.
pub fn cel(data: &[u8]) {
    let text = text_of(data);
    let (source, data) = text.split_once("\n---\n").unwrap_or((&text, "null"));
    let data = serde_json::from_str::<Value>(data).unwrap_or(Value::Null);
    let names =
        Names { has_step: &|name| matches!(name, "a" | "b"), locals: &["item", "index", "turn", "event", "last"] };
    let around = Around::of(data);
    match Expression::compile(source, &names) {
        Ok(expression) => {
            assert!(Expression::compile(expression.source(), &names).is_ok(), "it is read again as it is kept");
            assert_eq!(expression.evaluate(&around), expression.evaluate(&around), "{source}");
        }
        Err(faults) => {
            assert!(!faults.is_empty(), "an expression is refused and nobody says why");
            let lines = source.matches(['\n', '\r']).count() as u64 + 1;
            assert!(faults.iter().all(|fault| fault.line >= 1 && fault.line <= lines), "{faults:?}");
        }
    }
    // Each is parsed twice more as a part of a text: one of four, where there are millions.
    if cfg!(feature = "libfuzzer") && !source.len().is_multiple_of(4) {
        return;
    }
    let shape = json!({ "text": source, "whole": [format!("${{ {source} }}")], "mixed": format!("a ${{{source}}} b") });
    if let Ok(template) = Template::compile(&shape, &names) {
        assert_eq!(template.evaluate(&around), template.evaluate(&around), "{source}");
    }
}

struct Around {
    data: Payload,
    number: Payload,
    run: Value,
    none: Value,
    error: Value,
}

impl Around {
    fn of(data: Value) -> Self {
        let run = json!({ "id": "run-1", "workflow": "w", "version": "1.0.0", "started": "2026-11-20T07:17:00Z" });
        let error = json!({ "code": "timeout", "message": "too slow", "retryable": true });
        Self { data: Payload::from(data), number: Payload::from(json!(7)), run, none: Value::Null, error }
    }
}

impl Scope for Around {
    fn input(&self) -> &Payload {
        &self.data
    }

    fn run(&self) -> &Value {
        &self.run
    }

    fn step(&self, name: &str) -> Option<StepInScope<'_>> {
        match name {
            "a" => Some(StepInScope { output: &self.data, status: "completed", error: &self.none }),
            "b" => Some(StepInScope { output: &self.number, status: "failed", error: &self.error }),
            _ => None,
        }
    }

    fn local(&self, name: &str) -> Option<&Payload> {
        match name {
            "index" | "turn" => Some(&self.number),
            _ => Some(&self.data),
        }
    }
}
