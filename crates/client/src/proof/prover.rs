//! The first looks: by the subjects and sequences that an id has. What they find is found; what they do not is a suspect.

use std::{collections::HashMap, time::Duration};

use broker::{StoredMessage, is_schedule, topology};
use chrono::TimeDelta;
use protocol::{
    Origin, Outcome, RequestId, RunFact, RunId, Status, Subject,
    accepted::{Accepted, Asked},
    run::StoredFact,
    subject::{self, filter},
    time::Timestamp,
};

use super::{
    Fault, Faults, Proof, Sight, Tally,
    drops::Drops,
    places::{Delivered, Place, in_queue},
};
use crate::{Client, Error, ErrorKind};

/// Messages that one read asks for at most; it answers with 8 MiB at most.
const PAGE: usize = 1_000;

/// How much earlier than its age says an outcome may be taken for gone, and at most what part of that age: clocks differ.
const AGE_MARGIN: Duration = Duration::from_secs(60);
const AGE_MARGIN_PART: u32 = 10;

/// One that is accepted, and not found yet.
#[derive(Clone, Debug)]
pub(super) struct Suspect {
    pub(super) accepted: Accepted,
    /// When the outcome was stored that says that it failed: then its dead letter is looked for.
    pub(super) failed_at: Option<Timestamp>,
}

/// Those that are not found yet, by their ids.
pub(super) type Open = HashMap<RequestId, Suspect>;

/// Looks, and counts.
pub(super) struct Prover<'a> {
    pub(super) client: &'a Client,
    pub(super) watch: &'a mut (dyn FnMut(Sight<'_>) + Send),
    /// For how long outcomes and dead letters are kept; none where for ever.
    outcomes_kept: Option<Duration>,
    dead_kept: Option<Duration>,
    /// Whether any stream has copies, which may be behind.
    pub(super) is_replicated: bool,
    pub(super) delivered: Delivered,
    /// What was dropped of dead letters, once that is asked for.
    pub(super) drops: Option<Drops>,
    proof: Proof,
    lines: u64,
}

impl<'a> Prover<'a> {
    /// Asks the leader of every stream how it stands: where one cannot be reached, copies that are behind for good would
    /// answer instead.
    pub(super) async fn new(client: &'a Client, watch: &'a mut (dyn FnMut(Sight<'_>) + Send)) -> Result<Self, Error> {
        let names = client.names();
        let (mut kept, mut is_replicated) = (Vec::new(), false);
        for stream in [&names.outcomes, &names.dead, &names.requests, &names.unique, &names.runs] {
            let ask = || topology::stream_state(client.connection(), stream);
            let found = client.patiently(stream, ask).await?.stream;
            kept.push(found.max_age);
            is_replicated |= found.replicas > 1;
        }
        Ok(Self {
            client,
            watch,
            outcomes_kept: kept[0],
            dead_kept: kept[1],
            is_replicated,
            delivered: Delivered::new(),
            drops: None,
            proof: Proof::default(),
            lines: 0,
        })
    }

    pub(super) fn into_proof(self) -> Proof {
        self.proof
    }

    pub(super) fn found(&mut self, place: Place) {
        let Tally { completed, failed, expired, cancelled, dead, dropped, scheduled, waiting, running, runs, too_old } =
            &mut self.proof.found;
        let count = match place {
            Place::Completed => completed,
            Place::Failed => failed,
            Place::Expired => expired,
            Place::Cancelled => cancelled,
            Place::Dead => dead,
            Place::Dropped => dropped,
            Place::Scheduled => scheduled,
            Place::Waiting => waiting,
            Place::Running => running,
            Place::Run => runs,
            Place::TooOld => too_old,
        };
        *count += 1;
    }

    pub(super) fn fault(&mut self, fault: &Fault) {
        let Faults { lost, twice, unburied, undecided } = &mut self.proof.faults;
        let count = match fault {
            Fault::Lost { .. } => lost,
            Fault::Twice { .. } => twice,
            Fault::Unburied { .. } => unburied,
            Fault::Undecided { .. } => undecided,
        };
        *count += 1;
        (self.watch)(Sight::Fault(fault));
    }

    /// Whether what proves how it ended may be gone for its age.
    pub(super) async fn is_too_old(&self, suspect: &Suspect) -> Result<bool, Error> {
        let (since, kept) = match suspect.failed_at {
            Some(failed_at) => (failed_at, self.dead_kept),
            // Its outcome is stored after it is accepted, and kept for as long as outcomes are.
            None => (suspect.accepted.at, self.outcomes_kept),
        };
        let Some(kept) = kept else { return Ok(false) };
        let kept = kept - AGE_MARGIN.min(kept / AGE_MARGIN_PART);
        Ok(self.client.now().await? - since >= TimeDelta::from_std(kept).unwrap_or(TimeDelta::MAX))
    }

    /// Looks for some; those that are not found are added to the suspects.
    pub(super) async fn look(&mut self, some: Vec<Accepted>, suspects: &mut Vec<Suspect>) -> Result<(), Error> {
        self.lines += some.len() as u64;
        let mut open = self.open(some)?;
        self.see_outcomes(&mut open).await?;
        let failed = open.iter().filter(|(_, suspect)| suspect.failed_at.is_some());
        let failed: Vec<RequestId> = failed.map(|(id, _)| id.clone()).collect();
        self.see_letters(&mut open, &failed).await?;
        if !open.is_empty() {
            self.see_schedules(&mut open).await?;
            self.delivered = self.consumers().await?;
            self.see_own_sequences(&mut open).await?;
            self.see_runs(&mut open).await?;
        }
        suspects.extend(open.into_values());
        (self.watch)(Sight::Looked { lines: self.lines, suspects: suspects.len() });
        Ok(())
    }

    /// Looks where requests go from the stream of requests, in this order. On one server that is the leader's word.
    pub(super) async fn look_where_they_go(&mut self, open: &mut Open) -> Result<(), Error> {
        self.see_own_sequences(open).await?;
        self.see_runs(open).await?;
        self.see_outcomes(open).await?;
        let all: Vec<RequestId> = open.keys().cloned().collect();
        self.see_letters(open, &all).await
    }

    fn open(&mut self, some: Vec<Accepted>) -> Result<Open, Error> {
        let names = self.client.names();
        let mut open = Open::with_capacity(some.len());
        for accepted in some {
            if ![&names.requests, &names.unique].contains(&&accepted.stream) {
                return Err(Error::invalid(format!(
                    "request {} was accepted by stream {}, which is not one of fleet {}: name its fleet with --namespace",
                    accepted.id,
                    accepted.stream,
                    self.client.namespace()
                )));
            }
            if let Origin::Step { run, .. } = accepted.id.origin() {
                let message =
                    format!("{} is a step: run {run} answers for it, and nobody accepts it alone", accepted.id);
                return Err(Error::invalid(message));
            }
            match open.get_mut(&accepted.id) {
                // Whoever asked again was told that it is there; where it lies the first line says.
                Some(known) => {
                    known.accepted.sequence = known.accepted.sequence.or(accepted.sequence);
                    self.proof.again += 1;
                }
                None => {
                    open.insert(accepted.id.clone(), Suspect { accepted, failed_at: None });
                }
            }
        }
        Ok(open)
    }

    async fn see_outcomes(&mut self, open: &mut Open) -> Result<(), Error> {
        let namespace = self.client.namespace().clone();
        let subjects = subjects_of(open.keys(), |id| Subject::outcome_of(id).render(&namespace));
        let mut seen = Vec::new();
        self.each_last(&self.client.names().outcomes, &subjects, &mut |message| {
            if let Some(Subject::Outcome(id)) = Subject::parse(&namespace, &message.subject) {
                seen.push((id, status(&message), message.time));
            }
        })
        .await?;
        for (id, status, at) in seen {
            self.ended(open, &id, status, at);
        }
        Ok(())
    }

    /// One with an outcome is found, but for a failed request, which must have a dead letter.
    pub(super) fn ended(&mut self, open: &mut Open, id: &RequestId, status: Status, at: Timestamp) {
        let Some(suspect) = open.get_mut(id) else { return };
        let place = match (status, &suspect.accepted.asked) {
            (Status::Failed, Asked::Request(_)) => {
                suspect.failed_at = Some(at);
                return;
            }
            (Status::Failed, Asked::Start(_)) => Place::Failed,
            (Status::Completed, _) => Place::Completed,
            (Status::Expired, _) => Place::Expired,
            (Status::Cancelled, _) => Place::Cancelled,
        };
        open.remove(id);
        self.found(place);
    }

    /// Those that have run out of age have no outcome any more, and may have a letter: these are kept for longer.
    async fn see_letters(&mut self, open: &mut Open, wanted: &[RequestId]) -> Result<(), Error> {
        let namespace = self.client.namespace().clone();
        let subjects = subjects_of(wanted.iter(), |id| filter::dead_of(&namespace, id));
        let mut seen = Vec::new();
        self.each_last(&self.client.names().dead, &subjects, &mut |message| {
            if let Some(Subject::Dead { id, .. }) = Subject::parse(&namespace, &message.subject) {
                seen.push(id);
            }
        })
        .await?;
        self.take(open, &seen, Place::Dead);
        Ok(())
    }

    async fn see_schedules(&mut self, open: &mut Open) -> Result<(), Error> {
        let namespace = self.client.namespace().clone();
        let subjects = subjects_of(open.keys(), |id| Subject::Later(id.clone()).render(&namespace));
        let mut seen = Vec::new();
        self.each_last(&self.client.names().requests, &subjects, &mut |message| {
            if let Some(Subject::Later(id)) = Subject::parse(&namespace, &message.subject)
                && is_schedule(&message.headers)
            {
                seen.push(id);
            }
        })
        .await?;
        self.take(open, &seen, Place::Scheduled);
        Ok(())
    }

    /// What has not moved yet lies where it was stored.
    async fn see_own_sequences(&mut self, open: &mut Open) -> Result<(), Error> {
        let names = self.client.names();
        for stream in [&names.requests, &names.unique] {
            let lies =
                |suspect: &Suspect| (suspect.accepted.stream == *stream).then_some(suspect.accepted.sequence).flatten();
            let mut sequences: Vec<u64> = open.values().filter_map(lies).collect();
            sequences.sort_unstable();
            let mut rest = sequences.as_slice();
            while let Some((from, wanted)) = run_of(rest) {
                let page = self.page(stream, from, wanted).await?;
                let Some(last) = page.last().map(|message| message.sequence) else { break };
                self.meet(open, &page);
                rest = &rest[rest.partition_point(|sequence| *sequence <= last)..];
            }
        }
        Ok(())
    }

    async fn see_runs(&mut self, open: &mut Open) -> Result<(), Error> {
        let namespace = self.client.namespace().clone();
        // A request may start a run, too: where a workflow serves its capability.
        let runs = open.keys().filter_map(|id| RunId::parse(id.as_str()).ok());
        let subjects: Vec<String> =
            runs.map(|run| subject::stored_run_fact(&namespace, None, &run, &RunFact::Started)).collect();
        let mut seen = Vec::new();
        self.each_last(&self.client.names().runs, &subjects, &mut |message| {
            seen.extend(StoredFact::parse(&namespace, &message.subject).map(|fact| RequestId::from(&fact.run)));
        })
        .await?;
        self.take(open, &seen, Place::Run);
        Ok(())
    }

    /// Those that messages of a queue or a schedule are of are found.
    pub(super) fn meet(&mut self, open: &mut Open, messages: &[StoredMessage]) {
        let namespace = self.client.namespace();
        let met: Vec<_> = messages.iter().filter_map(|message| in_queue(namespace, message, &self.delivered)).collect();
        for (id, place) in met {
            self.take(open, &[id], place);
        }
    }

    fn take(&mut self, open: &mut Open, ids: &[RequestId], place: Place) {
        for id in ids {
            if open.remove(id).is_some() {
                self.found(place);
            }
        }
    }

    /// How far each consumer has delivered: it only tells what waits from what runs, so who may not look sees it wait.
    async fn consumers(&self) -> Result<Delivered, Error> {
        let mut delivered = Delivered::new();
        let names = self.client.names();
        for stream in [&names.requests, &names.unique] {
            match topology::consumer_states(self.client.connection(), stream).await {
                Ok(states) => {
                    delivered.extend(states.into_iter().map(|state| (state.consumer.name, state.delivered)));
                }
                Err(error) if error.kind() == broker::Kind::Forbidden => {}
                Err(_) => return Ok(Delivered::new()),
            }
        }
        Ok(delivered)
    }

    pub(super) async fn page(&self, stream: &str, from: u64, count: usize) -> Result<Vec<StoredMessage>, Error> {
        let read = || self.client.reader().page(stream, filter::EVERYTHING, from, count.clamp(1, PAGE));
        Ok(self.client.patiently(stream, read).await?.messages)
    }

    async fn each_last(
        &self,
        stream: &str,
        subjects: &[String],
        each: &mut (dyn FnMut(StoredMessage) + Send),
    ) -> Result<(), Error> {
        for some in subjects.chunks(PAGE) {
            let mut found = Vec::new();
            let read = || async {
                let mut found = Vec::new();
                // Bodies are of no use here, and many may be large.
                let mut bare = |message: StoredMessage| {
                    found.push(StoredMessage { body: Default::default(), ..message });
                };
                self.client.reader().each_last(stream, some, &mut bare).await.map(|()| found)
            };
            found.extend(self.client.patiently(stream, read).await?);
            found.into_iter().for_each(&mut *each);
        }
        Ok(())
    }
}

/// How it ended; its body does not matter.
pub(super) fn status(message: &StoredMessage) -> Status {
    Outcome::read(RequestId::of_sequence(0), &message.headers, &[]).status
}

fn subjects_of<'a>(ids: impl Iterator<Item = &'a RequestId>, subject: impl Fn(&RequestId) -> String) -> Vec<String> {
    ids.map(subject).collect()
}

/// The first sequence, and how many messages there can be from it up to the last one that one page may reach.
fn run_of(sequences: &[u64]) -> Option<(u64, usize)> {
    let first = *sequences.first()?;
    let near = sequences.partition_point(|sequence| *sequence < first + PAGE as u64);
    let last = sequences[near - 1];
    Some((first, usize::try_from(last - first).unwrap_or(0) + 1))
}

/// How long a stream may go without a leader, and how far tries are apart.
const PATIENCE: Duration = Duration::from_secs(30);
const TRIED_EVERY: Duration = Duration::from_secs(1);

impl Client {
    /// Asks again while the answer is one that passes: an audit is wanted most where servers go.
    pub(super) async fn patiently<T, F, Fut>(&self, stream: &str, ask: F) -> Result<T, Error>
    where
        F: Fn() -> Fut,
        Fut: Future<Output = Result<T, broker::Error>>,
    {
        let end = tokio::time::Instant::now() + PATIENCE;
        loop {
            match ask().await {
                Ok(answer) => return Ok(answer),
                Err(error) if error.kind() == broker::Kind::NotFound => return Err(Error::streams_missing(stream)),
                Err(error) => {
                    let is_over =
                        error.disposition() != broker::Disposition::Retry || tokio::time::Instant::now() >= end;
                    let explained = self.explained(error, stream).await;
                    if is_over || *explained.kind() == ErrorKind::StreamsMissing {
                        return Err(explained);
                    }
                    tokio::time::sleep(TRIED_EVERY).await;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_that_are_near_are_read_together() {
        assert_eq!(run_of(&[]), None);
        assert_eq!(run_of(&[5]), Some((5, 1)));
        assert_eq!(run_of(&[5, 7, 1_004, 1_005]), Some((5, 1_000)));
        assert_eq!(run_of(&[1, 1_000_000]), Some((1, 1)));
    }
}
