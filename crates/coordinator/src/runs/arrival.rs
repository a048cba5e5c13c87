//! What begins a run, as it was found: a start, or a request for a capability that a workflow serves.

use broker::{Delivery, StoredMessage};
use bytes::Bytes;
use protocol::{
    Capability, Headers, Namespace, Request, RequestId, Subject, WorkflowName, header,
    request::Invalid,
    run::{RunWaiting, Start},
    time::{self, Timestamp},
    topology::Source,
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
    sequence: u64,
    /// Whether it was delivered before.
    pub(super) is_again: bool,
}

/// A message wherever it was found.
struct Found {
    subject: String,
    headers: Headers,
    body: Bytes,
    published_at: Timestamp,
    sequence: u64,
    is_again: bool,
}

impl Arrival {
    /// A start; none where the subject is no start's.
    pub(super) fn of_start(namespace: &Namespace, delivery: &Delivery) -> Option<Self> {
        let Some(Subject::Start(workflow)) = Subject::parse(namespace, &delivery.message.subject) else { return None };
        Self::read(namespace, &workflow, delivery.into())
    }

    /// A request for what this workflow serves; none where the subject is no request's.
    pub(super) fn of_request(namespace: &Namespace, workflow: &WorkflowName, delivery: &Delivery) -> Option<Self> {
        Self::read(namespace, workflow, delivery.into())
    }

    /// Either, as it lies in its stream.
    pub(super) fn of_stored(namespace: &Namespace, workflow: &WorkflowName, stored: StoredMessage) -> Option<Self> {
        let StoredMessage { subject, sequence, time, headers, body, .. } = stored;
        Self::read(namespace, workflow, Found { subject, headers, body, published_at: time, sequence, is_again: true })
    }

    fn read(namespace: &Namespace, workflow: &WorkflowName, found: Found) -> Option<Self> {
        let by_sequence = RequestId::of_sequence(found.sequence);
        let (workflow, source, start) = match Subject::parse(namespace, &found.subject)? {
            Subject::Start(workflow) => (workflow, None, Start::read(&found.headers, by_sequence)),
            Subject::Request { lane, capability } => {
                let request = Request::read(&found.headers, by_sequence);
                let start = request.and_then(|request| Start::of_request(request, capability.clone(), lane));
                (workflow.clone(), Some((Source::Lane(lane), capability)), start)
            }
            Subject::Unique { capability, .. } => {
                let request = Request::read(&found.headers, RequestId::of_unique_sequence(found.sequence));
                let start =
                    request.and_then(|request| Start::of_request(request, capability.clone(), protocol::Lane::Normal));
                (workflow.clone(), Some((Source::Unique, capability)), start)
            }
            _ => return None,
        };
        let (source, asked) = source.unzip();
        let capability = asked.or_else(|| start.as_ref().ok().and_then(|start| start.capability.clone()));
        let Found { headers, body, published_at, sequence, is_again, .. } = found;
        Some(Self { workflow, capability, source, start, headers, body, published_at, sequence, is_again })
    }

    /// What its outcome and its letter speak of.
    pub(super) fn asked(&self) -> Option<Capability> {
        self.capability.clone().or_else(|| Capability::parse(self.workflow.as_str()).ok())
    }

    /// Where it stands among those that wait for a place. What was put aside came when the request did that it was.
    pub(super) fn in_line(&self, start: &Start) -> RunWaiting {
        let asked_at = self.headers.get(header::ASKED_AT).filter(|_| self.capability.is_some());
        RunWaiting {
            at: asked_at.and_then(|text| time::parse(text).ok()).unwrap_or(self.published_at),
            sequence: self.sequence,
            is_unique: self.source == Some(Source::Unique),
            run: start.run.clone(),
        }
    }
}

impl From<&Delivery> for Found {
    fn from(delivery: &Delivery) -> Self {
        Self {
            subject: delivery.message.subject.clone(),
            headers: delivery.message.headers.clone(),
            body: delivery.message.body.clone(),
            published_at: delivery.published_at,
            sequence: delivery.sequence,
            is_again: delivery.delivered > 1,
        }
    }
}
