//! What becomes of one start: the run's first fact, or an outcome that says why there is none.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use broker::{Error, Kind, Outgoing, Settled};
use protocol::{
    ContentType, Failure, Headers, Outcome, RequestId, RunFact, RunId, Status, Subject, WorkflowName, codes, header,
    limits,
    request::Invalid,
    run::Start,
    subject::{self, filter},
    time,
    topology::Source,
};
use serde_json::Value;
use workflow::{Payload, fact::Started};

use super::{
    arrival::Arrival,
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

/// What became of what begins a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// It may be acknowledged.
    Done,
    /// As many runs are alive as there may be, and this one waits.
    Waits,
    /// Its run has begun, and it is to stay where it is until that run is over.
    Lasts,
}

/// Begins runs.
pub(super) struct Begin {
    pub(super) means: Arc<Means>,
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

    /// Handles what begins a run to where it may be acknowledged.
    ///
    /// # Errors
    /// What passes by itself: it is to be delivered again.
    pub(super) async fn take(&self, arrival: &Arrival) -> Result<Taken, Error> {
        let start = match &arrival.start {
            Ok(start) => start,
            Err(Invalid { id, failure }) => {
                let outcome = Outcome::not_completed(id.clone(), Status::Failed, failure);
                return self.refuse(arrival, outcome).await.map(|()| Taken::Done);
            }
        };
        // In this order: a log goes after its run's outcome is stored, so one of the two is seen of what has begun.
        if arrival.is_again && self.has_begun(start).await? {
            self.count("repeated");
            return Ok(arrival.begun());
        }
        let looked = Instant::now();
        if let Some(outcome) = self.outcome(&start.request.id, arrival.is_again).await? {
            self.count("repeated");
            // A run that has begun and ended has answered by itself, before its log went.
            return self.answer(arrival, &outcome).await.map(|()| Taken::Done);
        }
        if start.capability.is_some() && self.is_withdrawn(start).await? {
            return Ok(Taken::Done);
        }
        match self.begin(arrival, start, looked).await {
            Ok(()) => {
                self.end_if_withdrawn(start).await?;
                Ok(arrival.begun())
            }
            Err(Not::Yet) => self.put_aside(arrival, start).await,
            Err(Not::Error(error)) => Err(error),
            Err(Not::Refused(Refusal { status, failure })) => {
                let outcome = Outcome::not_completed(start.request.id.clone(), status, &failure);
                self.refuse(arrival, outcome).await.map(|()| Taken::Done)
            }
        }
    }

    async fn begin(&self, arrival: &Arrival, start: &Start, looked: Instant) -> Result<(), Not> {
        let (post, workflow) = (&self.means.post, &arrival.workflow);
        if start.reply_to.as_ref().is_some_and(|address| address.namespace != *post.namespace()) {
            let message = format!("{}: only runs of this fleet are answered", header::REPLY_TO);
            return Err(refused(codes::INVALID_HEADER, message));
        }
        if start.request.deadline.is_some_and(|deadline| deadline <= post.clock.now()) {
            let failure = Failure::new(codes::DEADLINE_EXCEEDED, "the deadline passed before the run began");
            return Err(Not::Refused(Refusal { status: Status::Expired, failure }));
        }
        let depth = depth(&arrival.headers)?;
        let taken_over = match &start.retry_of {
            Some(of) => Some(retry::taken_over(&self.means, workflow, of, start).await?),
            None => None,
        };
        let definition = match &taken_over {
            // What it takes over is of that definition.
            Some(taken) => Arc::new(Definition::of(taken.started.definition.clone())?),
            None => self.definition(arrival).await?,
        };
        let body = &arrival.body;
        let input = match &taken_over {
            Some(taken) if body.is_empty() && start.request.payload_ref.is_none() => taken.started.input.clone(),
            _ => self.input(&definition, start, body).await?,
        };
        let started = Started {
            definition: definition.value.clone(),
            input,
            lane: start.lane,
            deadline: start.request.deadline,
            timeout: start.request.timeout,
            parent: start.reply_to.as_ref().map(protocol::StepAddress::request),
            retry_of: start.retry_of.clone(),
            copied: taken_over.map(|taken| taken.copied).unwrap_or_default(),
        };
        let holds = self.place(&definition, arrival, start, &started.input).await?;
        let outgoing = self.first_fact(workflow, start, &started, holds, depth).await?;
        if looked.elapsed() > LOOK_KEPT && self.outcome(&start.request.id, true).await?.is_some() {
            return Err(Not::Error(Error::new(Kind::TimedOut, "the run may be over: looked at too long")));
        }
        match self.store(&start.run, outgoing).await? {
            Settled::Stored(_) => {
                self.count("started");
                tracing::debug!(run = %start.run, %workflow, "run started");
            }
            Settled::Superseded => self.count("repeated"),
        }
        Ok(())
    }

    /// The definition as it stands now, which for a request has to serve its capability still.
    async fn definition(&self, arrival: &Arrival) -> Result<Arc<Definition>, Not> {
        let found = self.definitions.find(&arrival.workflow).await;
        let (Some(capability), Some(_)) = (&arrival.capability, arrival.source) else { return Ok(found?) };
        let given_back = || {
            let message = format!("{} no longer serves {capability}: the request is given back", arrival.workflow);
            Not::Error(Error::new(Kind::TimedOut, message))
        };
        match found {
            Ok(definition) if definition.program.plan().serves.as_ref() == Some(capability) => Ok(definition),
            Ok(_) => Err(given_back()),
            Err(Missing::Refused(failure)) if failure.code == codes::WORKFLOW_UNKNOWN => Err(given_back()),
            Err(missing) => Err(missing.into()),
        }
    }

    /// What waits for a place waits among the starts: the broker counts deliveries of a request, and gives it up after a
    /// hundred. Unique work keeps its key where it lies, and is delivered as often as it takes.
    async fn put_aside(&self, arrival: &Arrival, start: &Start) -> Result<Taken, Error> {
        let Some(Source::Lane(_)) = arrival.source else { return Ok(Taken::Waits) };
        let post = &self.means.post;
        let mut headers = arrival.headers.foreign();
        start.write(&mut headers);
        headers.set(header::ASKED_AT, time::format_exactly(arrival.published_at));
        if let Some(depth) = arrival.headers.get(header::DEPTH) {
            headers.set(header::DEPTH, depth);
        }
        let subject = Subject::Start(arrival.workflow.clone()).render(post.namespace());
        let outgoing = Outgoing::new(subject, arrival.body.clone()).with_headers(headers);
        // Not the request's own: under that the broker has the request itself.
        let outgoing = outgoing.with_message_id(format!("{}:start", start.run));
        post.recorder.record(&outgoing).await.map(|_| Taken::Done)
    }

    async fn has_begun(&self, start: &Start) -> Result<bool, Error> {
        let post = &self.means.post;
        let first = subject::stored_run_fact(post.namespace(), None, &start.run, &RunFact::Started);
        post.reader.has(&post.names.runs, &first).await
    }

    /// Whether nobody waits any more for what a step asked: the step is over, or its run.
    async fn is_withdrawn(&self, start: &Start) -> Result<bool, Error> {
        let Some(address) = &start.reply_to else { return Ok(false) };
        let post = &self.means.post;
        let step = subject::stored_step_outcome(post.namespace(), &address.run, &address.step, address.item);
        if post.reader.has(&post.names.runs, &step).await? {
            return Ok(true);
        }
        Ok(self.outcome(&RequestId::from(&address.run), false).await?.is_some())
    }

    /// Whoever withdrew the step before the run began could not tell the run.
    async fn end_if_withdrawn(&self, start: &Start) -> Result<(), Error> {
        if start.capability.is_none() || !self.is_withdrawn(start).await? {
            return Ok(());
        }
        let post = &self.means.post;
        let subject = Subject::Run { run: start.run.clone(), fact: RunFact::Cancel }.render(post.namespace());
        let outgoing = Outgoing::new(subject, "").with_message_id(format!("{}~cancel", start.run));
        post.recorder.record(&outgoing).await.map(|_| ())
    }

    /// Takes a place where the workflow allows so many runs at once; gives its key.
    async fn place(
        &self,
        definition: &Definition,
        arrival: &Arrival,
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
        // What is put aside lines up when it comes again.
        let lines_up = !matches!(arrival.source, Some(Source::Lane(_)));
        let asking = arrival.in_line(start);
        match holders::take(&self.means, concurrency, key, &arrival.workflow, &asking, lines_up).await?? {
            Place::Taken(key) => Ok(Some(key)),
            Place::Waits => Err(Not::Yet),
        }
    }

    async fn first_fact(
        &self,
        workflow: &WorkflowName,
        start: &Start,
        started: &Started,
        holds: Option<String>,
        depth: u32,
    ) -> Result<Outgoing, Not> {
        let post = &self.means.post;
        let mut headers = Headers::new();
        headers.set(header::WORKFLOW, workflow.as_str());
        if let Some(capability) = &start.capability {
            headers.set(header::CAPABILITY, capability.as_str());
        }
        headers.set(header::CONTENT_TYPE, ContentType::Json.as_str());
        if let Some(key) = holds {
            headers.set(header::HOLDS, key);
        }
        if depth > 0 {
            headers.set(header::DEPTH, depth.to_string());
        }
        let mut traced = headers.clone();
        start.request.trace.write(&mut traced);
        // A trace that leaves no room stays out: the run must begin.
        if traced.leave_room() {
            headers = traced;
        }
        let subject = Subject::Run { run: start.run.clone(), fact: RunFact::Started }.render(post.namespace());
        let body = serde_json::to_vec(started).map_err(|error| refused(codes::INVALID_INPUT, error.to_string()))?;
        let outgoing = Outgoing::new(subject, body).with_headers(headers);
        Ok(post.payloads.lighten_as(&format!("{}~started", start.run), outgoing).await?)
    }

    /// The first fact expects to be the first one of its subject, so that one start begins one run however often it is
    /// delivered. At best it goes into an empty log, which whoever folds it needs not read then; else into one where the first fact is missing.
    async fn store(&self, run: &RunId, outgoing: Outgoing) -> Result<Settled, Error> {
        let post = &self.means.post;
        let mut into_empty = outgoing.clone().expecting_none(&filter::run_log(post.namespace(), None, run));
        into_empty.headers.set(header::LOG_WAS_EMPTY, "true");
        match post.recorder.record(&into_empty).await? {
            Settled::Superseded => post.recorder.record(&outgoing.expecting(0)).await,
            stored => Ok(stored),
        }
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
    pub(super) async fn outcome(&self, id: &RequestId, is_certain: bool) -> Result<Option<Outcome>, Error> {
        let post = &self.means.post;
        let subject = Subject::outcome_of(id).render(post.namespace());
        let found = match is_certain {
            true => post.reader.last_at_leader(&post.names.outcomes, &subject).await?,
            false => post.reader.last(&post.names.outcomes, &subject).await?,
        };
        Ok(found.map(|found| Outcome::read(id.clone(), &found.headers, &found.body)))
    }

    pub(super) fn count(&self, end: &str) {
        self.means.post.metrics.runs.starts.with_label_values(&[end]).inc();
    }
}

impl Arrival {
    /// A unique request keeps its key for as long as its run lasts.
    fn begun(&self) -> Taken {
        if self.source == Some(Source::Unique) { Taken::Lasts } else { Taken::Done }
    }
}

/// How many runs are above one that is started. A workflow that asks for itself must come to an end.
fn depth(headers: &Headers) -> Result<u32, Not> {
    let Some(text) = headers.get(header::DEPTH) else { return Ok(0) };
    let told = limits::truncate(text, 40);
    let depth: u32 = text
        .parse()
        .map_err(|_| refused(codes::INVALID_HEADER, format!("{}: `{told}` is no number of runs", header::DEPTH)))?;
    if depth > limits::RUN_DEPTH_MAX {
        let message = format!(
            "{depth} runs are above this one, and {} are the limit: a workflow that asks for itself needs a step with an `if` \
             that ends it",
            limits::RUN_DEPTH_MAX
        );
        return Err(refused(codes::RUN_TOO_DEEP, message));
    }
    Ok(depth)
}

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
