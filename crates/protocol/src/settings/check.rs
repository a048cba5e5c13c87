//! Everything that is wrong with a document, each with its path.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    SECRET, leaves, setting,
    table::{Setting, Shape, TABLE},
};
use crate::{Backoff, Capability, duration, limits};

/// The longest document, in bytes of JSON.
const BYTES_MAX: usize = 64 * 1024;

/// What a key of `custom` is called whose value is a secret.
const SECRET_WORDS: [&str; 6] = ["password", "secret", "token", "credential", "api_key", "private_key"];

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettingFault {
    /// Where.
    pub path: String,
    /// What, and what would be right.
    pub message: String,
}

impl fmt::Display for SettingFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.is_empty() {
            true => f.write_str(&self.message),
            false => write!(f, "{}: {}", self.path, self.message),
        }
    }
}

/// Everything that is wrong with a document; nothing where it is fine.
pub fn check(document: &Value) -> Vec<SettingFault> {
    let mut faults = Vec::new();
    let mut add = |path: &str, message: String| faults.push(SettingFault { path: path.to_owned(), message });
    if !document.is_object() {
        add("", "a document of settings is an object".to_owned());
        return faults;
    }
    let size = document.to_string().len();
    if size > BYTES_MAX {
        add("", format!("the document has {size} bytes; {BYTES_MAX} are allowed"));
    }
    for (path, value) in leaves(document) {
        let found = match path.split('.').next() {
            Some("custom") => of_custom(&path, &value),
            _ => of_table(&path, &value),
        };
        if let Err(message) = found {
            add(&path, message);
        }
    }
    faults
}

fn of_table(path: &str, value: &Value) -> Result<(), String> {
    if let Some(setting) = setting(path) {
        let capability = path.strip_prefix("capabilities.").and_then(|rest| rest.split('.').next());
        capability.map_or(Ok(()), |name| Capability::parse(name).map(|_| ()).map_err(|error| error.to_string()))?;
        return fits(setting, value);
    }
    let is_above = |known: &&Setting| {
        let given = path.split('.').count();
        known.path.split('.').count() > given
            && known.path.split('.').zip(path.split('.')).all(|(known, given)| known == "*" || known == given)
    };
    // `capabilities: {}` says nothing, and is no fault.
    match TABLE.iter().find(is_above) {
        Some(_) if value.as_object().is_some_and(serde_json::Map::is_empty) => Ok(()),
        Some(known) => Err(format!("is an object of settings such as {}", known.path)),
        None => Err(format!("is no setting; there are {}, and custom.*", known_paths())),
    }
}

fn known_paths() -> String {
    TABLE.iter().map(|setting| setting.path).collect::<Vec<_>>().join(", ")
}

fn of_custom(path: &str, value: &Value) -> Result<(), String> {
    let name = path.rsplit('.').next().unwrap_or_default().to_ascii_lowercase();
    match value {
        Value::Object(_) => Ok(()),
        _ if path == "custom" => Err("is an object".to_owned()),
        Value::Null => Err("is nothing; leave it out".to_owned()),
        Value::String(text) if text.starts_with(SECRET) => reference(text).map(|_| ()),
        Value::String(_) if SECRET_WORDS.iter().any(|word| name.contains(word)) => Err(format!(
            "a secret is not kept in a document: write where it is, `{SECRET}env/NAME` or `{SECRET}file/PATH`"
        )),
        _ => Ok(()),
    }
}

/// Where a secret is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reference {
    /// An environment variable of the agent's process.
    Variable(String),
    /// A file on the agent's machine.
    File(String),
}

/// Reads a reference to a secret.
///
/// # Errors
/// What it should be.
pub fn reference(text: &str) -> Result<Reference, String> {
    let refused = || format!("a reference to a secret reads `{SECRET}env/NAME` or `{SECRET}file/PATH`");
    match text.strip_prefix(SECRET).and_then(|rest| rest.split_once('/')) {
        Some(("env", name)) if !name.is_empty() && !name.contains(['=', '/', ' ']) => {
            Ok(Reference::Variable(name.to_owned()))
        }
        Some(("file", path)) if !path.is_empty() => Ok(Reference::File(format!("/{}", path.trim_start_matches('/')))),
        _ => Err(refused()),
    }
}

fn fits(setting: &Setting, value: &Value) -> Result<(), String> {
    let shown = limits::truncate(&value.to_string(), 60);
    match setting.shape {
        Shape::Integer { min, max } => match value.as_u64() {
            Some(number) if (min..=max).contains(&number) => Ok(()),
            _ => Err(format!("{shown} is not a whole number from {min} to {max}")),
        },
        Shape::Duration { min, max } => {
            let range = format!("a duration from {} to {}", duration::format(min), duration::format(max));
            match value.as_str().map(duration::parse) {
                Some(Ok(found)) if (min..=max).contains(&found) => Ok(()),
                _ => Err(format!("{shown} is not {range}, such as 10s")),
            }
        }
        Shape::Backoff => match value.as_str().map(Backoff::from_str) {
            Some(Ok(_)) => Ok(()),
            Some(Err(fault)) => Err(fault),
            None => Err(format!("{shown} is no text such as `exponential; first=1s; cap=5m`")),
        },
        Shape::Level => match value.as_str() {
            Some(text) if is_level(text) => Ok(()),
            _ => Err(format!(
                "{shown} is no level (error, warn, info, debug, trace), nor levels by module as in `info,broker=debug`"
            )),
        },
    }
}

fn is_level(text: &str) -> bool {
    let is_word = |word: &str| ["error", "warn", "info", "debug", "trace", "off"].contains(&word);
    let is_module = |name: &str| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_:-".contains(&byte))
    };
    !text.is_empty()
        && text.split(',').all(|part| match part.trim().split_once('=') {
            Some((module, level)) => is_module(module) && is_word(level),
            None => is_word(part.trim()),
        })
}
