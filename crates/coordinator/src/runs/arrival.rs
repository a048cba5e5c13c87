//! What begins a run, as it was found: a start, or a request for a capability that a workflow serves.

use broker::Delivery;
use bytes::Bytes;
use protocol::{
    Capability, Headers, Namespace, Request, RequestId, Subject, WorkflowName, request::Invalid, run::Start,
    time::Timestamp, topology::Source,
};

/// What begins a run.
pub(super) struct Arrival {
    pub(super) workflow: WorkflowName,
    /// What was asked for, where that is not the workflow itself.
    pub(super) capability: Option<Capability>,
    /// The queue that the request lies in; none for a start.
    pub(super) source: Option<Source>,
    /// What it says.
    pub(super) start: Result<Start, Invalid>,
    pub(super) headers: Headers,
    pub(super) body: Bytes,
    pub(super) published_at: Timestamp,
    /// Whether it was delivered before.
    pub(super) is_again: bool,
}

impl Arrival {
    /// A start; none where the subject is no start's.
    pub(super) fn of_start(namespace: &Namespace, delivery: &Delivery) -> Option<Self> {
        let Some(Subject::Start(workflow)) = Subject::parse(namespace, &delivery.message.subject) else { return None };
        let start = Start::read(&delivery.message.headers, RequestId::of_sequence(delivery.sequence));
        let capability = start.as_ref().ok().and_then(|start| start.capability.clone());
        Some(Self::new(workflow, capability, None, start, delivery))
    }

    /// A request for what this workflow serves; none where the subject is no request's.
    pub(super) fn of_request(namespace: &Namespace, workflow: &WorkflowName, delivery: &Delivery) -> Option<Self> {
        let (capability, source, fallback) = match Subject::parse(namespace, &delivery.message.subject)? {
            Subject::Request { lane, capability } => {
                (capability, Source::Lane(lane), RequestId::of_sequence(delivery.sequence))
            }
            Subject::Unique { capability, .. } => {
                (capability, Source::Unique, RequestId::of_unique_sequence(delivery.sequence))
            }
            _ => return None,
        };
        let lane = if let Source::Lane(lane) = source { lane } else { protocol::Lane::Normal };
        let request = Request::read(&delivery.message.headers, fallback);
        let start = request.and_then(|request| Start::of_request(request, capability.clone(), lane));
        Some(Self::new(workflow.clone(), Some(capability), Some(source), start, delivery))
    }

    fn new(
        workflow: WorkflowName,
        capability: Option<Capability>,
        source: Option<Source>,
        start: Result<Start, Invalid>,
        delivery: &Delivery,
    ) -> Self {
        Self {
            workflow,
            capability,
            source,
            start,
            headers: delivery.message.headers.clone(),
            body: delivery.message.body.clone(),
            published_at: delivery.published_at,
            is_again: delivery.delivered > 1,
        }
    }

    /// What its outcome and its letter speak of.
    pub(super) fn asked(&self) -> Option<Capability> {
        self.capability.clone().or_else(|| Capability::parse(self.workflow.as_str()).ok())
    }
}
