//! Text with places in it that the input and secrets fill.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use process::settings::Secret;
use protocol::{Failure, codes};
use serde_json::{Map, Value};

/// Whatever could mean something in a URL is encoded: only what never does is left as it is.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// How a secret is referred to.
const SECRET: &str = "secret://env/";

/// Text such as `Bearer secret://env/TOKEN`, `/orders/{order.id}` or `{page?}`; `{{` and `}}` are braces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Template {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Field(Field),
    Secret(String),
    /// A secret whose value is known.
    Known(Secret),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Field {
    path: Vec<String>,
    is_optional: bool,
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            if let Some(after) = rest.strip_prefix("{{").or_else(|| rest.strip_prefix("}}")) {
                plain.push(first);
                rest = after;
            } else if let Some(after) = rest.strip_prefix('{') {
                let (name, after) = after.split_once('}').ok_or("has a `{` without its `}`; `{{` is a brace")?;
                parts.push(Part::Text(std::mem::take(&mut plain)));
                parts.push(Part::Field(Field::parse(name)?));
                rest = after;
            } else if first == '}' {
                return Err("has a `}` without its `{`; `}}` is a brace".to_owned());
            } else if let Some(after) = rest.strip_prefix(SECRET) {
                let end = after.find(|next: char| !next.is_ascii_alphanumeric() && next != '_').unwrap_or(after.len());
                let (name, after) = after.split_at(end);
                if name.is_empty() {
                    return Err(format!("names no variable: a secret reads `{SECRET}NAME`"));
                }
                parts.push(Part::Text(std::mem::take(&mut plain)));
                parts.push(Part::Secret(name.to_owned()));
                rest = after;
            } else {
                plain.push(first);
                rest = &rest[first.len_utf8()..];
            }
        }
        parts.push(Part::Text(plain));
        parts.retain(|part| !matches!(part, Part::Text(text) if text.is_empty()));
        Ok(Self { parts })
    }

    /// The text before the first place.
    pub(crate) fn fixed_start(&self) -> &str {
        match self.parts.first() {
            Some(Part::Text(text)) => text,
            _ => "",
        }
    }

    /// Whether there is a secret in it, known or not.
    pub(crate) fn has_secret(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Secret(_) | Part::Known(_)))
    }

    /// With the values of its secrets; those that are not known are gathered.
    pub(crate) fn with_secrets(mut self, lookup: &dyn Fn(&str) -> Option<Secret>, unknown: &mut Vec<String>) -> Self {
        for part in &mut self.parts {
            if let Part::Secret(name) = part {
                match lookup(name) {
                    Some(secret) => *part = Part::Known(secret),
                    None => unknown.push(name.clone()),
                }
            }
        }
        self
    }

    /// The text with the input's fields in it as they are; none where an optional one is not there.
    ///
    /// # Errors
    /// `invalid_input` where a field is missing or is no text, number or boolean.
    pub(crate) fn fill(&self, input: &Value) -> Result<Option<String>, Failure> {
        let mut filled = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => filled.push_str(text),
                Part::Known(secret) => filled.push_str(secret.expose()),
                // It is told before anything is served.
                Part::Secret(_) => {}
                Part::Field(field) => match field.text(input)? {
                    Some(text) => filled.push_str(&text),
                    None => return Ok(None),
                },
            }
        }
        Ok(Some(filled))
    }

    /// A URL with the input's fields in it, each encoded so that it stays within its place.
    ///
    /// # Errors
    /// `invalid_input` where a field is missing, is no text, number or boolean, or would lead elsewhere: a path's part
    /// must not be empty, `.` or `..`.
    pub(crate) fn fill_url(&self, input: &Value) -> Result<String, Failure> {
        let mut filled = String::new();
        let mut is_in_path = true;
        for part in &self.parts {
            match part {
                Part::Text(text) => {
                    is_in_path &= !text.contains('?');
                    filled.push_str(text);
                }
                Part::Field(field) => {
                    let text = field.text(input)?.unwrap_or_default();
                    if is_in_path && text.is_empty() {
                        return Err(invalid(format!("`{}` is empty and would leave the path", field.name())));
                    }
                    filled.extend(utf8_percent_encode(&text, ENCODED));
                }
                Part::Secret(_) | Part::Known(_) => {}
            }
        }
        let path = filled.split('?').next().unwrap_or_default();
        if path.split('/').any(|segment| matches!(segment, "." | "..")) {
            return Err(invalid("a field would lead out of the path: `.` and `..` are not taken".to_owned()));
        }
        Ok(filled)
    }

    /// The value of the one field that it consists of.
    fn only_field(&self) -> Option<&Field> {
        match self.parts.as_slice() {
            [Part::Field(field)] => Some(field),
            _ => None,
        }
    }
}

impl Field {
    fn parse(name: &str) -> Result<Self, String> {
        let (name, is_optional) = name.strip_suffix('?').map_or((name, false), |name| (name, true));
        let path: Vec<String> = name.split('.').map(str::to_owned).collect();
        let is_word = |word: &String| {
            !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
        };
        if !path.iter().all(is_word) {
            return Err(format!(
                "`{{{name}}}` names no field: those are words with dots between them, such as {{order.id}}"
            ));
        }
        Ok(Self { path, is_optional })
    }

    fn name(&self) -> String {
        self.path.join(".")
    }

    fn value<'a>(&self, input: &'a Value) -> Option<&'a Value> {
        self.path.iter().try_fold(input, |value, word| match value {
            Value::Array(items) => items.get(word.parse::<usize>().ok()?),
            value => value.get(word),
        })
    }

    /// None where it is optional and not there.
    fn text(&self, input: &Value) -> Result<Option<String>, Failure> {
        match self.value(input) {
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(Value::Number(number)) => Ok(Some(number.to_string())),
            Some(Value::Bool(truth)) => Ok(Some(truth.to_string())),
            None | Some(Value::Null) if self.is_optional => Ok(None),
            None | Some(Value::Null) => Err(invalid(format!("`{}` is missing", self.name()))),
            Some(_) => Err(invalid(format!("`{}` is not a text, a number or a boolean", self.name()))),
        }
    }
}

/// A JSON value in whose texts are templates. A text that consists of one field becomes that field's value, whatever
/// type it has; one that is optional and not there leaves its key out.
pub(crate) fn fill_value(shape: &Value, input: &Value) -> Result<Option<Value>, Failure> {
    Ok(Some(match shape {
        Value::String(text) => {
            let template = Template::parse(text).map_err(invalid)?;
            match template.only_field() {
                Some(field) => match field.value(input) {
                    Some(value) => value.clone(),
                    None if field.is_optional => return Ok(None),
                    None => return Err(invalid(format!("`{}` is missing", field.name()))),
                },
                None => return Ok(template.fill(input)?.map(Value::String)),
            }
        }
        Value::Array(items) => {
            let filled: Result<Vec<_>, _> = items.iter().map(|item| fill_value(item, input)).collect();
            filled?.into_iter().flatten().collect()
        }
        Value::Object(entries) => {
            let mut filled = Map::new();
            for (key, value) in entries {
                if let Some(value) = fill_value(value, input)? {
                    filled.insert(key.clone(), value);
                }
            }
            Value::Object(filled)
        }
        other => other.clone(),
    }))
}

pub(crate) fn invalid(message: String) -> Failure {
    Failure::new(codes::INVALID_INPUT, message)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn url(template: &str, input: &Value) -> Result<String, Failure> {
        Template::parse(template).unwrap().fill_url(input)
    }

    #[test]
    fn a_field_stays_within_its_place() {
        let template = "https://shop.example/orders/{order}/lines?page={page}";
        let hostile = json!({"order": "a/../b?x=1#y %2e ä@\\", "page": "1&admin=true"});
        assert_eq!(
            url(template, &hostile).unwrap(),
            "https://shop.example/orders/a%2F..%2Fb%3Fx%3D1%23y%20%252e%20%C3%A4%40%5C/lines?page=1%26admin%3Dtrue"
        );
        assert_eq!(
            url(template, &json!({"order": 7, "page": true})).unwrap(),
            "https://shop.example/orders/7/lines?page=true"
        );
        for out in ["..", ".", ""] {
            let failure = url(template, &json!({"order": out, "page": 1})).unwrap_err();
            assert_eq!((failure.code.as_str(), failure.retryable), (codes::INVALID_INPUT, false), "{out}");
        }
        assert!(url("https://a.b/{x}{y}/", &json!({"x": ".", "y": "."})).is_err());
        assert!(url("https://a.b/v{x}", &json!({"x": ".."})).is_ok(), "it is no part by itself");
        for input in [json!({}), json!({"order": null, "page": 1}), json!({"order": [1], "page": 1}), json!("text")] {
            assert_eq!(url(template, &input).unwrap_err().code, codes::INVALID_INPUT, "{input}");
        }
    }

    #[test]
    fn what_templates_say() {
        let fill = |text: &str, input: Value| Template::parse(text).unwrap().fill(&input).unwrap();
        assert_eq!(fill("{{{a.b.1}}}", json!({"a": {"b": [1, "two"]}})).as_deref(), Some("{two}"));
        assert_eq!(fill("{a?}", json!({})), None);
        for (text, sentence) in [
            ("{a", "without"),
            ("a}", "without"),
            ("{}", "names no field"),
            ("{a b}", "names no field"),
            ("secret://env/", "names no variable"),
        ] {
            assert!(Template::parse(text).unwrap_err().contains(sentence), "{text}");
        }
    }

    #[test]
    fn secrets_are_filled_and_never_shown() {
        let template = Template::parse("Bearer secret://env/TOKEN;v=1").unwrap();
        let mut unknown = Vec::new();
        let known =
            template.clone().with_secrets(&|name| (name == "TOKEN").then(|| Secret::new("hunter2")), &mut unknown);
        assert_eq!(known.fill(&json!({})).unwrap().as_deref(), Some("Bearer hunter2;v=1"));
        assert!(known.has_secret() && !format!("{known:?}").contains("hunter2"));
        template.with_secrets(&|_| None, &mut unknown);
        assert_eq!(unknown, ["TOKEN"]);
    }

    #[test]
    fn bodies_keep_types() {
        let shape =
            json!({"id": "{order}", "note": "order {order}", "fixed": 1, "tags": ["{tag?}", "x"], "gone": "{no?}"});
        let filled = fill_value(&shape, &json!({"order": 7})).unwrap().unwrap();
        assert_eq!(filled, json!({"id": 7, "note": "order 7", "fixed": 1, "tags": ["x"]}));
        assert_eq!(fill_value(&json!("{order}"), &json!({})).unwrap_err().code, codes::INVALID_INPUT);
    }
}
