//! Settings of agents: what there is, its ranges and defaults, and how layers of documents come to one.
//!
//! A document is a JSON object that says some of it. Layers are put one over another, objects key by key, everything else
//! whole. All of it is checked against one table, which also makes the JSON Schema.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{InstanceId, Kind};

mod check;
mod effective;
mod table;

pub use check::{Reference, SettingFault, check, reference};
pub use effective::{AgentSettings, CapabilitySettings};
pub use table::{Setting, Shape, TABLE, defaults, schema, setting};

/// What is shown in place of a reference to a secret.
pub const MASK: &str = "***";

/// What a reference to a secret begins with: `secret://env/NAME` or `secret://file/PATH`.
pub const SECRET: &str = "secret://";

/// Which part of a fleet a stored document is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// Every agent.
    Global,
    /// Agents of one kind.
    Kind(Kind),
    /// One agent.
    Instance(InstanceId),
}

/// Where a value comes from, weakest first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layer {
    /// The table.
    Default,
    /// The agent's own program.
    Program,
    /// Its file.
    File,
    /// Its environment file.
    EnvFile,
    /// The fleet, for every agent.
    Global,
    /// The fleet, for its kind.
    Kind,
    /// Its environment variables and flags.
    Variable,
    /// The fleet, for it alone.
    Instance,
}

/// What layers come to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Merged {
    /// The whole document.
    pub document: Value,
    /// Where each leaf comes from, by its path.
    pub origins: BTreeMap<String, Layer>,
}

/// The filter of every stored document in the configuration bucket.
pub const KEYS: &str = "settings.>";

impl Scope {
    /// Its key in the configuration bucket.
    pub fn key(&self) -> String {
        match self {
            Self::Global => "settings.global".to_owned(),
            Self::Kind(kind) => format!("settings.kind.{kind}"),
            Self::Instance(instance) => format!("settings.instance.{instance}"),
        }
    }

    /// The inverse of [`Scope::key`]; none for other keys.
    pub fn of_key(key: &str) -> Option<Self> {
        match key.split('.').collect::<Vec<_>>().as_slice() {
            ["settings", "global"] => Some(Self::Global),
            ["settings", "kind", kind] => Some(Self::Kind(Kind::parse(kind).ok()?)),
            ["settings", "instance", instance] => Some(Self::Instance(InstanceId::parse(instance).ok()?)),
            _ => None,
        }
    }

    /// The layer that its document is.
    pub fn layer(&self) -> Layer {
        match self {
            Self::Global => Layer::Global,
            Self::Kind(_) => Layer::Kind,
            Self::Instance(_) => Layer::Instance,
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Global => f.write_str("every agent"),
            Self::Kind(kind) => write!(f, "kind {kind}"),
            Self::Instance(instance) => write!(f, "instance {instance}"),
        }
    }
}

/// Puts documents one over another, weakest first, whatever their order here.
pub fn merge(layers: impl IntoIterator<Item = (Layer, Value)>) -> Merged {
    let mut layers: Vec<(Layer, Value)> = layers.into_iter().collect();
    layers.sort_by(|one, other| one.0.cmp(&other.0));
    let mut merged = Merged { document: Value::Object(Map::new()), origins: BTreeMap::new() };
    for (layer, document) in layers {
        over(&mut merged.document, document, "", &layer, &mut merged.origins);
    }
    merged
}

fn over(below: &mut Value, above: Value, path: &str, layer: &Layer, origins: &mut BTreeMap<String, Layer>) {
    match (below, above) {
        (Value::Object(below), Value::Object(above)) => {
            for (key, value) in above {
                let path = joined(path, &key);
                over(below.entry(key).or_insert(Value::Null), value, &path, layer, origins);
            }
        }
        (below, above) => {
            // What was below it is gone.
            let beneath = format!("{path}.");
            origins.retain(|known, _| known != path && !known.starts_with(&beneath));
            if let Value::Object(fields) = above {
                *below = Value::Object(Map::new());
                return over(below, Value::Object(fields), path, layer, origins);
            }
            origins.insert(path.to_owned(), layer.clone());
            *below = above;
        }
    }
}

/// The value at a path such as `capabilities.resize.timeout`.
pub fn get<'a>(document: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(document, |value, key| value.get(key))
}

/// The document with another value at a path; whatever has to be there above it is made an object.
pub fn set(document: &mut Value, path: &str, value: Value) {
    let mut at = document;
    for key in path.split('.') {
        if !at.is_object() {
            *at = Value::Object(Map::new());
        }
        let Value::Object(fields) = at else { return };
        at = fields.entry(key.to_owned()).or_insert(Value::Null);
    }
    *at = value;
}

/// Takes a path out, and objects that are empty then. False if it was not there.
pub fn unset(document: &mut Value, path: &str) -> bool {
    let Value::Object(fields) = document else { return false };
    match path.split_once('.') {
        None => fields.remove(path).is_some(),
        Some((key, rest)) => {
            let Some(inner) = fields.get_mut(key) else { return false };
            let was_there = unset(inner, rest);
            if inner.as_object().is_some_and(Map::is_empty) {
                fields.remove(key);
            }
            was_there
        }
    }
}

/// Every leaf with its path; an empty object and an array are leaves.
pub fn leaves(document: &Value) -> Vec<(String, Value)> {
    fn into(value: &Value, path: &str, found: &mut Vec<(String, Value)>) {
        match value {
            Value::Object(fields) if !fields.is_empty() || path.is_empty() => {
                fields.iter().for_each(|(key, value)| into(value, &joined(path, key), found));
            }
            other => found.push((path.to_owned(), other.clone())),
        }
    }
    let mut found = Vec::new();
    into(document, "", &mut found);
    found
}

/// What differs between two documents, leaf by leaf, sorted by path.
pub fn changes(before: &Value, after: &Value) -> Vec<String> {
    let [before, after]: [BTreeMap<String, Value>; 2] = [before, after].map(|each| leaves(each).into_iter().collect());
    let mut paths: Vec<String> =
        before.iter().filter(|(path, value)| after.get(*path) != Some(value)).map(|(path, _)| path.clone()).collect();
    paths.extend(after.keys().filter(|path| !before.contains_key(*path)).cloned());
    paths.sort();
    paths
}

/// The same document for people's eyes: references to secrets read `***`.
pub fn masked(document: &Value) -> Value {
    match document {
        Value::String(text) if text.starts_with(SECRET) => Value::String(MASK.to_owned()),
        Value::Array(items) => items.iter().map(masked).collect(),
        Value::Object(fields) => fields.iter().map(|(key, value)| (key.clone(), masked(value))).collect(),
        other => other.clone(),
    }
}

fn joined(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

#[cfg(test)]
#[path = "settings_tests.rs"]
mod tests;
