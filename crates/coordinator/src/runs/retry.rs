//! A run that does another one again: what that one started with, and what of it need not be done again.

use broker::Error;
use protocol::{
    Failure, RunFact, RunId, RunSummary, WorkflowName, codes, header, limits,
    run::{Start, ended_topic},
    subject,
};
use workflow::fact::{CopiedOutcome, Event, Started};

use super::{
    definitions::Missing,
    log::{Log, read_logged},
    means::Means,
};

/// What a run takes over from the one that it does again.
pub(super) struct TakenOver {
    /// As that one began: its definition and its input.
    pub(super) started: Started,
    /// The outcomes that stay.
    pub(super) copied: Vec<CopiedOutcome>,
}

/// Reads what a run that is over leaves to the one that does it again.
pub(super) async fn taken_over(
    means: &Means,
    workflow: &WorkflowName,
    of: &RunId,
    start: &Start,
) -> Result<TakenOver, Missing> {
    let refused = |code: &str, message: String| Missing::Refused(Failure::new(code, message).give_up());
    let post = &means.post;
    let first = subject::stored_run_fact(post.namespace(), None, of, &RunFact::Started);
    if post.reader.has(&post.names.runs, &first).await.map_err(Missing::Error)? {
        let message = format!("run {of} is alive: it is done again when it is over; `sortie run cancel {of}` ends it");
        return Err(refused(codes::INVALID_INPUT, message));
    }
    let nothing = || refused(codes::NOT_FOUND, format!("nothing is kept of a run {of}, which is to be done again"));
    let summary = summary(means, of).await.map_err(Missing::Error)?.ok_or_else(nothing)?;
    if summary.workflow != *workflow {
        let message = format!("run {of} is one of {}, not of {workflow}", summary.workflow);
        return Err(refused(codes::INVALID_INPUT, message));
    }
    let log = Log::of_facts(means, of, &summary.facts).await.map_err(Missing::Error)?;
    let copied = log.state.copied_outcomes(start.retry_from.as_ref());
    let copied = copied.map_err(|fault| refused(codes::INVALID_INPUT, fault))?;
    let started = started(means, &summary).await.map_err(Missing::Error)?.ok_or_else(nothing)?;
    Ok(TakenOver { started, copied })
}

async fn summary(means: &Means, run: &RunId) -> Result<Option<RunSummary>, Error> {
    let post = &means.post;
    let place = subject::event(post.namespace(), &ended_topic(None, None, Some(run)));
    let found = post.reader.last_of_each(&post.names.events, &[place]).await?;
    let Some(message) = found.last() else { return Ok(None) };
    let body = match message.headers.get(header::PAYLOAD_REF) {
        Some(object) => means.object(object, limits::BODY_BYTES_MAX).await?,
        None => Some(message.body.clone()),
    };
    Ok(body.and_then(|body| serde_json::from_slice(&body).ok()))
}

async fn started(means: &Means, summary: &RunSummary) -> Result<Option<Started>, Error> {
    for fact in &summary.facts {
        if let Event::Started(started) = read_logged(means, fact).await?.event {
            return Ok(Some(*started));
        }
    }
    Ok(None)
}
