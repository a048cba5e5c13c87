//! The file that says which HTTP call answers which capability.

use std::{collections::BTreeMap, path::Path, time::Duration};

use document::{Document, Format, Located, below, check_schemas};
use protocol::{Capability, Kind};
use reqwest::header::{HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;
use worker::layer::Layers;

pub use crate::address::AllowPrivate;
use crate::template::Template;
pub use document::{Error, Fault, Retry, Schemas};

/// What a service may answer where the definition says nothing, in bytes.
pub const RESPONSE_BYTES_DEFAULT: usize = 8 * 1024 * 1024;

/// Headers that say how a message is cut or what the agent knows better.
const OWN_HEADERS: [&str; 8] =
    ["host", "content-length", "transfer-encoding", "connection", "te", "upgrade", "idempotency-key", "traceparent"];

/// An agent made of HTTP calls. Unknown keys are faults.
///
/// ```yaml
/// kind: shop
/// version: 1.0.0
/// headers: {Authorization: Bearer secret://env/SHOP_TOKEN}
/// capabilities:
///   get-order:
///     url: https://shop.example/orders/{order}
///   place-order:
///     method: POST
///     url: https://shop.example/orders
///     body: {article: "{article}", count: "{count}"}
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Sortie HTTP agent definition")]
pub struct Definition {
    /// What kind of agent this is, as the registry shows it.
    #[schemars(with = "String", extend("format" = "sortie-kind"))]
    pub kind: Kind,
    /// Its version, as the registry shows it: three numbers such as `1.0.0`, as semantic versions have.
    #[schemars(length(max = 64), extend("format" = "sortie-version"))]
    pub version: String,
    /// Whether private, loopback and link-local addresses may be called: `true`, or a list of hosts for which they may.
    /// It is the address that is really connected to which counts. Defaults to false.
    #[serde(default)]
    pub allow_private: AllowPrivate,
    /// Headers of every call; those of a call go before them. Defaults to none.
    #[serde(default)]
    #[schemars(extend("propertyNames" = { "format": "sortie-header" }, "additionalProperties" = { "type": "string", "format": "sortie-template" }))]
    pub headers: BTreeMap<String, String>,
    /// The call for each capability.
    #[schemars(extend("propertyNames" = { "format": "sortie-capability" }, "minProperties" = 1, "maxProperties" = 64))]
    pub capabilities: BTreeMap<Capability, CallDefinition>,
}

/// The call that answers one capability. Texts may have places such as `{order}` or `{customer.id}` in them, which the
/// input's fields fill; `{page?}` is one that may be missing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CallDefinition {
    /// What the capability does, in a sentence, as the registry shows it. Defaults to nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(max = 1024))]
    pub description: Option<String>,
    /// The method. Defaults to GET.
    #[serde(default)]
    pub method: Method,
    /// Where to. Places may stand after the host only, and what fills them is encoded.
    #[schemars(extend("format" = "sortie-template"))]
    pub url: String,
    /// What is added to the URL's query. An entry whose place is optional and not filled is left out. Defaults to
    /// nothing.
    #[serde(default)]
    #[schemars(extend("additionalProperties" = { "type": "string", "format": "sortie-template" }))]
    pub query: BTreeMap<String, String>,
    /// Headers, in which `secret://env/NAME` stands for a variable of the agent. Defaults to none.
    #[serde(default)]
    #[schemars(extend("propertyNames" = { "format": "sortie-header" }, "additionalProperties" = { "type": "string", "format": "sortie-template" }))]
    pub headers: BTreeMap<String, String>,
    /// `input`, `none`, or a JSON value whose texts have places. Defaults to `input` for POST, PUT and PATCH, else to
    /// `none`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Value")]
    pub body: Option<Value>,
    /// What the answer's body is. Defaults to `json`.
    #[serde(default)]
    pub response: Response,
    /// The largest answer that is taken, in bytes. Defaults to 8 MiB.
    #[serde(default = "response_bytes_default")]
    #[schemars(range(min = 1, max = 67_108_864))]
    pub response_bytes_max: usize,
    /// How long one attempt may take, such as `30s`. Defaults to the worker's default, one minute.
    #[serde(default, with = "protocol::duration::optional", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", extend("format" = "sortie-timeout"))]
    pub timeout: Option<Duration>,
    /// When and how often a failed attempt is tried again. Defaults to the worker's default, three attempts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Retry")]
    pub retry: Option<Retry>,
    /// JSON Schemas of input and output. Defaults to taking everything.
    #[serde(default)]
    pub schema: Schemas,
    /// Rate limit, circuit breaker, cache and retry rules around it. Defaults to none.
    #[serde(default, skip_serializing_if = "Layers::is_empty")]
    pub layers: Layers,
}

/// A method of HTTP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
#[allow(missing_docs, reason = "the names say it")]
pub enum Method {
    #[default]
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
}

/// What an answer's body is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Response {
    /// One JSON document; nothing at all is null.
    #[default]
    Json,
    /// Text.
    Text,
}

impl Definition {
    /// Reads a file, YAML or JSON.
    ///
    /// # Errors
    /// [`Error::Unreadable`], or [`Error::Faulty`] with every fault that was found.
    pub fn read(path: &Path) -> Result<Self, Error> {
        <Self as Document>::read(path)
    }

    /// Reads a text, YAML or JSON.
    ///
    /// # Errors
    /// Every fault that was found, in the order of the text; never an empty list.
    pub fn parse(text: &str) -> Result<Self, Vec<Fault>> {
        <Self as Document>::parse(text)
    }
}

impl Method {
    /// Whether the input is its body where nothing else is said.
    pub(crate) fn has_body(self) -> bool {
        matches!(self, Self::Post | Self::Put | Self::Patch)
    }
}

impl Document for Definition {
    const FORMATS: &'static [Format] = &[
        (
            "sortie-header",
            is_header,
            "is not a header that may be set: the agent sets host, length and idempotency key itself",
        ),
        (
            "sortie-template",
            is_template,
            "is not one line of text with places such as {order.id} or {page?} in it; a brace is written twice",
        ),
    ];

    fn check(located: &Located, faults: &mut Vec<Fault>) {
        let allow = located.value.get("allow_private").cloned().unwrap_or(Value::Bool(false));
        let allow: AllowPrivate = serde_json::from_value(allow).unwrap_or_default();
        let calls = located.value.get("capabilities").and_then(Value::as_object);
        for (name, call) in calls.into_iter().flatten() {
            let pointer = below("/capabilities", name);
            if let Some(url) = call.get("url").and_then(Value::as_str)
                && let Err(message) = check_url(url, &allow)
            {
                faults.push(located.fault(&format!("{pointer}/url"), message));
            }
            if let Some(body) = call.get("body")
                && let Err(message) = check_body(body)
            {
                faults.push(located.fault(&format!("{pointer}/body"), message));
            }
            check_schemas(located, &pointer, faults);
            // What is no layers at all is told by the schema.
            let layers = call.get("layers").and_then(|layers| Layers::deserialize(layers).ok()).unwrap_or_default();
            for (place, message) in layers.faults() {
                faults.push(located.fault(&format!("{pointer}/layers{place}"), message));
            }
        }
    }
}

fn check_url(text: &str, allow: &AllowPrivate) -> Result<(), String> {
    // What it says of a template as such is told by its format.
    let Ok(template) = Template::parse(text) else { return Ok(()) };
    if template.has_secret() {
        return Err("has a secret in it; those may stand in headers and in the query".to_owned());
    }
    let start = template.fixed_start();
    let scheme = ["https://", "http://"].into_iter().find(|scheme| start.starts_with(scheme));
    let Some(scheme) = scheme else { return Err("does not begin with https:// or http://".to_owned()) };
    let is_whole = start == text || start[scheme.len()..].contains(['/', '?']);
    if !is_whole {
        return Err("has a place in its host; places may stand after the first `/` behind it".to_owned());
    }
    let url = Url::parse(start).map_err(|error| format!("is not a URL: {error}"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("has a user in it; put it into a header, the password as secret://env/NAME".to_owned());
    }
    if text.contains('#') {
        return Err("has a fragment, which no service is told".to_owned());
    }
    allow.check(&url).map_err(|refused| refused.to_string())
}

fn check_body(body: &Value) -> Result<(), String> {
    match body {
        Value::String(word) if !matches!(word.as_str(), "input" | "none") => {
            Err(format!("`{word}` is neither `input` nor `none`, nor a mapping or a list"))
        }
        Value::String(_) => Ok(()),
        Value::Array(_) | Value::Object(_) => check_texts(body),
        _ => Err("is neither `input` nor `none`, nor a mapping or a list".to_owned()),
    }
}

fn check_texts(value: &Value) -> Result<(), String> {
    match value {
        Value::String(text) => {
            let template = Template::parse(text).map_err(|fault| format!("`{text}` {fault}"))?;
            if template.has_secret() {
                return Err(format!("`{text}` has a secret in it; those may stand in headers and in the query"));
            }
            Ok(())
        }
        Value::Array(items) => items.iter().try_for_each(check_texts),
        Value::Object(entries) => entries.values().try_for_each(check_texts),
        _ => Ok(()),
    }
}

fn is_header(text: &str) -> bool {
    HeaderName::from_bytes(text.as_bytes()).is_ok_and(|name| !OWN_HEADERS.contains(&name.as_str()))
}

fn is_template(text: &str) -> bool {
    Template::parse(text).is_ok() && HeaderValue::from_str(text).is_ok()
}

fn response_bytes_default() -> usize {
    RESPONSE_BYTES_DEFAULT
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(text: &str) -> Vec<String> {
        Definition::parse(text).unwrap_err().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_is_left_out_has_its_default() {
        let text = "{kind: shop, version: 1.0.0, capabilities: {a: {url: 'https://shop.example'}}}";
        let definition = Definition::parse(text).unwrap();
        let call = definition.capabilities.values().next().unwrap();
        assert_eq!((call.method, call.response, call.response_bytes_max), (Method::Get, Response::Json, 8 << 20));
        assert_eq!((definition.allow_private, call.body.clone()), (AllowPrivate::All(false), None));
    }

    #[test]
    fn all_faults_are_told_at_once_and_where() {
        let text = r#"kind: Shop
version: 1.0
allow_private: [10.0.0.1]
headers: {Host: x}
capabilities:
  a: {url: "ftp://shop.example"}
  b: {url: "https://{host}/x"}
  c: {url: "https://me:pw@shop.example/", metod: GET}
  d: {url: "http://127.0.0.1/{x}", method: BREW}
  e: {url: "http://10.0.0.1/{x", query: {q: "}"}, body: here}
  f: {url: "https://shop.example.{x}/", headers: {X-A: "a\nb", "a b": c}, body: {t: "secret://env/T"}}
  g: {url: "https://shop.example/?t=secret://env/T", response_bytes_max: 0, schema: {input: {type: strin}}}
  h: {url: "https://shop.example/#{x}"}
  i: {}
"#;
        insta::assert_snapshot!(faults(text).join("\n"));
    }
}
