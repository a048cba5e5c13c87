//! What becomes of one start: the run's first fact, or an outcome that says why there is none.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use broker::{Connection, Delivery, Error, Kind, Outgoing, Settled};
use protocol::{
    Capability, ContentType, DeadLetter, Failure, Headers, Outcome, RequestId, RunFact, Status, Subject, WorkflowName,
    codes, event, header, limits, request::Invalid, run::Start,
};
use serde_json::Value;
use workflow::{Payload, fact::Started};

use super::{
    ask::with_body,
    definitions::{Definition, Definitions, Missing},
    holders::{self, Place},
    means::Means,
    retry,
};

/// How old the look for the outcome may be when the first fact is published: whoever stood still looks again.
const LOOK_KEPT: Duration = Duration::from_secs(1);

/// The largest input that a schema is held against.
const CHECKED_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Begins runs.
pub(super) struct Begin {
    means: Arc<Means>,
    definitions: Definitions,
}

/// A start that was refused, with its outcome.
struct Refusal {
    status: Status,
    failure: Failure,
}

/// Why a start does not begin a run.
enum Not {
    Refused(Refusal),
    /// As many runs are alive as there may be, and this one waits.
    Yet,
    Error(Error),
}

impl Begin {
    pub(super) fn new(means: &Arc<Means>) -> Self {
        Self { means: Arc::clone(means), definitions: Definitions::new(&means.post) }
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.means.post.connection
    }

    /// Handles a start to where it may be acknowledged. False: it waits for a place, and is to be delivered again.
    ///
    /// # Errors
    /// What passes by itself: it is to be delivered again.
    pub(super) async fn take(&self, delivery: &Delivery) -> Result<bool, Error> {
        let post = &self.means.post;
        let Some(Subject::Start(workflow)) = Subject::parse(post.namespace(), &delivery.message.subject) else {
            return Ok(true);
        };
        let fallback = RequestId::of_sequence(delivery.sequence);
        let start = match Start::read(&delivery.message.headers, fallback) {
            Ok(start) => start,
            Err(Invalid { id, failure }) => {
                self.count("refused");
                let outcome = Outcome::not_completed(id, Status::Failed, &failure);
                return self.refuse(&workflow, None, outcome, delivery).await.map(|()| true);
            }
        };
        let looked = Instant::now();
        if let Some(outcome) = self.outcome(&start.request.id, delivery.delivered > 1).await? {
            self.count("repeated");
            // A run that has begun and ended has answered by itself, before its log went.
            return self.answer(&workflow, Some(&start), &outcome, delivery).await.map(|()| true);
        }
        match self.begin(&workflow, &start, delivery, looked).await {
            Ok(()) => Ok(true),
            Err(Not::Yet) => Ok(false),
            Err(Not::Error(error)) => Err(error),
            Err(Not::Refused(Refusal { status, failure })) => {
                self.count("refused");
                let outcome = Outcome::not_completed(start.request.id.clone(), status, &failure);
                self.refuse(&workflow, Some(&start), outcome, delivery).await.map(|()| true)
            }
        }
    }

    async fn begin(
        &self,
        workflow: &WorkflowName,
        start: &Start,
        delivery: &Delivery,
        looked: Instant,
    ) -> Result<(), Not> {
        let post = &self.means.post;
        if start.reply_to.as_ref().is_some_and(|address| address.namespace != *post.namespace()) {
            let message = format!("{}: only runs of this fleet are answered", header::REPLY_TO);
            return Err(refused(codes::INVALID_HEADER, message));
        }
        if start.request.deadline.is_some_and(|deadline| deadline <= post.clock.now()) {
            let failure = Failure::new(codes::DEADLINE_EXCEEDED, "the deadline passed before the run began");
            return Err(Not::Refused(Refusal { status: Status::Expired, failure }));
        }
        let taken_over = match &start.retry_of {
            Some(of) => Some(retry::taken_over(&self.means, workflow, of, start).await?),
            None => None,
        };
        let definition = match &taken_over {
            // What it takes over is of that definition.
            Some(taken) => Arc::new(Definition::of(taken.started.definition.clone())?),
            None => self.definitions.find(workflow).await?,
        };
        let body = &delivery.message.body;
        let input = match &taken_over {
            Some(taken) if body.is_empty() && start.request.payload_ref.is_none() => taken.started.input.clone(),
            _ => self.input(&definition, start, body).await?,
        };
        let started = Started {
            definition: definition.value.clone(),
            input,
            lane: start.lane,
            deadline: start.request.deadline,
            parent: start.reply_to.as_ref().map(protocol::StepAddress::request),
            retry_of: start.retry_of.clone(),
            copied: taken_over.map(|taken| taken.copied).unwrap_or_default(),
        };
        let holds = self.place(&definition, workflow, start, &started.input).await?;
        let outgoing = self.first_fact(workflow, start, &started, holds).await?;
        if looked.elapsed() > LOOK_KEPT && self.outcome(&start.request.id, true).await?.is_some() {
            return Err(Not::Error(Error::new(Kind::TimedOut, "the run may be over: looked at too long")));
        }
        match post.recorder.record(&outgoing).await? {
            Settled::Stored(_) => {
                self.count("started");
                tracing::info!(run = %start.run, %workflow, "run started");
            }
            Settled::Superseded => self.count("repeated"),
        }
        Ok(())
    }

    /// Takes a place where the workflow allows so many runs at once; gives its key.
    async fn place(
        &self,
        definition: &Definition,
        workflow: &WorkflowName,
        start: &Start,
        input: &Payload,
    ) -> Result<Option<String>, Not> {
        let plan = definition.program.plan();
        let Some(concurrency) = &plan.concurrency else { return Ok(None) };
        let key = match input {
            Payload::Held { reference, content_type } if concurrency.key.is_some() => {
                let body = self.means.object(reference, CHECKED_BYTES_MAX).await?.unwrap_or_default();
                let value = ContentType::read(Some(content_type)).decode::<Value>(&body)?;
                holders::key_of(plan, concurrency, &start.run, &value.into())?
            }
            input => holders::key_of(plan, concurrency, &start.run, input)?,
        };
        match holders::take(&self.means, concurrency, key, workflow, &start.run).await?? {
            Place::Taken(key) => Ok(Some(key)),
            Place::Waits => Err(Not::Yet),
        }
    }

    /// The first fact expects to be the first one of its subject, so that one start begins one run however often it is
    /// delivered.
    async fn first_fact(
        &self,
        workflow: &WorkflowName,
        start: &Start,
        started: &Started,
        holds: Option<String>,
    ) -> Result<Outgoing, Not> {
        let post = &self.means.post;
        let mut headers = Headers::new();
        headers.set(header::WORKFLOW, workflow.as_str());
        headers.set(header::CONTENT_TYPE, ContentType::Json.as_str());
        if let Some(key) = holds {
            headers.set(header::HOLDS, key);
        }
        start.request.trace.write(&mut headers);
        let subject = Subject::Run { run: start.run.clone(), fact: RunFact::Started }.render(post.namespace());
        let body = serde_json::to_vec(started).map_err(|error| refused(codes::INVALID_INPUT, error.to_string()))?;
        let outgoing = Outgoing::new(subject, body).with_headers(headers);
        Ok(post.payloads.lighten_as(&format!("{}~started", start.run), outgoing).await?.expecting(0))
    }

    /// The input, and whether it is what the workflow's schema says.
    async fn input(&self, definition: &Definition, start: &Start, body: &[u8]) -> Result<Payload, Not> {
        let content_type = &start.request.content_type;
        if let Some(reference) = &start.request.payload_ref {
            if definition.has_schema() {
                let body = self.means.object(reference, CHECKED_BYTES_MAX).await?.ok_or_else(|| {
                    let what = format!("object {reference} is not there, or too large to be checked");
                    refused(codes::PAYLOAD_MISSING, what)
                })?;
                definition.check(&content_type.decode(&body).map_err(Not::from)?)?;
            }
            let content_type = content_type.as_str().to_owned();
            return Ok(Payload::Held { reference: reference.clone(), content_type });
        }
        let value: Value = content_type.decode(body).map_err(Not::from)?;
        definition.check(&value)?;
        // As JSON it may be larger than it came.
        let (headers, body) =
            with_body(&self.means.post.payloads, &format!("{}~input", start.run), &value.into()).await?;
        Ok(match headers.get(header::PAYLOAD_REF) {
            Some(reference) => {
                Payload::Held { reference: reference.to_owned(), content_type: ContentType::Json.as_str().to_owned() }
            }
            None => Payload::from(ContentType::Json.decode::<Value>(&body).map_err(Not::from)?),
        })
    }

    /// Whether the run has its outcome; the leader's word, where a replica that says no may be behind.
    async fn outcome(&self, id: &RequestId, is_certain: bool) -> Result<Option<Outcome>, Error> {
        let post = &self.means.post;
        let subject = Subject::outcome_of(id).render(post.namespace());
        let found = match is_certain {
            true => post.reader.last_at_leader(&post.names.outcomes, &subject).await?,
            false => post.reader.last(&post.names.outcomes, &subject).await?,
        };
        Ok(found.map(|found| Outcome::read(id.clone(), &found.headers, &found.body)))
    }

    async fn refuse(
        &self,
        workflow: &WorkflowName,
        start: Option<&Start>,
        mut outcome: Outcome,
        delivery: &Delivery,
    ) -> Result<(), Error> {
        outcome.capability = Capability::parse(workflow.as_str()).ok();
        outcome.trace = start.map(|start| start.request.trace.clone()).unwrap_or_default();
        if self.means.post.record_outcome(&outcome).await? == Settled::Superseded {
            let first = self.outcome(&outcome.id, true).await?;
            outcome = first.ok_or_else(|| Error::new(Kind::TimedOut, "the outcome that was first is not read yet"))?;
        }
        tracing::info!(request.id = %outcome.id, %workflow, status = %outcome.status, "start refused");
        self.answer(workflow, start, &outcome, delivery).await
    }

    async fn answer(
        &self,
        workflow: &WorkflowName,
        start: Option<&Start>,
        outcome: &Outcome,
        delivery: &Delivery,
    ) -> Result<(), Error> {
        let post = &self.means.post;
        if let Some(address) = start.and_then(|start| start.reply_to.as_ref()) {
            // A step's failure belongs to its run: it leaves no dead letter.
            let reply = Outcome { id: address.request(), ..outcome.clone() };
            return post.record_outcome(&reply).await.map(|_| ());
        }
        let was_refused = outcome.failure().is_some_and(|failure| REFUSED.contains(&failure.code.as_str()));
        if outcome.status == Status::Failed && was_refused {
            return self.bury(workflow, outcome, delivery).await;
        }
        Ok(())
    }

    /// A start that never became a run is a request that was given up.
    async fn bury(&self, workflow: &WorkflowName, outcome: &Outcome, delivery: &Delivery) -> Result<(), Error> {
        let post = &self.means.post;
        let (Some(failure), Ok(capability)) = (outcome.failure(), Capability::parse(workflow.as_str())) else {
            return Ok(());
        };
        let letter = DeadLetter {
            id: outcome.id.clone(),
            capability: capability.clone(),
            lane: protocol::Lane::Normal,
            failure,
            attempt: 1,
            instance: None,
            version: None,
            killed: Vec::new(),
            published_at: Some(delivery.published_at),
            dead_at: post.clock.now(),
        };
        let subject = Subject::Dead { capability, id: letter.id.clone() }.render(post.namespace());
        let mut headers = letter.headers(&delivery.message.headers);
        headers.set(header::WORKFLOW, workflow.as_str());
        let outgoing = Outgoing::new(subject, delivery.message.body.clone()).with_headers(headers);
        let outgoing = post.payloads.lighten_as(&format!("{}~letter", letter.id), outgoing).await?.expecting(0);
        post.recorder.record(&outgoing).await?;
        let topic = format!("{}.{}", event::REQUEST_DEAD, letter.id);
        let told = post.event(&topic, letter.id.as_str(), &letter).expecting(0);
        post.recorder.record(&told).await.map(|_| ())
    }

    fn count(&self, end: &str) {
        self.means.post.metrics.runs.starts.with_label_values(&[end]).inc();
    }
}

/// Codes of starts that never became runs.
const REFUSED: [&str; 6] = [
    codes::INVALID_HEADER,
    codes::WORKFLOW_UNKNOWN,
    codes::INVALID_INPUT,
    codes::CONTENT_TYPE_UNSUPPORTED,
    codes::PAYLOAD_MISSING,
    codes::DEFINITION_INVALID,
];

fn refused(code: &str, message: impl Into<String>) -> Not {
    let message = limits::truncate(&message.into(), limits::FAILURE_MESSAGE_BYTES_MAX);
    Not::from(Failure::new(code, message).give_up())
}

impl From<Failure> for Not {
    fn from(failure: Failure) -> Self {
        Self::Refused(Refusal { status: Status::Failed, failure })
    }
}

impl From<Missing> for Not {
    fn from(missing: Missing) -> Self {
        match missing {
            Missing::Refused(failure) => failure.into(),
            Missing::Error(error) => Self::Error(error),
        }
    }
}

impl From<Error> for Not {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}
