//! Starting a run.

use std::time::Duration;

use broker::{Kind, Outgoing};
use chrono::TimeDelta;
use protocol::{
    ContentType, Headers, Lane, Outcome, Request, RequestId, RunId, StepName, Subject, TraceContext, WorkflowName,
    accepted::{Accepted, Asked},
    limits,
    run::Start,
    time::Timestamp,
};
use serde::Serialize;

use super::PUBLISH_WITHIN;
use crate::{AcceptedFile, Client, Error, ErrorKind, receipt::Acceptance};

/// What is known of a run whose start was handed over.
#[derive(Clone, Debug)]
pub struct StartedRun {
    client: Client,
    run: RunId,
    acceptance: Acceptance,
}

/// A start that is being put together.
#[derive(Debug)]
#[must_use = "nothing is started until it is submitted"]
pub struct StartBuilder<'a> {
    client: &'a Client,
    workflow: WorkflowName,
    input: Result<Vec<u8>, String>,
    content_type: ContentType,
    id: Option<RunId>,
    lane: Lane,
    deadline: Option<Deadline>,
    retry: Option<(RunId, Option<StepName>)>,
    parent: Option<String>,
    trace: TraceContext,
    noted_in: Option<AcceptedFile>,
}

#[derive(Clone, Copy, Debug)]
enum Deadline {
    At(Timestamp),
    After(Duration),
}

impl Client {
    /// Begins to put together the start of a run of a workflow with this input.
    pub fn start(&self, workflow: &WorkflowName, input: &(impl Serialize + ?Sized)) -> StartBuilder<'_> {
        let encoded = serde_json::to_vec(input).map_err(|error| error.to_string());
        StartBuilder::new(self, workflow, encoded, ContentType::Json)
    }

    /// Begins to put together a run that does another one again, with that one's input: what had completed is taken over, but
    /// for a step, if one is named, and whatever depends on it.
    pub fn retry_run(&self, workflow: &WorkflowName, of: &RunId, from: Option<&StepName>) -> StartBuilder<'_> {
        StartBuilder::new(self, workflow, Ok(Vec::new()), ContentType::Json).retry_of(of, from)
    }

    /// As [`start`](Self::start) with an input that is encoded already.
    pub fn start_encoded(
        &self,
        workflow: &WorkflowName,
        input: Vec<u8>,
        content_type: ContentType,
    ) -> StartBuilder<'_> {
        StartBuilder::new(self, workflow, Ok(input), content_type)
    }
}

impl<'a> StartBuilder<'a> {
    fn new(
        client: &'a Client,
        workflow: &WorkflowName,
        input: Result<Vec<u8>, String>,
        content_type: ContentType,
    ) -> Self {
        Self {
            client,
            workflow: workflow.clone(),
            input,
            content_type,
            id: None,
            lane: Lane::default(),
            deadline: None,
            retry: None,
            parent: None,
            trace: TraceContext::default(),
            noted_in: None,
        }
    }

    /// Under this id: whoever starts it again under the same id starts nothing new. Defaults to a new one.
    pub fn id(mut self, run: &RunId) -> Self {
        self.id = Some(run.clone());
        self
    }

    /// The lane of its steps where they name none. Defaults to normal.
    pub fn lane(mut self, lane: Lane) -> Self {
        self.lane = lane;
        self
    }

    /// Until when it must be done.
    pub fn deadline_at(mut self, deadline: Timestamp) -> Self {
        self.deadline = Some(Deadline::At(deadline));
        self
    }

    /// How long it may take, from now on, by the broker's clock.
    pub fn deadline(mut self, within: Duration) -> Self {
        self.deadline = Some(Deadline::After(within));
        self
    }

    /// As another run done again: what that one had done is taken over, up to what failed or to a step.
    pub fn retry_of(mut self, run: &RunId, from: Option<&StepName>) -> Self {
        self.retry = Some((run.clone(), from.cloned()));
        self
    }

    /// Who asks for it.
    pub fn parent(mut self, parent: impl Into<String>) -> Self {
        self.parent = Some(parent.into());
        self
    }

    /// Trace context to hand on.
    pub fn trace(mut self, trace: TraceContext) -> Self {
        self.trace = trace;
        self
    }

    /// Notes it in this file as soon as the broker has acknowledged it.
    pub fn noted_in(mut self, file: &AcceptedFile) -> Self {
        self.noted_in = Some(file.clone());
        self
    }

    /// Hands the start over to the broker: when this returns, it is stored.
    ///
    /// # Errors
    /// `Invalid` and `TooLarge` before anything is sent, `StreamsMissing`, `StoreFull`, `Forbidden`. After `TimedOut` it may
    /// be stored: start it again under [`Error::request`] to be sure.
    pub async fn submit(self) -> Result<StartedRun, Error> {
        let id = self.id_to_be()?;
        self.submit_as(id).await
    }

    /// Starts it, and waits for its outcome this long from then on. It listens before it publishes, so that this costs the
    /// broker less than [`submit`](Self::submit) and a wait after it.
    ///
    /// # Errors
    /// Those of [`submit`](Self::submit); `Pending` when there is no outcome in time: the run goes on.
    pub async fn call(self, within: Duration) -> Result<Outcome, Error> {
        let (client, id) = (self.client, self.id_to_be()?);
        let listening = client.listen(&id).await?;
        let started = self.submit_as(id.clone()).await?;
        started.acceptance.heard_by(client, &id, listening, within).await
    }

    fn id_to_be(&self) -> Result<RequestId, Error> {
        match &self.id {
            Some(run) => Ok(RequestId::from_client(run.as_str())?),
            None => Ok(RequestId::generate()),
        }
    }

    async fn submit_as(self, id: RequestId) -> Result<StartedRun, Error> {
        let client = self.client.clone();
        let run = RunId::parse(id.as_str())?;
        if self.id.is_some()
            && let Some(outcome) = client.outcome(&id).await?
        {
            return Ok(StartedRun { client, run, acceptance: Acceptance::Done(outcome) });
        }
        let noted = match self.noted_in.clone() {
            Some(file) => Some((file, client.now().await?, Asked::Start(self.workflow.clone()))),
            None => None,
        };
        let outgoing = self.outgoing(&id, &run).await.map_err(|error| error.about(&id))?;
        // A start that is stored twice begins one run all the same; this only spares the second look.
        let outgoing = outgoing.with_message_id(id.as_str());
        let stream = client.names().requests.clone();
        let acceptance = match client.publisher().publish_within(&outgoing, PUBLISH_WITHIN).await {
            Ok(stored) => Acceptance::of(stored),
            Err(error) => {
                return Err(client.explained(error, &stream).await.during("not started for certain").about(&id));
            }
        };
        if let Some((file, at, asked)) = noted {
            file.note(&Accepted { id, asked, stream, sequence: acceptance.sequence(), at })?;
        }
        Ok(StartedRun { client, run, acceptance })
    }

    async fn outgoing(self, id: &RequestId, run: &RunId) -> Result<Outgoing, Error> {
        let input = self.input.map_err(|fault| Error::invalid(format!("the input cannot be encoded: {fault}")))?;
        if input.len() > limits::BODY_BYTES_MAX {
            let message = format!("the input has {} bytes; {} are allowed", input.len(), limits::BODY_BYTES_MAX);
            return Err(Error::new(ErrorKind::TooLarge, message));
        }
        let mut request = Request::new(id.clone());
        request.deadline = match self.deadline {
            Some(Deadline::At(at)) => Some(at),
            Some(Deadline::After(within)) => {
                let within = within.min(protocol::duration::DURATION_MAX);
                let within = TimeDelta::from_std(within).map_err(|error| Error::invalid(error.to_string()))?;
                Some(self.client.now().await? + within)
            }
            None => None,
        };
        request.content_type = self.content_type;
        request.parent = self.parent;
        request.trace = self.trace;
        let (retry_of, retry_from) = self.retry.map_or((None, None), |(run, from)| (Some(run), from));
        let start = Start {
            request,
            run: run.clone(),
            reply_to: None,
            lane: self.lane,
            capability: None,
            retry_of,
            retry_from,
        };
        let mut headers = Headers::new();
        start.write(&mut headers);
        headers.check().map_err(|fault| Error::new(ErrorKind::TooLarge, fault))?;
        let subject = Subject::Start(self.workflow).render(self.client.namespace());
        let outgoing = Outgoing::new(subject, input).with_headers(headers);
        let lightened = self.client.payloads().lighten(outgoing).await;
        lightened.map_err(|error| match error.kind() {
            Kind::TooLarge => Error::new(ErrorKind::TooLarge, error.to_string()),
            _ => error.into(),
        })
    }
}

impl StartedRun {
    /// The run.
    pub fn run(&self) -> &RunId {
        &self.run
    }

    /// How the broker took its start.
    pub fn acceptance(&self) -> &Acceptance {
        &self.acceptance
    }

    /// Waits for its outcome, at most this long.
    ///
    /// # Errors
    /// `Pending` when there is none in time: the run goes on. Else those of [`Client::wait`].
    pub async fn outcome(&self, within: Duration) -> Result<Outcome, Error> {
        match &self.acceptance {
            Acceptance::Done(outcome) => Ok(outcome.clone()),
            _ => self.client.wait(&RequestId::from(&self.run), within).await,
        }
    }
}
