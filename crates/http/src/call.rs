//! One capability's call: from an input to what the service answers.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use process::settings::Secret;
use protocol::{Capability, Failure};
use reqwest::{
    Client, Method, Url,
    header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue},
};
use serde_json::Value;

use crate::{
    address::AllowPrivate,
    answer, client,
    definition::{self, CallDefinition, Definition},
    template::{Template, fill_value, invalid},
};

/// Makes the calls of one capability.
#[derive(Clone, Debug)]
pub struct Caller {
    client: Client,
    allow: Arc<AllowPrivate>,
    method: definition::Method,
    url: Template,
    host: String,
    query: Vec<(String, Template)>,
    headers: Vec<(HeaderName, Template)>,
    body: Body,
    response: definition::Response,
    response_bytes_max: usize,
}

/// What identifies a call to the service.
#[derive(Clone, Debug, Default)]
pub struct Identity {
    /// The same for every attempt of a request; goes as `Idempotency-Key`.
    pub idempotency_key: String,
    /// The caller's trace.
    pub traceparent: Option<String>,
}

#[derive(Clone, Debug)]
enum Body {
    None,
    Input,
    Shape(Value),
}

impl Caller {
    /// Makes the callers of a whole definition.
    ///
    /// # Errors
    /// Everything that stands against serving it here, a sentence each: secrets whose variable is not set.
    pub fn all(
        definition: &Definition,
        secret: &dyn Fn(&str) -> Option<Secret>,
    ) -> Result<BTreeMap<Capability, Self>, Vec<String>> {
        let allow = Arc::new(definition.allow_private.clone());
        let agent = format!("sortie-{}/{}", definition.kind, definition.version);
        let client = |has_secrets| client::build(&allow, has_secrets, &agent);
        let (open, guarded) = match (client(false), client(true)) {
            (Ok(open), Ok(guarded)) => (open, guarded),
            (Err(obstacle), _) | (_, Err(obstacle)) => return Err(vec![obstacle]),
        };
        let mut callers = BTreeMap::new();
        let mut obstacles = BTreeSet::new();
        for (capability, call) in &definition.capabilities {
            match Self::new(definition, call, &allow, secret, [&open, &guarded]) {
                Ok(caller) => drop(callers.insert(capability.clone(), caller)),
                Err(all) => obstacles.extend(all),
            }
        }
        if obstacles.is_empty() { Ok(callers) } else { Err(obstacles.into_iter().collect()) }
    }

    fn new(
        definition: &Definition,
        call: &CallDefinition,
        allow: &Arc<AllowPrivate>,
        secret: &dyn Fn(&str) -> Option<Secret>,
        [open, guarded]: [&Client; 2],
    ) -> Result<Self, Vec<String>> {
        let mut obstacles = Vec::new();
        let mut unknown = Vec::new();
        let mut template = |text: &str| match Template::parse(text) {
            Ok(template) => template.with_secrets(secret, &mut unknown),
            Err(fault) => {
                obstacles.push(format!("`{text}` {fault}"));
                Template::default()
            }
        };
        let url = template(&call.url);
        let query: Vec<_> = call.query.iter().map(|(name, text)| (name.clone(), template(text))).collect();
        // What a call says goes before what all calls say.
        let mut headers = BTreeMap::new();
        for (name, text) in definition.headers.iter().chain(&call.headers) {
            headers.insert(name.to_ascii_lowercase(), template(text));
        }
        let headers: Vec<_> = headers
            .into_iter()
            .filter_map(|(name, template)| Some((HeaderName::from_bytes(name.as_bytes()).ok()?, template)))
            .collect();
        let host = Url::parse(url.fixed_start()).ok().and_then(|url| url.host_str().map(str::to_owned));
        obstacles.extend(unknown.iter().map(|name| format!("variable {name}, which a secret refers to, is not set")));
        if !obstacles.is_empty() {
            return Err(obstacles);
        }
        let templates = query.iter().map(|(_, template)| template).chain(headers.iter().map(|(_, template)| template));
        let has_secrets = templates.into_iter().any(Template::has_secret);
        Ok(Self {
            client: if has_secrets { guarded.clone() } else { open.clone() },
            allow: Arc::clone(allow),
            method: call.method,
            host: host.unwrap_or_default(),
            url,
            query,
            headers,
            body: match &call.body {
                None if call.method.has_body() => Body::Input,
                None => Body::None,
                Some(Value::String(word)) if word == "input" => Body::Input,
                Some(Value::String(_)) => Body::None,
                Some(shape) => Body::Shape(shape.clone()),
            },
            response: call.response,
            response_bytes_max: call.response_bytes_max,
        })
    }

    /// Makes the call.
    ///
    /// # Errors
    /// `invalid_input` where the input does not fill the call's places, `address_refused`, `http_unreachable`,
    /// `http_status` with status and the beginning of the body, `http_body_invalid`, `result_too_large`.
    pub async fn call(&self, input: &Value, identity: &Identity) -> Result<Value, Failure> {
        let url = self.url(input)?;
        self.allow
            .check(&url)
            .map_err(|refused| Failure::new(protocol::codes::ADDRESS_REFUSED, refused.to_string()))?;
        let mut request = self.client.request(method(self.method), url).headers(self.headers(input, identity)?);
        match &self.body {
            Body::None => {}
            Body::Input => request = request.body(serde_json::to_vec(input)?),
            Body::Shape(shape) => request = request.body(serde_json::to_vec(&fill_value(shape, input)?)?),
        }
        let response = request.send().await.map_err(answer::unreachable)?;
        answer::read(response, self.response, self.response_bytes_max).await
    }

    fn url(&self, input: &Value) -> Result<Url, Failure> {
        let filled = self.url.fill_url(input)?;
        let mut url = Url::parse(&filled).map_err(|error| invalid(format!("the input makes no URL: {error}")))?;
        // No field can reach the host; this is the second lock on that door.
        if url.host_str() != Some(&self.host) {
            return Err(invalid("the input would lead to another host".to_owned()));
        }
        for (name, template) in &self.query {
            if let Some(value) = template.fill(input)? {
                url.query_pairs_mut().append_pair(name, &value);
            }
        }
        Ok(url)
    }

    fn headers(&self, input: &Value, identity: &Identity) -> Result<HeaderMap, Failure> {
        let mut headers = HeaderMap::new();
        if self.response == definition::Response::Json {
            headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        }
        if !matches!(self.body, Body::None) {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        for (name, template) in &self.headers {
            let Some(text) = template.fill(input)? else { continue };
            let value = HeaderValue::from_str(&text);
            // The text may have a secret in it, so it is not shown.
            let mut value = value.map_err(|_| invalid(format!("header {name} would have a forbidden character")))?;
            value.set_sensitive(template.has_secret());
            headers.insert(name.clone(), value);
        }
        let own = [
            ("idempotency-key", Some(identity.idempotency_key.as_str())),
            ("traceparent", identity.traceparent.as_deref()),
        ];
        for (name, value) in own {
            if let Some(value) = value.and_then(|value| HeaderValue::from_str(value).ok()) {
                headers.insert(name, value);
            }
        }
        Ok(headers)
    }
}

fn method(method: definition::Method) -> Method {
    match method {
        definition::Method::Get => Method::GET,
        definition::Method::Head => Method::HEAD,
        definition::Method::Post => Method::POST,
        definition::Method::Put => Method::PUT,
        definition::Method::Patch => Method::PATCH,
        definition::Method::Delete => Method::DELETE,
    }
}

#[cfg(test)]
#[path = "call_tests.rs"]
mod tests;
