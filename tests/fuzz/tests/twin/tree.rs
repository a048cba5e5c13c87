//! Changes to documents as trees: what is still a document, and nearly a right one.

use serde_json::{Map, Value, json};

use crate::change::{Change, word};

/// A document with nodes changed.
pub(crate) fn changed(document: Value, changes: &[Change]) -> Value {
    changes.iter().fold(document, one)
}

fn one(mut document: Value, change: &Change) -> Value {
    let paths = paths(&document);
    let (place, other) = match change {
        Change::Flip(place, byte) => (place, scalar(*byte)),
        Change::Insert(place, text) | Change::Replace(place, _, text) => (place, Value::from(word(text))),
        Change::Remove(place, _) => {
            remove(&mut document, &paths[place.index(paths.len())]);
            return document;
        }
        Change::Repeat(place, length, times) => {
            let node = document.pointer(&paths[place.index(paths.len())]).cloned().unwrap_or_default();
            (place, grown(node, *length, *times))
        }
        Change::Splice(place, from, _) | Change::Move(place, from) => {
            (place, document.pointer(&paths[from.index(paths.len())]).cloned().unwrap_or_default())
        }
    };
    if let Some(node) = document.pointer_mut(&paths[place.index(paths.len())]) {
        *node = other;
    }
    document
}

fn scalar(byte: u8) -> Value {
    match byte % 12 {
        0 => Value::Null,
        1 => json!(true),
        2 => json!(0),
        3 => json!(-1),
        4 => json!(u64::MAX),
        5 => json!(i64::MIN),
        6 => json!(1e308),
        7 => json!([]),
        8 => json!({}),
        9 => json!("x".repeat(usize::from(byte) * 100)),
        10 => json!(0.1),
        _ => json!(u32::MAX),
    }
}

/// The same many times beside or within itself, or a longer text.
fn grown(node: Value, length: usize, times: u8) -> Value {
    match node {
        Value::String(text) => text.repeat(usize::from(times)).into(),
        Value::Array(items) => items.iter().cycle().take(items.len() * usize::from(times)).cloned().collect(),
        Value::Object(mut fields) => {
            let twins: Map<String, Value> =
                fields.iter().map(|(key, value)| (format!("{key}{times}"), value.clone())).collect();
            fields.extend(twins);
            fields.into()
        }
        other => (0..length * 4).fold(other, |inner, _| json!([inner])),
    }
}

fn remove(document: &mut Value, path: &str) {
    let Some((parent, key)) = path.rsplit_once('/') else { return };
    match document.pointer_mut(parent) {
        Some(Value::Object(fields)) => {
            fields.remove(&key.replace("~1", "/").replace("~0", "~"));
        }
        Some(Value::Array(items)) => {
            if let Some(index) = key.parse().ok().filter(|index| *index < items.len()) {
                items.remove(index);
            }
        }
        _ => {}
    }
}

/// Every node, by its JSON pointer.
fn paths(document: &Value) -> Vec<String> {
    fn into(value: &Value, path: &str, found: &mut Vec<String>) {
        found.push(path.to_owned());
        match value {
            Value::Object(fields) => fields.iter().for_each(|(key, value)| {
                into(value, &format!("{path}/{}", key.replace('~', "~0").replace('/', "~1")), found);
            }),
            Value::Array(items) => {
                items
                    .iter()
                    .enumerate()
                    .take(50)
                    .for_each(|(index, value)| into(value, &format!("{path}/{index}"), found));
            }
            _ => {}
        }
    }
    let mut found = Vec::new();
    into(document, "", &mut found);
    found
}
