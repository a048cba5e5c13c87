//! A request as its headers tell it. The body is the caller's own; a message without any header is complete.

use std::{str::FromStr, time::Duration};

use crate::{
    AttemptRecord, Backoff, Capability, ContentType, Failure, Headers, Namespace, Origin, RequestId, RetryPolicy,
    RunId, StepName, Subject, codes, duration, header, limits, retry,
    time::{self, Timestamp},
};

/// W3C trace context as it rides in headers; handed on, never interpreted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TraceContext {
    /// `traceparent`.
    pub parent: Option<String>,
    /// `tracestate`.
    pub state: Option<String>,
    /// `baggage`.
    pub baggage: Option<String>,
}

/// Where in a run's log a step's outcome goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepAddress {
    /// The fleet of the run.
    pub namespace: Namespace,
    /// The run.
    pub run: RunId,
    /// The step.
    pub step: StepName,
    /// The item or turn, else 0.
    pub item: u64,
}

/// What the headers of a request say; where they are silent, the worker's own declaration counts.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// Its identity.
    pub id: RequestId,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// How often it was put off.
    pub snoozes: u32,
    /// The code of what it was put off for, last: `rate_limited`, `circuit_open`.
    pub snoozed_for: Option<String>,
    /// The capabilities that handed it over, first to last.
    pub came_from: Vec<Capability>,
    /// Attempts in all, if the request says.
    pub attempts_max: Option<u32>,
    /// The wait between them, if the request says.
    pub backoff: Option<Backoff>,
    /// For one attempt, if the request says.
    pub timeout: Option<Duration>,
    /// After which nobody should start or finish it.
    pub deadline: Option<Timestamp>,
    /// Where its outcome goes instead of the outcome stream.
    pub reply_to: Option<StepAddress>,
    /// Who asked for it.
    pub parent: Option<String>,
    /// The request that this one does again.
    pub replay_of: Option<RequestId>,
    /// How the body is encoded.
    pub content_type: ContentType,
    /// The object that holds the body.
    pub payload_ref: Option<String>,
    /// Trace context.
    pub trace: TraceContext,
    /// The failed attempts so far.
    pub failures: Vec<AttemptRecord>,
}

/// A message whose headers lie: it has an outcome all the same, under the id of its sequence.
#[derive(Clone, Debug, PartialEq)]
pub struct Invalid {
    /// `seq-<n>`, or `useq-<n>`.
    pub id: RequestId,
    /// What is wrong, code `invalid_header`.
    pub failure: Failure,
}

impl TraceContext {
    /// Reads the three headers.
    pub fn read(headers: &Headers) -> Self {
        let text = |name| headers.get(name).map(str::to_owned);
        Self { parent: text(header::TRACEPARENT), state: text(header::TRACESTATE), baggage: text(header::BAGGAGE) }
    }

    /// Writes those of the three that are there.
    pub fn write(&self, headers: &mut Headers) {
        let pairs =
            [(header::TRACEPARENT, &self.parent), (header::TRACESTATE, &self.state), (header::BAGGAGE, &self.baggage)];
        for (name, value) in pairs {
            if let Some(value) = value {
                headers.set(name, value.as_str());
            }
        }
    }
}

impl Request {
    /// A request of which nothing but the id is known.
    pub fn new(id: RequestId) -> Self {
        Self {
            id,
            attempt: 1,
            snoozes: 0,
            snoozed_for: None,
            came_from: Vec::new(),
            attempts_max: None,
            backoff: None,
            timeout: None,
            deadline: None,
            reply_to: None,
            parent: None,
            replay_of: None,
            content_type: ContentType::default(),
            payload_ref: None,
            trace: TraceContext::default(),
            failures: Vec::new(),
        }
    }

    /// Reads what a received message says. `fallback` is the id by the message's sequence: the id of whatever names
    /// none, and always that of unique work.
    ///
    /// # Errors
    /// [`Invalid`] where a header of ours does not say what it may say; all faults are named.
    pub fn read(headers: &Headers, fallback: RequestId) -> Result<Self, Invalid> {
        let mut faults = Vec::new();
        if let Err(fault) = headers.check() {
            faults.push(fault);
        }
        let mut request = Self::new(fallback.clone());
        let reply_to = field(headers, header::REPLY_TO, &mut faults, parse_step_address);
        match resolve_id(headers, &fallback, reply_to.as_ref()) {
            Ok(id) => request.id = id,
            Err(fault) => faults.push(fault),
        }
        request.reply_to = reply_to;
        request.attempt = field(headers, header::ATTEMPT, &mut faults, retry::parse_attempts).unwrap_or(1);
        request.snoozes = field(headers, header::SNOOZES, &mut faults, parse_number).unwrap_or(0);
        request.snoozed_for = field(headers, header::SNOOZED_FOR, &mut faults, parse_code);
        request.came_from = field(headers, header::CAME_FROM, &mut faults, parse_capabilities).unwrap_or_default();
        request.attempts_max = field(headers, header::MAX_ATTEMPTS, &mut faults, retry::parse_attempts);
        request.backoff = field(headers, header::BACKOFF, &mut faults, Backoff::from_str);
        request.timeout = field(headers, header::TIMEOUT, &mut faults, parse_timeout);
        request.deadline = field(headers, header::DEADLINE, &mut faults, time::parse);
        request.parent = field(headers, header::PARENT, &mut faults, parse_short_text);
        request.replay_of = field(headers, header::REPLAY_OF, &mut faults, parse_id);
        request.payload_ref = field(headers, header::PAYLOAD_REF, &mut faults, parse_object_name);
        request.failures = field(headers, header::FAILURES, &mut faults, parse_failures).unwrap_or_default();
        request.content_type = ContentType::read(headers.get(header::CONTENT_TYPE));
        request.trace = TraceContext::read(headers);
        if faults.is_empty() {
            return Ok(request);
        }
        Err(Invalid { id: fallback, failure: Failure::new(codes::INVALID_HEADER, faults.join("; ")) })
    }

    /// Writes every header that this request needs, over whatever of them is already there.
    pub fn write(&self, headers: &mut Headers) {
        headers.set(header::REQUEST_ID, self.id.as_str());
        let mut optional = |name: &str, value: Option<String>| match value {
            Some(value) => headers.set(name, value),
            None => headers.remove(name),
        };
        optional(header::ATTEMPT, (self.attempt > 1).then(|| self.attempt.to_string()));
        optional(header::SNOOZES, (self.snoozes > 0).then(|| self.snoozes.to_string()));
        optional(header::SNOOZED_FOR, self.snoozed_for.clone());
        let came_from: Vec<&str> = self.came_from.iter().map(Capability::as_str).collect();
        optional(header::CAME_FROM, (!came_from.is_empty()).then(|| came_from.join(",")));
        optional(header::MAX_ATTEMPTS, self.attempts_max.map(|number| number.to_string()));
        optional(header::BACKOFF, self.backoff.map(|backoff| backoff.to_string()));
        optional(header::TIMEOUT, self.timeout.map(duration::format));
        optional(header::DEADLINE, self.deadline.map(time::format));
        optional(header::REPLY_TO, self.reply_to.as_ref().map(StepAddress::subject));
        optional(header::PARENT, self.parent.clone());
        optional(header::REPLAY_OF, self.replay_of.as_ref().map(ToString::to_string));
        optional(header::PAYLOAD_REF, self.payload_ref.clone());
        let failures = (!self.failures.is_empty()).then(|| serde_json::to_string(&self.failures).ok()).flatten();
        optional(header::FAILURES, failures);
        let content_type = (self.content_type != ContentType::Json).then(|| self.content_type.to_string());
        optional(header::CONTENT_TYPE, content_type);
        self.trace.write(headers);
    }

    /// The policy that holds: the request's word before the capability's.
    pub fn policy(&self, declared: &RetryPolicy) -> RetryPolicy {
        RetryPolicy {
            attempts_max: self.attempts_max.unwrap_or(declared.attempts_max),
            backoff: self.backoff.unwrap_or(declared.backoff),
        }
    }
}

impl StepAddress {
    /// The step's request.
    pub fn request(&self) -> RequestId {
        RequestId::of_step(&self.run, &self.step, self.item)
    }

    /// The subject that publishers write: `<ns>.run.<run>.step.<step>.<n>.outcome`.
    pub fn subject(&self) -> String {
        let subject = Subject::StepOutcome { run: self.run.clone(), step: self.step.clone(), item: self.item };
        subject.render(&self.namespace)
    }
}

fn field<T>(
    headers: &Headers,
    name: &str,
    faults: &mut Vec<String>,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Option<T> {
    match parse(headers.get(name)?) {
        Ok(value) => Some(value),
        Err(fault) => {
            faults.push(format!("{name}: {fault}"));
            None
        }
    }
}

/// `Sortie-Request-Id`, else a valid `Nats-Msg-Id`, else the sequence. Ids that the fleet gives are accepted where they
/// are what the fleet would have given: a retry carries `seq-…`, a step request its step's id.
fn resolve_id(headers: &Headers, fallback: &RequestId, reply_to: Option<&StepAddress>) -> Result<RequestId, String> {
    if matches!(fallback.origin(), Origin::UniqueSequence(_)) {
        return Ok(fallback.clone());
    }
    if let Some(address) = reply_to {
        let id = address.request();
        let named = headers.get(header::REQUEST_ID);
        return match named {
            Some(named) if named != id.as_str() => Err(format!(
                "{}: `{}` does not belong to its reply-to",
                header::REQUEST_ID,
                limits::truncate(named, 80)
            )),
            _ => Ok(id),
        };
    }
    if let Some(text) = headers.get(header::REQUEST_ID) {
        let came_from_schedule = headers.get(header::NATS_SCHEDULER).is_some();
        let id = parse_id(text).map_err(|fault| format!("{}: {fault}", header::REQUEST_ID))?;
        if came_from_schedule && matches!(id.origin(), Origin::Sequence(_)) {
            return Ok(id);
        }
        return RequestId::from_client(text).map_err(|fault| format!("{}: {fault}", header::REQUEST_ID));
    }
    let by_message_id = headers.get(header::NATS_MSG_ID).and_then(|text| RequestId::from_client(text).ok());
    Ok(by_message_id.unwrap_or_else(|| fallback.clone()))
}

fn parse_id(text: &str) -> Result<RequestId, String> {
    RequestId::parse(text).map_err(|error| error.to_string())
}

fn parse_number(text: &str) -> Result<u32, String> {
    text.trim().parse().map_err(|_| format!("`{}` is not a number from 0", limits::truncate(text, 40)))
}

fn parse_timeout(text: &str) -> Result<Duration, String> {
    let timeout = duration::parse(text)?;
    if timeout.is_zero() || timeout > limits::TIMEOUT_MAX {
        return Err(format!("`{text}` is not from 1ms to {}", duration::format(limits::TIMEOUT_MAX)));
    }
    Ok(timeout)
}

fn parse_short_text(text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > 2 * limits::ID_BYTES_MAX {
        return Err(format!("has {} bytes; 1 to {} are allowed", text.len(), 2 * limits::ID_BYTES_MAX));
    }
    Ok(text.to_owned())
}

fn parse_code(text: &str) -> Result<String, String> {
    let is_code = !text.is_empty() && text.len() <= limits::CODE_BYTES_MAX;
    is_code.then(|| text.to_owned()).ok_or_else(|| format!("is not a code of 1 to {} bytes", limits::CODE_BYTES_MAX))
}

fn parse_capabilities(text: &str) -> Result<Vec<Capability>, String> {
    let names: Result<Vec<Capability>, _> = text.split(',').map(|name| Capability::parse(name.trim())).collect();
    let names = names.map_err(|error| error.to_string())?;
    if names.len() > limits::FALLBACKS_MAX {
        return Err(format!("names {} capabilities; {} are allowed", names.len(), limits::FALLBACKS_MAX));
    }
    Ok(names)
}

fn parse_object_name(text: &str) -> Result<String, String> {
    let is_name =
        !text.is_empty() && text.len() <= limits::ID_BYTES_MAX && text.bytes().all(|byte| byte.is_ascii_graphic());
    is_name.then(|| text.to_owned()).ok_or_else(|| "is not the name of an object".to_owned())
}

fn parse_failures(text: &str) -> Result<Vec<AttemptRecord>, String> {
    let read: Result<Vec<AttemptRecord>, _> = serde_json::from_str(text);
    let mut attempts = read.map_err(|error| format!("is not a list of attempts: {error}"))?;
    attempts.truncate(limits::ATTEMPT_RECORDS_MAX);
    for attempt in &mut attempts {
        attempt.bound(limits::ATTEMPT_MESSAGE_BYTES_MAX);
    }
    Ok(attempts)
}

pub(crate) fn parse_step_address(text: &str) -> Result<StepAddress, String> {
    let refused = || format!("`{}` is not <namespace>.run.<run>.step.<step>.<n>.outcome", limits::truncate(text, 120));
    let tokens: Vec<&str> = text.split('.').collect();
    let [namespace, "run", run, "step", step, item, "outcome"] = tokens.as_slice() else { return Err(refused()) };
    let namespace = Namespace::parse(namespace).map_err(|error| error.to_string())?;
    let run = RunId::parse(run).map_err(|error| error.to_string())?;
    let step = StepName::parse(step).map_err(|error| error.to_string())?;
    let item = item.parse().map_err(|_| refused())?;
    Ok(StepAddress { namespace, run, step, item })
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
