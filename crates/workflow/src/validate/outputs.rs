//! What expressions read of a step's output, beside what the one who is asked says he gives.

use document::{Fault, Located, below};
use protocol::{StepName, limits};
use serde_json::Value;

use super::World;
use crate::plan::{
    Target,
    read::{OutputRead, nearest},
};

/// Keywords by which a schema takes more than its `properties` say.
const OPEN: [&str; 8] = ["$ref", "allOf", "anyOf", "oneOf", "if", "not", "patternProperties", "unevaluatedProperties"];

/// What a property that nobody named is.
enum Unknown {
    /// It is never there.
    Never,
    /// It may be there.
    Unlisted,
}

/// Reads that find nothing, as faults, and reads that find most likely nothing, as warnings.
pub(super) fn check(
    located: &Located,
    reads: &[OutputRead],
    asked: &[(String, Target)],
    world: &World<'_>,
) -> (Vec<Fault>, Vec<Fault>) {
    let (mut faults, mut warnings) = (Vec::new(), Vec::new());
    for read in reads {
        let Some(Target::Capability(capability)) = gives(located, &read.step, asked) else { continue };
        let Some(schema) = (world.output)(capability) else { continue };
        let (unknown, listed) = match judge(&schema, &read.key) {
            Some(judged) => judged,
            None => continue,
        };
        let key = limits::truncate(&read.key, 80);
        let hint = nearest(&read.key, &listed).map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
        let message = match unknown {
            Unknown::Never => format!("`{capability}` gives no `{key}`{hint}"),
            Unknown::Unlisted => format!("what `{capability}` says it gives has no `{key}`{hint}"),
        };
        let place = crate::expression::Fault { line: read.line, column: read.column, message };
        let fault = located.fault(&read.pointer, place.to_string());
        match unknown {
            Unknown::Never => faults.push(fault),
            Unknown::Unlisted => warnings.push(fault),
        }
    }
    (faults, warnings)
}

/// Whose output a step's is; none where it is a list, or may be that of another step.
fn gives<'a>(located: &Located, step: &StepName, asked: &'a [(String, Target)]) -> Option<&'a Target> {
    let pointer = below("/steps", step.as_str());
    let definition = located.value.pointer(&pointer)?;
    if definition.get("foreach").is_some() || definition.get("on_error").is_some_and(Value::is_object) {
        return None;
    }
    let repeat = below(&pointer, "repeat");
    asked.iter().find(|(at, _)| *at == pointer || *at == repeat).map(|(_, target)| target)
}

/// What a property is that the schema does not name, and those that it names; none where it may well be there.
fn judge(schema: &Value, key: &str) -> Option<(Unknown, Vec<String>)> {
    let schema = schema.as_object()?;
    if OPEN.iter().any(|keyword| schema.contains_key(*keyword)) {
        return None;
    }
    let properties = schema.get("properties").and_then(Value::as_object);
    let listed: Vec<String> = properties.into_iter().flat_map(|properties| properties.keys().cloned()).collect();
    if listed.iter().any(|name| name == key) {
        return None;
    }
    match schema.get("additionalProperties") {
        Some(Value::Bool(false)) => Some((Unknown::Never, listed)),
        // It says what the others are like, so there are others.
        Some(Value::Object(_)) => None,
        _ => (!listed.is_empty()).then_some((Unknown::Unlisted, listed)),
    }
}
