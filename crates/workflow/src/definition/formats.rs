//! The formats that the schema names, and schemas of what is spelled in two ways.

use document::Format;
use protocol::{StepName, WorkflowName, duration};
use schemars::{Schema, SchemaGenerator, json_schema};

use super::UNDO_PREFIX;

pub(super) const FORMATS: [Format; 8] = [
    ("sortie-workflow", is_workflow, "is not a workflow's name: a-z or 0-9, then up to 62 of a-z, 0-9 and `-`"),
    (
        "sortie-step",
        is_step,
        "is not a step's name: up to 32 of a-z, A-Z, 0-9, `_` and `-`, not beginning with `undo_`",
    ),
    ("sortie-signal", is_word, "is not a signal's name: up to 32 of a-z, A-Z, 0-9, `_` and `-`"),
    ("sortie-branch", is_word, "is not a branch's name: up to 32 of a-z, A-Z, 0-9, `_` and `-`"),
    (
        "sortie-while",
        is_while,
        "is not a duration such as 250ms, 10s, 1m, 2h or 1d, more than nothing and at most ten years",
    ),
    (
        "sortie-topic",
        is_topic,
        "is not a topic: up to 200 of a-z, A-Z, 0-9, `_` and `-` in words with `.` between them; `sys` is reserved",
    ),
    ("sortie-success", is_success, "is neither `all`, `any` nor a number"),
    ("sortie-on-error", is_on_error, "is neither `fail`, `continue` nor `{ fallback: <step> }`"),
];

pub(super) fn success(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": ["string", "integer"], "format": "sortie-success", "minimum": 1, "maximum": 10_000 })
}

pub(super) fn wait(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": ["string", "object"],
        "format": "sortie-while",
        "properties": {
            "until": { "type": "string", "description": "An expression that gives a moment as RFC 3339." }
        },
        "required": ["until"],
        "additionalProperties": false
    })
}

pub(super) fn on_error(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": ["string", "object"],
        "format": "sortie-on-error",
        "properties": {
            "fallback": { "type": "string", "description": "The step that is done instead." }
        },
        "required": ["fallback"],
        "additionalProperties": false
    })
}

fn is_workflow(text: &str) -> bool {
    WorkflowName::parse(text).is_ok()
}

fn is_step(text: &str) -> bool {
    is_word(text) && !text.starts_with(UNDO_PREFIX)
}

fn is_word(text: &str) -> bool {
    StepName::parse(text).is_ok()
}

fn is_while(text: &str) -> bool {
    duration::parse(text).is_ok_and(|duration| !duration.is_zero())
}

fn is_topic(text: &str) -> bool {
    let is_word = |word: &str| {
        !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
    };
    text.len() <= 200 && text.split('.').all(is_word) && text.split('.').next() != Some("sys")
}

fn is_success(text: &str) -> bool {
    matches!(text, "all" | "any")
}

fn is_on_error(text: &str) -> bool {
    matches!(text, "fail" | "continue")
}
