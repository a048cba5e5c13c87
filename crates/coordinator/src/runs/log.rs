//! A run as its log tells it: read where it is not in memory, and folded fact by fact.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc, time::Duration};

use broker::{
    Delivery, Error, Kind, StoredMessage,
    topology::{self, Counted},
};
use protocol::{
    Capability, ContentType, Headers, LoggedFact, RunFact, RunId, StepName, TraceContext, WorkflowName, header, limits,
    run::StoredFact, subject::filter, time::Timestamp,
};
use serde_json::Value;
use workflow::{
    Fact, Folded, Payload, State, Why,
    fact::{Event, Started},
};

use super::means::Means;

/// Facts that one read asks for.
const PAGE: usize = 500;

/// How often a log is read that does not reach the event in hand before the leader is asked, which has it.
const BEHIND_MAX: u32 = 3;
const BEHIND_WAIT: Duration = Duration::from_millis(20);

/// What the headers of a fact take in memory, about.
const HEADERS_BYTES: usize = 500;

/// The largest object that is loaded for an expression to look into.
const LOADED_BYTES_MAX: usize = 8 * 1024 * 1024;

/// One run in memory.
#[derive(Debug)]
pub(super) struct Log {
    pub(super) state: State,
    pub(super) partition: u8,
    /// What the facts up to here led to is carried out.
    pub(super) done_through: u64,
    /// What was folded, in order: every fact of the log up to the last one, but for timers that have not fired. A fact below the
    /// last one that is not among them was missed.
    pub(super) facts: Vec<LoggedFact>,
    /// About what the facts and the state take together, in bytes.
    pub(super) bytes: usize,
    /// Trace context of the request that started it.
    pub(super) trace: TraceContext,
    pub(super) began: Option<Began>,
    /// Outcomes of what nobody had asked for when they came, by step and item, with the last of each.
    pub(super) unasked: BTreeMap<(StepName, u64), u64>,
}

/// What the first fact tells of a run beside the engine's own.
#[derive(Clone, Debug)]
pub(super) struct Began {
    pub(super) at: Timestamp,
    /// None where a stranger wrote the fact.
    pub(super) workflow: Option<WorkflowName>,
    /// What was asked for, where the run is what became of a request.
    pub(super) capability: Option<Capability>,
    pub(super) version: String,
    /// The key of the place that it holds among runs that there may be at once.
    pub(super) holds: Option<String>,
    pub(super) retry_of: Option<RunId>,
    /// How many runs are above it.
    pub(super) depth: u32,
}

impl Began {
    fn read(at: Timestamp, started: &Started, headers: &Headers) -> Self {
        let text = |key: &str| started.definition[key].as_str();
        Self {
            at,
            workflow: text("workflow").and_then(|name| WorkflowName::parse(name).ok()),
            capability: headers.get(header::CAPABILITY).and_then(|name| Capability::parse(name).ok()),
            version: text("version").unwrap_or_default().to_owned(),
            holds: headers.get(header::HOLDS).map(str::to_owned),
            retry_of: started.retry_of.clone(),
            depth: headers.get(header::DEPTH).and_then(|text| text.parse().ok()).unwrap_or(0),
        }
    }
}

/// A message of a log, wherever it came from.
struct Piece<'a> {
    name: Cow<'a, str>,
    sequence: u64,
    at: Timestamp,
    headers: Cow<'a, Headers>,
    body: Cow<'a, [u8]>,
}

impl<'a> Piece<'a> {
    fn of_logged(fact: &'a LoggedFact) -> Self {
        Self {
            name: Cow::Borrowed(&fact.name),
            sequence: fact.sequence,
            at: fact.at,
            headers: Cow::Owned(fact.headers()),
            body: Cow::Owned(fact.bytes()),
        }
    }

    async fn read(&self, means: &Means) -> Result<Fact, Error> {
        let reference = self.headers.get(header::PAYLOAD_REF);
        let body = match (RunFact::parse(&self.name), reference) {
            // It holds the definition, without which nothing can be folded.
            (Some(RunFact::Started), Some(reference)) => means.object(reference, limits::BODY_BYTES_MAX).await?,
            _ => None,
        };
        let body = body.as_deref().unwrap_or(&self.body);
        Ok(Fact::read(&self.name, self.sequence, self.at, &self.headers, body))
    }
}

/// A fact of a run that is over, from its summary.
pub(super) async fn read_logged(means: &Means, fact: &LoggedFact) -> Result<Fact, Error> {
    Piece::of_logged(fact).read(means).await
}

impl Log {
    /// Reads a run's log, at least to a fact that is known to be there. None when that fact is gone: the log was purged.
    pub(super) async fn load(
        means: &Means,
        run: &RunId,
        partition: u8,
        through: u64,
        done_through: u64,
    ) -> Result<Option<Self>, Error> {
        let _permit = means.loads.acquire().await;
        means.post.metrics.runs.loads.inc();
        let Some(messages) = read(means, run, partition, through).await? else { return Ok(None) };
        let pieces = messages.iter().filter_map(|message| {
            let stored = StoredFact::parse(means.post.namespace(), &message.subject)?;
            Some(Piece {
                name: stored.name.into(),
                sequence: message.sequence,
                at: message.time,
                headers: Cow::Borrowed(&message.headers),
                body: Cow::Borrowed(&message.body),
            })
        });
        let mut log = Self::of_pieces(means, run, pieces.collect()).await?;
        (log.partition, log.done_through) = (partition, done_through);
        Ok(Some(log))
    }

    /// The log of a run that has nothing but its first fact.
    pub(super) async fn begin(means: &Means, run: &RunId, partition: u8, first: &Delivery) -> Result<Self, Error> {
        let piece = Piece {
            name: RunFact::Started.to_string().into(),
            sequence: first.sequence,
            at: first.published_at,
            headers: Cow::Borrowed(&first.message.headers),
            body: Cow::Borrowed(&first.message.body),
        };
        let mut log = Self::of_pieces(means, run, vec![piece]).await?;
        log.partition = partition;
        Ok(log)
    }

    /// The log of a run that is over, as its summary keeps it.
    pub(super) async fn of_facts(means: &Means, run: &RunId, facts: &[LoggedFact]) -> Result<Self, Error> {
        Self::of_pieces(means, run, facts.iter().map(Piece::of_logged).collect()).await
    }

    async fn of_pieces(means: &Means, run: &RunId, pieces: Vec<Piece<'_>>) -> Result<Self, Error> {
        let mut state = State::new(run.clone());
        let first = pieces.iter().find(|piece| RunFact::parse(&piece.name) == Some(RunFact::Started));
        if let Some(first) = first
            && let Event::Started(started) = first.read(means).await?.event
            && let Some(program) = means.programs.get(&started.definition)
        {
            state = State::with_program(run.clone(), program);
        }
        let mut log = Self {
            state,
            partition: 0,
            done_through: 0,
            facts: Vec::with_capacity(pieces.len()),
            bytes: 0,
            trace: TraceContext::default(),
            began: None,
            unasked: BTreeMap::new(),
        };
        for piece in pieces {
            log.fold(means, piece).await?;
        }
        Ok(log)
    }

    /// When a fact was stored; none for one that was not folded.
    pub(super) fn stored_at(&self, sequence: u64) -> Option<Timestamp> {
        let index = self.facts.binary_search_by_key(&sequence, |fact| fact.sequence).ok()?;
        self.facts.get(index).map(|fact| fact.at)
    }

    /// Folds an event. False when it is older than what was folded and was missed: the log must be read again.
    pub(super) async fn take(&mut self, means: &Means, name: &str, event: &Delivery) -> Result<bool, Error> {
        if event.sequence <= self.state.last_sequence() {
            return Ok(self.stored_at(event.sequence).is_some());
        }
        // What it tells of could be delivered to nobody.
        if let Some(RunFact::Unreadable(told)) = RunFact::parse(name)
            && self.stored_at(told).is_none()
        {
            return Ok(false);
        }
        let (headers, body) = (Cow::Borrowed(&event.message.headers), Cow::Borrowed(&*event.message.body));
        let (sequence, at) = (event.sequence, event.published_at);
        self.fold(means, Piece { name: name.into(), sequence, at, headers, body }).await?;
        Ok(true)
    }

    async fn fold(&mut self, means: &Means, piece: Piece<'_>) -> Result<(), Error> {
        let mut fact = piece.read(means).await?;
        self.bring(means, &mut fact.event).await?;
        if let Event::Started(started) = &fact.event
            && self.began.is_none()
        {
            self.trace = TraceContext::read(&piece.headers);
            self.began = Some(Began::read(fact.at, started, &piece.headers));
        }
        if let Folded::Nothing(why) = self.state.fold(&fact) {
            tracing::debug!(run = %self.state.run(), sequence = piece.sequence, name = %piece.name, %why, "fact changes nothing");
            // Before the run has started nobody was asked either.
            if let (Why::NotAsked | Why::NotStarted, Event::StepEnded { step, item, .. }) = (why, &fact.event) {
                self.unasked.insert((step.clone(), *item), piece.sequence);
            }
        }
        means.post.metrics.runs.facts.inc();
        let mut kept = LoggedFact::new(piece.sequence, piece.at, piece.name, &piece.headers, &piece.body);
        // Of the delivery, not of the fact.
        kept.headers.retain(|(name, _)| name != header::NATS_PIN_ID);
        self.bytes += 2 * piece.body.len() + size_of::<LoggedFact>() + HEADERS_BYTES;
        self.facts.push(kept);
        Ok(())
    }

    /// Loads what an expression will look into. What is gone, or too large, stays a reference: the expression then says so.
    async fn bring(&mut self, means: &Means, event: &mut Event) -> Result<(), Error> {
        let held = match event {
            Event::Started(started) if is_held(&started.input) && self.is_input_read(started) => &mut started.input,
            Event::StepEnded { step, outcome, .. } if self.state.is_output_read(step) => &mut outcome.output,
            Event::Signalled { name, value } if self.state.is_signal_read(name) => value,
            _ => return Ok(()),
        };
        if let Payload::Held { reference, content_type } = &*held
            && let Some(body) = means.object(reference, LOADED_BYTES_MAX).await?
            && let Ok(value) = ContentType::read(Some(content_type)).decode::<Value>(&body)
        {
            self.bytes += body.len();
            *held = Payload::from(value);
        }
        Ok(())
    }

    fn is_input_read(&mut self, started: &Started) -> bool {
        self.state.is_input_read(started)
    }
}

fn is_held(payload: &Payload) -> bool {
    matches!(payload, Payload::Held { .. })
}

/// The messages of a log, at least to one that is known to be there; none when that one is gone. What does not reach it, or is
/// not whole, is read again, and at last from the leader: a replica may be behind, and a server that cannot open a file passes
/// over what lies in it.
async fn read(means: &Means, run: &RunId, partition: u8, through: u64) -> Result<Option<Vec<StoredMessage>>, Error> {
    let (post, filter) = (&means.post, filter::run_log(means.post.namespace(), Some(partition), run));
    let stream = &post.names.runs;
    for tried in 0..=BEHIND_MAX {
        let counted = topology::counted(&post.connection, stream, &filter).await?;
        let messages = if tried == BEHIND_MAX {
            pages(means, &filter, true).await?
        } else if is_read_by_subject(means, &counted.subjects) {
            // The broker has an index of subjects. Under a filter it looks through what all runs have written: 9 ms of it with
            // 100,000 facts, and 0.1 ms so (2.15.1, 2026-11-22).
            let subjects: Vec<String> = counted.subjects.keys().cloned().collect();
            post.reader.last_of_each(stream, &subjects).await?
        } else {
            pages(means, &filter, false).await?
        };
        let reaches = messages.last().is_some_and(|last| last.sequence >= through);
        if reaches && is_whole(&messages, &counted) {
            return Ok(Some(messages));
        }
        if !reaches && !post.reader.is_at_leader(stream, through).await? {
            return Ok(None);
        }
        tokio::time::sleep(BEHIND_WAIT).await;
    }
    Err(Error::new(Kind::TimedOut, format!("the log of run {run} is not read to fact {through}, or not whole")))
}

/// Whether the last fact of each subject is all there is of a small log. What nobody can read is read in pages, which know it.
fn is_read_by_subject(means: &Means, counts: &BTreeMap<String, u64>) -> bool {
    let can_be_read = |subject: &String| !matches!(fact_at(means, subject), Some(RunFact::Unreadable(_)));
    counts.len() <= PAGE && counts.iter().all(|(subject, count)| *count == 1 && can_be_read(subject))
}

fn fact_at(means: &Means, subject: &str) -> Option<RunFact> {
    RunFact::parse(&StoredFact::parse(means.post.namespace(), subject)?.name)
}

async fn pages(means: &Means, filter: &str, is_at_leader: bool) -> Result<Vec<StoredMessage>, Error> {
    let (reader, stream) = (&means.post.reader, &means.post.names.runs);
    let (mut messages, mut from) = (Vec::new(), Some(1));
    while let Some(sequence) = from {
        let page = match is_at_leader {
            true => reader.page_at_leader(stream, filter, sequence, PAGE).await?,
            false => reader.page(stream, filter, sequence, PAGE).await?,
        };
        from = page.next;
        messages.extend(page.messages);
    }
    Ok(messages)
}

/// Whether all was read that the leader had counted in a log. What came since may be there too.
fn is_whole(messages: &[StoredMessage], counted: &Counted) -> bool {
    let mut read = BTreeMap::<&str, u64>::new();
    for message in messages.iter().filter(|message| message.sequence <= counted.last_sequence) {
        *read.entry(&message.subject).or_default() += 1;
    }
    counted.subjects.iter().all(|(subject, count)| read.get(subject.as_str()).is_some_and(|read| read >= count))
}

/// Deliveries in the order of their facts.
pub(super) fn in_order(events: &mut [Arc<Delivery>]) {
    events.sort_unstable_by_key(|event| event.sequence);
}
