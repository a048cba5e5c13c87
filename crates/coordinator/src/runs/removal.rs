//! How the log of a run goes that is over, and its timers before it.
//!
//! A purge makes the broker count anew what each consumer of the stream has before it, and look through the facts of all runs:
//! 1.6 ms of it with 100,000 facts, less than 0.2 with some hundreds. A fact that is deleted by its sequence costs 0.04 ms,
//! however many there are (2.15.1, 2026-11-22). Where logs are replicated there is no choice: [`topology::purge`] says why.

use std::time::{Duration, Instant};

use broker::{Error, topology};
use futures_util::{TryStreamExt, stream};
use protocol::{LoggedFact, RunFact, RunId, Subject, subject::filter};
use tokio::sync::Mutex;
use workflow::{command::Order, fact::TimerName};

use super::{carry::Carrier, means::Means};

/// The most facts that are deleted one by one where a purge would do.
const ONE_BY_ONE_MAX: usize = 64;

/// Deletes that wait for their answers at once.
const AT_ONCE: usize = 16;

/// Facts of all runs from which on a purge costs more than a delete for each fact of a run of three steps.
const CROWDED: u64 = 2_000;

/// How long what was seen of the stream is taken for known.
const KNOWN_FOR: Duration = Duration::from_secs(1);

/// How the stream of the logs stands, as of a moment ago.
#[derive(Debug, Default)]
pub(super) struct Crowd {
    looked: Mutex<Option<Seen>>,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    at: Instant,
    is_replicated: bool,
    /// Of all runs.
    facts: u64,
}

impl Crowd {
    async fn see(&self, means: &Means) -> Result<Seen, Error> {
        let mut looked = self.looked.lock().await;
        if let Some(seen) = looked.filter(|seen| seen.at.elapsed() < KNOWN_FOR) {
            return Ok(seen);
        }
        let state = topology::stream_state(&means.post.connection, &means.post.names.runs).await?;
        let seen = Seen { at: Instant::now(), is_replicated: state.stream.replicas > 1, facts: state.messages };
        *looked = Some(seen);
        Ok(seen)
    }
}

/// Removes a run's timers, and then its log up to its last fact. What comes after it, or was missed, is delivered as a fact of
/// a run that is over.
///
/// # Errors
/// `Fenced`, or what passes by itself.
pub(super) async fn remove(carrier: &Carrier<'_>) -> Result<(), Error> {
    let (means, log) = (carrier.means, carrier.log);
    let own = log.state.is_timed().then_some(TimerName::Run);
    let open = log.state.commands_since(0).into_iter().filter_map(|command| match command.order {
        Order::SetTimer { timer, .. } => Some(timer),
        _ => None,
    });
    for timer in open.chain(own) {
        remove_timer(carrier, timer).await?;
    }
    let seen = means.crowd.see(means).await?;
    if seen.is_replicated || (seen.facts >= CROWDED && log.facts.len() <= ONE_BY_ONE_MAX) {
        one_by_one(carrier, &log.facts).await?;
        // What nobody can read is in the log, and not among what was folded.
        let is_unreadable = |fact: &LoggedFact| matches!(RunFact::parse(&fact.name), Some(RunFact::Unreadable(_)));
        if !log.facts.iter().any(is_unreadable) {
            return Ok(());
        }
    }
    carrier.check()?;
    purge(means, log.state.run(), Some(log.partition), log.state.last_sequence()).await
}

/// The first fact goes first: what is there without it is no run, and is removed by whoever finds it. So it is never folded to
/// a state that the run has passed.
async fn one_by_one(carrier: &Carrier<'_>, facts: &[LoggedFact]) -> Result<(), Error> {
    let is_first = |fact: &&LoggedFact| RunFact::parse(&fact.name) == Some(RunFact::Started);
    let Some(first) = facts.iter().find(is_first) else { return Ok(()) };
    delete(carrier, first.sequence).await?;
    let others = facts.iter().map(|fact| fact.sequence).filter(|sequence| *sequence != first.sequence);
    stream::iter(others.map(Ok)).try_for_each_concurrent(AT_ONCE, |sequence| delete(carrier, sequence)).await
}

async fn delete(carrier: &Carrier<'_>, sequence: u64) -> Result<(), Error> {
    let post = &carrier.means.post;
    carrier.check()?;
    topology::delete_message(&post.connection, &post.names.runs, sequence).await
}

/// Removes a timer that has not fired.
///
/// # Errors
/// `Fenced`, or what passes by itself.
pub(super) async fn remove_timer(carrier: &Carrier<'_>, timer: TimerName) -> Result<(), Error> {
    let post = &carrier.means.post;
    let place = Subject::Timer { run: carrier.log.state.run().clone(), timer }.render(post.namespace());
    match post.reader.last_sequence_at_leader(&post.names.runs, &place).await? {
        Some((sequence, _)) => delete(carrier, sequence).await,
        None => Ok(()),
    }
}

/// Removes whatever lies in a log up to a fact.
///
/// # Errors
/// What passes by itself.
pub(super) async fn purge(means: &Means, run: &RunId, partition: Option<u8>, through: u64) -> Result<(), Error> {
    let post = &means.post;
    let filter = filter::run_log(post.namespace(), partition, run);
    topology::purge(&post.connection, &post.names.runs, &filter, Some(through + 1)).await.map(|_| ())
}
