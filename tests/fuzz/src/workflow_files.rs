//! Workflow files: YAML or JSON, schema, expressions, graph; and a dry run of what passes.

use std::{collections::BTreeMap, sync::Arc};

use chrono::DateTime;
use serde_json::json;
use workflow::{Definition, Plan, Program, simulate, simulate::Invented};

use crate::text_of;

/// Dry runs are made of texts up to this length: a few lines can ask for thousands of requests.
const RUN_BYTES_MAX: usize = 8 * 1024;

/// Feeds a workflow file: faults have a place in the text, what passes is read again from what is stored, and a run of it
/// goes as far as it can.
pub fn workflow(data: &[u8]) {
    let text = text_of(data);
    let (plan, stored) = match Plan::parse(&text) {
        Ok(read) => read,
        Err(faults) => {
            assert!(!faults.is_empty(), "a file is refused and nobody says why");
            // A carriage return alone ends a line, too (YAML 1.2, section 5.4).
            let lines = text.matches(['\n', '\r']).count() as u64 + 1;
            for fault in faults {
                assert!(fault.line <= lines, "{fault} of {lines} lines");
            }
            return;
        }
    };
    let definition: Definition = serde_json::from_value(stored.clone()).expect("what is stored is a definition");
    let written = serde_json::to_value(&definition).expect("a definition can be written");
    let again: Definition = serde_json::from_value(written).expect("what was written is a definition");
    assert_eq!(again, definition);
    for input in [json!(null), json!({ "order": "a".repeat(64), "path": "/", "n": 3 }), json!([[{ "order": {} }]])] {
        workflow::validate::input(&plan, &input);
    }
    let from_log = Program::read(&stored).expect("what was checked is read from the log of a run");
    let program = Program::new(plan).expect("what was checked can run");
    assert_eq!(from_log.plan().steps.len(), program.plan().steps.len());
    if data.len() > RUN_BYTES_MAX {
        return;
    }
    let invented = Invented {
        outputs: BTreeMap::new(),
        failures: BTreeMap::new(),
        signals: BTreeMap::new(),
        output_schema: &|_| None,
    };
    let program = Arc::new(program);
    let input = json!({ "order": "7", "list": [1, 2], "path": "/" });
    let first = simulate(&program, input.clone(), &invented, DateTime::UNIX_EPOCH);
    let second = simulate(&Arc::new(from_log), input, &invented, DateTime::UNIX_EPOCH);
    assert_eq!(first, second, "the same run goes the same way");
}
