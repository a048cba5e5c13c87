//! What a step asks, as a message: of an agent, or the start of a sub-run.

use broker::{Error, PayloadStore};
use bytes::Bytes;
use protocol::{
    ContentType, Headers, Request, RequestId, StepAddress, Subject, header,
    run::{Start, sub_run_of},
    time,
};
use workflow::{Command, Payload, command::Order, plan::Target};

use super::carry::Carrier;

/// A message that is to be published once.
pub(super) struct Asked {
    /// The step's request: where its outcome goes follows from it.
    pub(super) id: RequestId,
    pub(super) subject: String,
    pub(super) headers: Headers,
    pub(super) input: Payload,
}

/// What an order to ask says on the wire.
pub(super) fn asked(carrier: &Carrier<'_>, command: &Command) -> Option<Asked> {
    let Order::Ask { step, item, target, input, lane, timeout, deadline, retry } = &command.order else { return None };
    let (log, namespace) = (carrier.log, carrier.means.post.namespace());
    let run = log.state.run();
    let id = RequestId::of_step(run, step, *item);
    let reply_to = StepAddress { namespace: namespace.clone(), run: run.clone(), step: step.clone(), item: *item };
    let mut request = Request::new(id.clone());
    request.deadline = *deadline;
    request.trace = log.trace.clone();
    let mut headers = Headers::new();
    let subject = match target {
        Target::Capability(capability) => {
            request.timeout = *timeout;
            request.attempts_max = retry.as_ref().map(|policy| policy.attempts_max);
            request.backoff = retry.as_ref().map(|policy| policy.backoff);
            request.parent = Some(run.to_string());
            request.reply_to = Some(reply_to);
            request.write(&mut headers);
            if let Some(at) = log.stored_at(command.cause) {
                headers.set(header::READY_AT, time::format(at));
            }
            Subject::Request { lane: *lane, capability: capability.clone() }
        }
        Target::Workflow(workflow) => {
            let sub_run = sub_run_of(&id);
            request.id = RequestId::from(&sub_run);
            request.parent = Some(id.to_string());
            let start = Start {
                request,
                run: sub_run,
                reply_to: Some(reply_to),
                lane: *lane,
                capability: None,
                retry_of: None,
                retry_from: None,
            };
            start.write(&mut headers);
            Subject::Start(workflow.clone())
        }
    };
    let depth = log.began.as_ref().map_or(0, |began| began.depth).saturating_add(1);
    headers.set(header::DEPTH, depth.to_string());
    // The broker remembers it for two minutes, so that whoever takes over queues no step twice.
    let message_id = headers.get(header::REQUEST_ID).unwrap_or(id.as_str()).to_owned();
    headers.set(header::NATS_MSG_ID, message_id);
    Some(Asked { id, subject: subject.render(namespace), headers, input: input.clone() })
}

/// The body of a payload, with the headers that tell of it. A large one is stored under this name, and once however often
/// this is done.
pub(super) async fn with_body(
    payloads: &PayloadStore,
    name: &str,
    payload: &Payload,
) -> Result<(Headers, Bytes), Error> {
    let mut headers = Headers::new();
    match payload {
        Payload::Held { reference, content_type } => {
            headers.set(header::PAYLOAD_REF, reference);
            headers.set(header::CONTENT_TYPE, content_type);
            Ok((headers, Bytes::new()))
        }
        Payload::Value(value) => {
            headers.set(header::CONTENT_TYPE, ContentType::Json.as_str());
            let outgoing = broker::Outgoing::new("", value.to_string()).with_headers(headers);
            let light = payloads.lighten_as(name, outgoing).await?;
            Ok((light.headers, light.body))
        }
    }
}
