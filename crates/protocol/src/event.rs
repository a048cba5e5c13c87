//! Events in the CloudEvents NATS binding (binary mode): attributes in `ce-` headers, data as JSON body.

use crate::{
    ContentType, Headers, header,
    time::{self, Timestamp},
};

/// Above the topics of agents.
pub const AGENT: &str = "sys.agent";
/// The topic of an agent that became ready: `sys.agent.joined.<instance>`.
pub const AGENT_JOINED: &str = "sys.agent.joined";
/// The topic of an agent that is there no more: `sys.agent.gone.<instance>`.
pub const AGENT_GONE: &str = "sys.agent.gone";
/// The topic of a request that was given up: `sys.request.dead.<request-id>`.
pub const REQUEST_DEAD: &str = "sys.request.dead";
/// The topic of a capability that has work and nobody who serves it: `sys.capability.unserved.<capability>`.
pub const CAPABILITY_UNSERVED: &str = "sys.capability.unserved";
/// The topic of a circuit breaker that opened: `sys.breaker.opened.<name>`.
pub const BREAKER_OPENED: &str = "sys.breaker.opened";
/// The topic of a recurring schedule's firing that was skipped: `sys.cron.skipped.<name>`.
pub const CRON_SKIPPED: &str = "sys.cron.skipped";

/// Above the topics of runs that have ended: `sys.run.<workflow>.<status>.<run>`.
pub const RUN: &str = "sys.run";

/// The headers of an event. `id` is unique per `source`; the topic is also its type.
pub fn headers(id: &str, source: &str, topic: &str, at: Timestamp) -> Headers {
    let mut headers = Headers::new();
    headers.push("ce-specversion", "1.0");
    headers.push("ce-id", id);
    headers.push("ce-source", source);
    headers.push("ce-type", format!("sortie.{topic}"));
    headers.push("ce-time", time::format(at));
    headers.push(header::CONTENT_TYPE, ContentType::Json.as_str());
    headers
}
