//! What becomes of a start that begins no run: its outcome, and its letter where it was given up.

use broker::{Error, Kind, Settled};
use protocol::{DeadLetter, Lane, Outcome, Status, codes, run::Start};

use super::{arrival::Arrival, begin::Begin, letter::letter};

/// Codes of starts that never became runs.
const REFUSED: [&str; 7] = [
    codes::INVALID_HEADER,
    codes::WORKFLOW_UNKNOWN,
    codes::INVALID_INPUT,
    codes::CONTENT_TYPE_UNSUPPORTED,
    codes::PAYLOAD_MISSING,
    codes::DEFINITION_INVALID,
    codes::RUN_TOO_DEEP,
];

impl Begin {
    /// Stores the outcome of what begins no run.
    pub(super) async fn refuse(&self, arrival: &Arrival, mut outcome: Outcome) -> Result<(), Error> {
        self.count("refused");
        outcome.capability = arrival.asked();
        outcome.trace = arrival.start.as_ref().map(|start| start.request.trace.clone()).unwrap_or_default();
        if self.means.post.record_outcome(&outcome).await? == Settled::Superseded {
            let first = self.outcome(&outcome.id, true).await?;
            outcome = first.ok_or_else(|| Error::new(Kind::TimedOut, "the outcome that was first is not read yet"))?;
        }
        tracing::info!(request.id = %outcome.id, workflow = %arrival.workflow, status = %outcome.status, "start refused");
        self.answer(arrival, &outcome).await
    }

    /// What is owed beside the outcome.
    pub(super) async fn answer(&self, arrival: &Arrival, outcome: &Outcome) -> Result<(), Error> {
        let start = arrival.start.as_ref().ok();
        if let Some(address) = start.and_then(|start| start.reply_to.as_ref()) {
            // A step's failure belongs to its run: it leaves no dead letter.
            let reply = Outcome { id: address.request(), ..outcome.clone() };
            return self.means.post.record_outcome(&reply).await.map(|_| ());
        }
        let was_refused = outcome.failure().is_some_and(|failure| REFUSED.contains(&failure.code.as_str()));
        // A request that failed is a request that was given up, whatever was wrong with it; a run has its log to tell.
        if outcome.status == Status::Failed && (was_refused || arrival.capability.is_some()) {
            return self.bury(arrival, start, outcome).await;
        }
        Ok(())
    }

    /// A start that never became a run is a request that was given up.
    async fn bury(&self, arrival: &Arrival, start: Option<&Start>, outcome: &Outcome) -> Result<(), Error> {
        let post = &self.means.post;
        let (Some(failure), Some(capability)) = (outcome.failure(), arrival.asked()) else { return Ok(()) };
        let dead = DeadLetter {
            id: outcome.id.clone(),
            capability,
            lane: match &arrival.capability {
                Some(_) => start.map(|start| start.lane).unwrap_or_default(),
                None => Lane::Normal,
            },
            failure,
            attempt: 1,
            instance: None,
            version: None,
            killed: Vec::new(),
            published_at: Some(arrival.published_at),
            dead_at: post.clock.now(),
        };
        // What was asked of a capability is asked of it again, whoever serves it then.
        let workflow = arrival.capability.is_none().then_some(&arrival.workflow);
        for outgoing in letter(post, &dead, workflow, &arrival.headers, arrival.body.clone()).await? {
            post.recorder.record(&outgoing).await?;
        }
        Ok(())
    }
}
