//! Runs of workflows: started, told something, looked at.
//!
//! What a run is told is a fact in its log, so it counts however long nobody looks. What is seen is the log itself: of a run
//! that is alive the one in the stream, of one that has ended the one that its summary keeps.

mod latest;
mod list;
mod record;
mod start;

use std::time::Duration;

use broker::{Outgoing, Stored};
use bytes::Bytes;
use protocol::{ContentType, Headers, Outcome, RequestId, RunFact, RunId, StepName, Subject, header, limits, subject};
use serde::Serialize;
use serde_json::json;

pub use self::latest::PastRun;
pub use self::list::{EndedRun, LiveRun, RunFilter};
pub use self::record::RunRecord;
pub use self::start::{StartBuilder, StartedRun};
use crate::{Client, Error, ErrorKind};

/// How long a publish is tried: longer than a replicated stream goes without a leader.
const PUBLISH_WITHIN: Duration = Duration::from_secs(15);

/// How a run took what it was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Heard {
    /// It is alive.
    Alive,
    /// It has not started: it is told when it does. What no run has asked for within an hour is dropped.
    NotStarted,
}

impl Client {
    /// Sends a run a signal. What carries the same `id` again within two minutes is the same signal.
    ///
    /// # Errors
    /// `Conflict` when the run is over; `TooLarge`; what storing says.
    pub async fn signal(
        &self,
        run: &RunId,
        name: &StepName,
        value: &(impl Serialize + Sync),
        id: Option<&RequestId>,
    ) -> Result<Heard, Error> {
        let body = serde_json::to_vec(value).map_err(|error| Error::invalid(error.to_string()))?;
        self.tell_run(run, RunFact::Signal(name.clone()), body.into(), id).await
    }

    /// Wants a run to end: what runs of it is cancelled, what is to be undone is undone, and its outcome then is
    /// `cancelled`.
    ///
    /// # Errors
    /// `Conflict` when the run is over; what storing says.
    pub async fn cancel_run(&self, run: &RunId, reason: Option<&str>) -> Result<Heard, Error> {
        let body = reason.map_or_else(Bytes::new, |reason| json!({ "reason": reason }).to_string().into());
        self.tell_run(run, RunFact::Cancel, body, None).await
    }

    /// Lets a run begin nothing new. What runs of it goes on, and timers, signals and outcomes are kept.
    ///
    /// # Errors
    /// `Conflict` when the run is over; what storing says.
    pub async fn pause_run(&self, run: &RunId) -> Result<Heard, Error> {
        self.tell_run(run, RunFact::Pause, Bytes::new(), None).await
    }

    /// Lets a run go on.
    ///
    /// # Errors
    /// `Conflict` when the run is over; what storing says.
    pub async fn resume_run(&self, run: &RunId) -> Result<Heard, Error> {
        self.tell_run(run, RunFact::Resume, Bytes::new(), None).await
    }

    /// Whether a run has started and is not over, as a replica sees it that may be behind for a moment.
    ///
    /// # Errors
    /// `StreamsMissing`, and what reading says.
    pub async fn is_run_alive(&self, run: &RunId) -> Result<bool, Error> {
        let first = subject::stored_run_fact(self.namespace(), None, run, &RunFact::Started);
        let stream = &self.names().runs;
        match self.reader().last_of_each(stream, &[first]).await {
            Ok(found) => Ok(!found.is_empty()),
            Err(error) => Err(self.explained(error, stream).await),
        }
    }

    /// The same by the leader's word.
    pub(crate) async fn is_run_surely_alive(&self, run: &RunId) -> Result<bool, Error> {
        let first = subject::stored_run_fact(self.namespace(), None, run, &RunFact::Started);
        let stream = &self.names().runs;
        match self.reader().has(stream, &first).await {
            Ok(is_alive) => Ok(is_alive),
            Err(error) => Err(self.explained(error, stream).await),
        }
    }

    /// Tells a run to end whose outcome is there already.
    pub(crate) async fn tell_run_to_end(&self, run: &RunId) -> Result<(), Error> {
        let subject = Subject::Run { run: run.clone(), fact: RunFact::Cancel }.render(self.namespace());
        let outgoing = Outgoing::new(subject, Bytes::new()).with_message_id(format!("{run}~cancel"));
        self.store_fact(&outgoing).await.map(|_| ())
    }

    async fn tell_run(&self, run: &RunId, fact: RunFact, body: Bytes, id: Option<&RequestId>) -> Result<Heard, Error> {
        if body.len() > limits::BODY_BYTES_MAX {
            let message = format!("the body has {} bytes; {} are allowed", body.len(), limits::BODY_BYTES_MAX);
            return Err(Error::new(ErrorKind::TooLarge, message));
        }
        let is_alive = self.is_run_alive(run).await?;
        if !is_alive && let Some(outcome) = self.stored_outcome(&RequestId::from(run)).await? {
            return Err(over(run, &outcome));
        }
        let subject = Subject::Run { run: run.clone(), fact }.render(self.namespace());
        let mut headers = Headers::new();
        if !body.is_empty() {
            headers.set(header::CONTENT_TYPE, ContentType::Json.as_str());
        }
        let outgoing = self.payloads().lighten(Outgoing::new(subject, body).with_headers(headers)).await?;
        let id = id.cloned().unwrap_or_else(RequestId::generate);
        self.store_fact(&outgoing.with_message_id(format!("{run}~{id}"))).await?;
        Ok(if is_alive { Heard::Alive } else { Heard::NotStarted })
    }

    async fn store_fact(&self, outgoing: &Outgoing) -> Result<Stored, Error> {
        match self.publisher().publish_within(outgoing, PUBLISH_WITHIN).await {
            Ok(stored) => Ok(stored),
            Err(error) => Err(self.explained(error, &self.names().runs).await),
        }
    }
}

fn over(run: &RunId, outcome: &Outcome) -> Error {
    let message = format!("run {run} is over: {}; `sortie run show {run}` tells how", outcome.status);
    Error::new(ErrorKind::Conflict, message).about(&RequestId::from(run))
}
