//! The end of a run: outcome, reply to the parent, summary, and only then the removal of its log. Each is harmless when it was
//! done before, and whoever finds the log still there does all of them again.

use broker::{Disposition, Error, Kind, Outgoing, Settled};
use protocol::{
    Capability, ContentType, DeadLetter, Failure, Origin, Outcome, RequestId, RunSummary, Status, Subject, codes,
    event, header, run::ended_topic, subject, time::Timestamp,
};
use workflow::{Payload, command::Ending};

use super::{ask, carry::Carrier, holders, letter::letter, removal};

/// Ends a run.
pub(super) async fn end(carrier: &Carrier<'_>, ending: &Ending) -> Result<(), Error> {
    let (means, log) = (carrier.means, carrier.log);
    let run = log.state.run();
    let decided = decide(carrier, outcome(carrier, ending).await?).await?;
    if let Some(parent) = log.state.parent() {
        reply(carrier, parent, &decided).await?;
    } else {
        bury(carrier, ending, &decided).await?;
    }
    if let Some(key) = log.began.as_ref().and_then(|began| began.holds.as_deref()) {
        carrier.check()?;
        if holders::give_back(means, key, run).await? {
            means.call_up(key, log.began.as_ref().and_then(|began| began.workflow.clone()));
        }
    }
    match summary(carrier, &decided) {
        Some(summary) => tell(carrier, summary).await?,
        None => tracing::warn!(%run, "run without a workflow's name: nothing is kept of it but its outcome"),
    }
    removal::remove(carrier).await?;
    means.post.metrics.runs.ended.with_label_values(&[decided.status.as_str()]).inc();
    tracing::debug!(%run, status = %decided.status, "run ended");
    Ok(())
}

/// Ends a run once more that was over before it began: what the first end left undone is done, and the rest is there.
pub(super) async fn end_again(carrier: &Carrier<'_>) -> Result<(), Error> {
    let failure = Failure::new(codes::CANCELLED, "the run was over before it began");
    end(carrier, &Ending { status: Status::Cancelled, output: Payload::default(), failure: Some(failure) }).await
}

async fn outcome(carrier: &Carrier<'_>, ending: &Ending) -> Result<Outcome, Error> {
    let id = RequestId::from(carrier.log.state.run());
    let mut outcome = match &ending.failure {
        Some(failure) if ending.status != Status::Completed => Outcome::not_completed(id, ending.status, failure),
        _ => Outcome::completed(id, ContentType::Json, Vec::new()),
    };
    if outcome.status == Status::Completed {
        let name = format!("{}~output", carrier.log.state.run());
        match ask::with_body(&carrier.means.post.payloads, &name, &ending.output).await {
            Ok((headers, body)) => {
                outcome.payload_ref = headers.get(header::PAYLOAD_REF).map(str::to_owned);
                outcome.content_type = ContentType::read(headers.get(header::CONTENT_TYPE));
                outcome.body = body.to_vec();
            }
            Err(error) if error.disposition() == Disposition::Reject => {
                let failure = protocol::Failure::new(protocol::codes::RESULT_TOO_LARGE, error.to_string());
                outcome = Outcome::not_completed(outcome.id, Status::Failed, &failure);
            }
            Err(error) => return Err(error),
        }
    }
    let began = carrier.log.began.as_ref();
    let by_name = || Capability::parse(began?.workflow.as_ref()?.as_str()).ok();
    outcome.capability = began.and_then(|began| began.capability.clone()).or_else(by_name);
    outcome.trace = carrier.log.trace.clone();
    Ok(outcome)
}

/// Stores the outcome, and gives the one that counts: another may have been first.
async fn decide(carrier: &Carrier<'_>, outcome: Outcome) -> Result<Outcome, Error> {
    if let Settled::Stored(_) = carrier.record(&outcome).await? {
        return Ok(outcome);
    }
    let post = &carrier.means.post;
    let subject = Subject::outcome_of(&outcome.id).render(post.namespace());
    // It is there, so the leader has it.
    let found = post.reader.last_at_leader(&post.names.outcomes, &subject).await?;
    let found = found.ok_or_else(|| Error::new(Kind::TimedOut, "the outcome that was first is not read yet"))?;
    Ok(Outcome::read(outcome.id, &found.headers, &found.body))
}

/// The parent's step ends as its sub-run did.
async fn reply(carrier: &Carrier<'_>, parent: &RequestId, decided: &Outcome) -> Result<(), Error> {
    if !matches!(parent.origin(), Origin::Step { .. }) {
        return Ok(());
    }
    let reply = Outcome { id: parent.clone(), ..decided.clone() };
    carrier.record(&reply).await.map(|_| ())
}

/// A request that failed leaves a letter, whoever served it.
async fn bury(carrier: &Carrier<'_>, ending: &Ending, decided: &Outcome) -> Result<(), Error> {
    let (means, log) = (carrier.means, carrier.log);
    let Some(capability) = log.began.as_ref().and_then(|began| began.capability.clone()) else { return Ok(()) };
    let Some(failure) = decided.failure().or_else(|| ending.failure.clone()) else { return Ok(()) };
    if decided.status != Status::Failed {
        return Ok(());
    }
    let dead = DeadLetter {
        id: decided.id.clone(),
        capability,
        lane: log.state.lane(),
        failure,
        attempt: 1,
        instance: None,
        version: None,
        killed: Vec::new(),
        published_at: None,
        dead_at: means.post.clock.now(),
    };
    let input = log.state.input().cloned().unwrap_or_default();
    let (mut headers, body) =
        ask::with_body(&means.post.payloads, &format!("{}~input", log.state.run()), &input).await?;
    log.trace.write(&mut headers);
    for outgoing in letter(&means.post, &dead, None, &headers, body).await? {
        means.settle(carrier.term, &outgoing).await?;
    }
    Ok(())
}

fn summary(carrier: &Carrier<'_>, decided: &Outcome) -> Option<RunSummary> {
    let began = carrier.log.began.as_ref()?;
    let (state, facts) = (&carrier.log.state, carrier.log.facts.clone());
    Some(RunSummary {
        run: state.run().clone(),
        workflow: began.workflow.clone()?,
        version: began.version.clone(),
        status: decided.status,
        started_at: began.at,
        ended_at: facts.last().map_or_else(Timestamp::default, |fact| fact.at),
        parent: state.parent().cloned(),
        retry_of: began.retry_of.clone(),
        failure: decided.payload_ref.is_none().then(|| decided.failure()).flatten(),
        facts,
    })
}

async fn tell(carrier: &Carrier<'_>, mut summary: RunSummary) -> Result<(), Error> {
    let post = &carrier.means.post;
    let topic = ended_topic(Some(&summary.workflow), Some(summary.status), Some(&summary.run));
    let name = format!("{}~summary", summary.run);
    loop {
        let source = format!("/{}/run/{}", post.namespace(), summary.run);
        let headers = event::headers(summary.run.as_str(), &source, &topic, summary.ended_at);
        let body = serde_json::to_vec(&summary).unwrap_or_default();
        let outgoing = Outgoing::new(subject::event(post.namespace(), &topic), body).with_headers(headers);
        match post.payloads.lighten_as(&name, outgoing).await {
            Ok(outgoing) => return carrier.means.settle(carrier.term, &outgoing.expecting(0)).await.map(|_| ()),
            // More than an object may hold: what happened is told without what it carried.
            Err(error) if error.kind() == Kind::TooLarge && summary.facts.iter().any(|fact| fact.body.is_some()) => {
                for fact in &mut summary.facts {
                    (fact.body, fact.body_base64) = (None, None);
                }
            }
            Err(error) => return Err(error),
        }
    }
}
