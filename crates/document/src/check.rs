//! Every fault of a document at once: the schema that editors use finds most, the document's own look the rest.

use jsonschema::{ValidationError, Validator, error::ValidationErrorKind};
use protocol::{Capability, Kind, duration, limits};
use serde_json::Value;

use crate::{
    Document,
    fault::Fault,
    located::{Located, below},
};

/// A format that schemas name, what has it, and what is said of text that has not.
pub type Format = (&'static str, fn(&str) -> bool, &'static str);

/// The formats that the schema names, and what is said of text that has another.
const FORMATS: [Format; 8] = [
    ("sortie-kind", is_kind, "is not a kind: a-z or 0-9, then up to 62 of a-z, 0-9 and `-`"),
    ("sortie-version", is_version, "is not a semantic version such as 1.0.0 or 1.0.0-beta.1"),
    (
        "sortie-capability",
        is_capability,
        "is not a capability: a-z or 0-9, then up to 62 of a-z, 0-9 and `-`; `coordinator` is reserved",
    ),
    ("sortie-duration", is_duration, "is not a duration such as 250ms, 10s, 1m, 2h or 1d"),
    ("sortie-timeout", is_timeout, "is not a timeout: a duration such as 30s, more than nothing and at most 7d"),
    (
        "sortie-variable",
        is_variable,
        "is not a name for a variable: letters, digits and `_`, not beginning with a digit or `SORTIE_`",
    ),
    ("sortie-exit-code", is_exit_code, "is not an exit code from 1 to 255"),
    ("sortie-argument", is_argument, "has a NUL in it, which no argument and no variable can have"),
];

/// A document's schema, compiled. For whoever reads many of a kind; [`Document::parse`] makes one each time.
#[derive(Debug)]
pub struct Checker {
    validator: Result<Validator, String>,
    formats: Vec<Format>,
}

impl Checker {
    /// Compiles the schema of a document.
    pub fn of<T: Document>() -> Self {
        let formats: Vec<Format> = FORMATS.iter().chain(T::FORMATS).copied().collect();
        let validator = validator(&T::schema(), &formats).map_err(|error| error.to_string());
        Self { validator, formats }
    }

    /// What the schema finds, in the order of the text. The document's own look is not made.
    pub fn faults(&self, located: &Located) -> Vec<Fault> {
        let mut faults = located.faults.clone();
        match &self.validator {
            Ok(validator) => faults.extend(
                validator.iter_errors(&located.value).flat_map(|error| sentences(located, "", &self.formats, &error)),
            ),
            Err(error) => faults.push(located.fault("", error.clone())),
        }
        faults.sort_by_key(|fault| (fault.line, fault.column));
        faults
    }
}

pub(crate) fn check<T: Document>(located: &Located) -> Vec<Fault> {
    let mut faults = Checker::of::<T>().faults(located);
    T::check(located, &mut faults);
    faults.sort_by_key(|fault| (fault.line, fault.column));
    faults
}

fn validator(schema: &Value, formats: &[Format]) -> Result<Validator, ValidationError<'static>> {
    let options = jsonschema::options().should_validate_formats(true);
    let formats = formats.iter().copied();
    formats.fold(options, |options, (name, accepts, _)| options.with_format(name, accepts)).build(schema)
}

/// Whether `schema.input` and `schema.output` below this pointer are JSON Schemas.
pub fn check_schemas(located: &Located, pointer: &str, faults: &mut Vec<Fault>) {
    for side in ["input", "output"] {
        check_schema(located, &format!("{pointer}/schema/{side}"), faults);
    }
}

/// Whether what is at this pointer, if something is, is a JSON Schema.
pub fn check_schema(located: &Located, pointer: &str, faults: &mut Vec<Fault>) {
    let Some(schema) = located.value.pointer(pointer) else { return };
    if let Err(error) = jsonschema::validator_for(schema) {
        let message = format!("is not a JSON Schema: {}", limits::truncate(&error.to_string(), 300));
        faults.push(located.fault(&format!("{pointer}{}", error.instance_path()), message));
    }
}

/// Whether what is at this pointer is what a schema says. Values that are `open`, by their pointer, are known later; nothing
/// is said of them. A schema that cannot be used finds nothing.
pub fn check_against(located: &Located, pointer: &str, schema: &Value, open: &[String], faults: &mut Vec<Fault>) {
    let Some(value) = located.value.pointer(pointer) else { return };
    let Ok(validator) = jsonschema::validator_for(schema) else { return };
    for error in validator.iter_errors(value) {
        let at = format!("{pointer}{}", error.instance_path());
        let is_inside =
            |open: &String| open.strip_prefix(at.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        // Which properties there are is certain, whatever their values will be.
        let is_certain = matches!(
            error.kind(),
            ValidationErrorKind::Required { .. } | ValidationErrorKind::AdditionalProperties { .. }
        ) && !open.contains(&at);
        if is_certain || !open.iter().any(is_inside) {
            faults.extend(sentences(located, pointer, &[], &error));
        }
    }
}

/// What a validation error says to a person, each at the place to change. The validated value is below `base`.
fn sentences(located: &Located, base: &str, formats: &[Format], error: &ValidationError<'_>) -> Vec<Fault> {
    let pointer = format!("{base}{}", error.instance_path());
    let shown = limits::truncate(&error.instance().to_string(), 80);
    let message = match error.kind() {
        ValidationErrorKind::AdditionalProperties { unexpected } => {
            let unknown =
                |name: &String| located.fault(&below(&pointer, name), "is not a key that is known here".into());
            return unexpected.iter().map(unknown).collect();
        }
        ValidationErrorKind::PropertyNames { error } => {
            let name = error.instance().as_str().unwrap_or_default();
            return vec![located.fault(&below(&pointer, name), format_sentence(formats, error))];
        }
        ValidationErrorKind::Required { property } => {
            format!("`{}` is missing", property.as_str().unwrap_or_default())
        }
        ValidationErrorKind::Type { .. } if error.instance().is_number() || error.instance().is_boolean() => {
            format!("{error}; put it in quotes if it is text")
        }
        ValidationErrorKind::OneOfNotValid { context } => match choices(context) {
            choices if choices.is_empty() => error.to_string(),
            choices => format!("`{}` is none of {}", shown.trim_matches('"'), choices.join(", ")),
        },
        ValidationErrorKind::Format { .. } => format_sentence(formats, error),
        _ if error.instance().to_string().len() > 80 => limits::truncate(&error.masked_with("this").to_string(), 300),
        _ => limits::truncate(&error.to_string(), 300),
    };
    vec![located.fault(&pointer, message)]
}

fn format_sentence(formats: &[Format], error: &ValidationError<'_>) -> String {
    let text = limits::truncate(error.instance().as_str().unwrap_or_default(), 80);
    let ValidationErrorKind::Format { format } = error.kind() else { return error.to_string() };
    let rule = formats.iter().find(|(name, _, _)| name == format).map_or("is not valid", |(_, _, rule)| rule);
    format!("`{}` {rule}", text.escape_debug())
}

fn choices(context: &[Vec<ValidationError<'static>>]) -> Vec<String> {
    let mut choices = Vec::new();
    for error in context.iter().flatten() {
        match error.kind() {
            ValidationErrorKind::Constant { expected_value } => {
                choices.extend(expected_value.as_str().map(|choice| format!("`{choice}`")));
            }
            ValidationErrorKind::Enum { options } => {
                let options = options.as_array().into_iter().flatten().filter_map(Value::as_str);
                choices.extend(options.map(|choice| format!("`{choice}`")));
            }
            _ => {}
        }
    }
    choices
}

fn is_kind(text: &str) -> bool {
    Kind::parse(text).is_ok()
}

/// The micro service that every agent is takes no other.
fn is_version(text: &str) -> bool {
    semver::Version::parse(text).is_ok()
}

fn is_capability(text: &str) -> bool {
    Capability::parse(text).is_ok()
}

fn is_duration(text: &str) -> bool {
    duration::parse(text).is_ok()
}

fn is_timeout(text: &str) -> bool {
    duration::parse(text).is_ok_and(|timeout| !timeout.is_zero() && timeout <= limits::TIMEOUT_MAX)
}

/// Ours begin with `SORTIE_`, and what a definition says about them would be lost.
fn is_variable(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with(|first: char| first.is_ascii_digit())
        && !text.starts_with("SORTIE_")
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn is_exit_code(text: &str) -> bool {
    text.parse::<u8>().is_ok_and(|code| code > 0 && code.to_string() == text)
}

fn is_argument(text: &str) -> bool {
    !text.contains('\0')
}
