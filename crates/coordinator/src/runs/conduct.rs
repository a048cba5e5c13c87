//! One turn of one run: events in hand are folded, what they led to is carried out, and only then they are acknowledged.

use std::{sync::Arc, time::Duration};

use broker::{Delivery, Error, topology};
use protocol::{RequestId, RunFact, RunId, Subject, header, run::StoredFact, subject::filter};

use super::{
    carry::Carrier,
    end,
    fence::Term,
    hand::Hand,
    log::{self, Log},
    means::Means,
    removal,
};

/// How long a log that is not there, without an outcome of its run, is looked for.
const GONE_AFTER: Duration = Duration::from_secs(60);

/// A turn of a run.
pub(super) struct Turn {
    pub(super) means: Arc<Means>,
    pub(super) hand: Arc<Hand>,
    pub(super) term: Term,
    pub(super) run: RunId,
    pub(super) partition: u8,
    /// Whether a log that the broker found empty certainly was.
    pub(super) is_sure: bool,
    /// What is below this was acknowledged, and so carried out.
    pub(super) ack_floor: u64,
    /// None: it is not in memory.
    pub(super) log: Option<Log>,
    pub(super) events: Vec<Arc<Delivery>>,
}

/// How a turn ended.
pub(super) struct Ended {
    pub(super) run: RunId,
    /// None: it is over, or to be read again.
    pub(super) log: Option<Log>,
    /// Whether there were facts of a run that had not started.
    pub(super) was_early: bool,
    /// What is not done.
    pub(super) left: Vec<Arc<Delivery>>,
    pub(super) error: Option<Error>,
}

impl Turn {
    pub(super) async fn take(mut self) -> Ended {
        log::in_order(&mut self.events);
        let mut was_early = false;
        let result = self.go(&mut was_early).await;
        let (left, error) = match result {
            Ok(()) => (Vec::new(), None),
            Err(error) => (self.events, Some(error)),
        };
        Ended { run: self.run, log: self.log, was_early, left, error }
    }

    async fn go(&mut self, was_early: &mut bool) -> Result<(), Error> {
        if !self.fold().await? {
            // The log was purged through all of them: the run is over.
            self.log = None;
            if !self.is_over().await? {
                return Err(Error::new(broker::Kind::TimedOut, "its log is not there, and no outcome of it either"));
            }
            self.ack().await;
            return Ok(());
        }
        let told = self.told_unreadable();
        if let (Some(told), Some(log)) = (told, &mut self.log) {
            // It was acknowledged before anybody carried out what it led to.
            log.done_through = log.done_through.min(told.saturating_sub(1));
        }
        let Some(log) = &self.log else { return Ok(()) };
        if !log.state.is_started() {
            *was_early = true;
            return self.wait_or_purge().await;
        }
        let carrier = Carrier { means: &self.means, term: &self.term, log };
        let is_over = match self.has_begun_again().await? {
            true => end::end_again(&carrier).await.map(|()| true)?,
            false => carrier.carry_out().await?,
        };
        if is_over {
            self.log = None;
        } else if let Some(log) = &mut self.log {
            log.done_through = log.state.last_sequence();
        }
        self.ack().await;
        Ok(())
    }

    /// Whether a run without a log is over. A log goes after the outcome is stored, or as a stray's; and a leader of three that
    /// was just elected may know less than what it was elected for, so that a log which is there is not seen.
    async fn is_over(&self) -> Result<bool, Error> {
        if has_outcome(&self.means, &self.run).await? {
            return Ok(true);
        }
        let (post, is_old) = (&self.means.post, |event: &Arc<Delivery>| event.received.elapsed() >= GONE_AFTER);
        let filter = filter::run_log(post.namespace(), Some(self.partition), &self.run);
        Ok(self.events.iter().all(is_old) && !post.reader.has(&post.names.runs, &filter).await?)
    }

    /// Whether the run was over before it began: its start was handled twice, the second time past the end of the first, when
    /// nothing was left in the log that would have refused another first fact. A run's outcome is stored before its log goes.
    async fn has_begun_again(&self) -> Result<bool, Error> {
        if !self.events.iter().any(|event| self.is_first(event)) {
            return Ok(false);
        }
        let post = &self.means.post;
        let subject = Subject::outcome_of(&RequestId::from(&self.run)).render(post.namespace());
        // Each run begins with this question.
        Ok(post.reader.last_as_leader_reads(&post.names.outcomes, &subject).await?.is_some())
    }

    fn is_first(&self, event: &Delivery) -> bool {
        let stored = StoredFact::parse(self.means.post.namespace(), &event.message.subject);
        stored.is_some_and(|stored| RunFact::parse(&stored.name) == Some(RunFact::Started))
    }

    /// Brings the log to where every event is folded. False: it is gone.
    async fn fold(&mut self) -> Result<bool, Error> {
        let Some(through) = self.events.last().map(|event| event.sequence) else { return Ok(self.log.is_some()) };
        if let Some(mut log) = self.log.take() {
            if self.fold_into(&mut log).await? {
                self.log = Some(log);
                return Ok(true);
            }
            tracing::debug!(run = %self.run, "a fact was missed, the log is read again");
        }
        if let Some(mut log) = self.begun().await?
            && self.fold_into(&mut log).await?
        {
            self.log = Some(log);
            return Ok(true);
        }
        self.log = Log::load(&self.means, &self.run, self.partition, through, self.ack_floor).await?;
        Ok(self.log.is_some())
    }

    /// The first message that one of the events tells of because nobody can read it.
    fn told_unreadable(&self) -> Option<u64> {
        let told = self.events.iter().filter_map(|event| {
            let stored = StoredFact::parse(self.means.post.namespace(), &event.message.subject)?;
            match RunFact::parse(&stored.name)? {
                RunFact::Unreadable(sequence) => Some(sequence),
                _ => None,
            }
        });
        told.min()
    }

    /// The log of a run of which nothing is known but its first fact, where that is all there is. It says so itself, but not when
    /// it is delivered for the second time, nor of what was on its way when it was stored: then the broker counts.
    async fn begun(&self) -> Result<Option<Log>, Error> {
        let [first, others @ ..] = &self.events[..] else { return Ok(None) };
        if !self.is_first(first) {
            return Ok(None);
        }
        let says_so = first.delivered == 1 && first.message.headers.get(header::LOG_WAS_EMPTY) == Some("true");
        if (self.is_sure && says_so) || (others.is_empty() && self.is_alone(first).await?) {
            return Log::begin(&self.means, &self.run, self.partition, first).await.map(Some);
        }
        Ok(None)
    }

    async fn is_alone(&self, first: &Delivery) -> Result<bool, Error> {
        let post = &self.means.post;
        let filter = filter::run_log(post.namespace(), Some(self.partition), &self.run);
        let counts = topology::subject_counts(&post.connection, &post.names.runs, &filter).await?;
        Ok(counts.len() == 1 && counts.get(&first.message.subject) == Some(&1))
    }

    async fn fold_into(&self, log: &mut Log) -> Result<bool, Error> {
        for event in &self.events {
            let stored = StoredFact::parse(self.means.post.namespace(), &event.message.subject);
            if let Some(stored) = stored
                && !log.take(&self.means, &stored.name, event).await?
            {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Facts of a run that has not started are those of one that is over, and purged; or they came first, and wait in the
    /// log: the start is read with them.
    async fn wait_or_purge(&mut self) -> Result<(), Error> {
        self.log = None;
        let Some(through) = self.events.last().map(|event| event.sequence) else { return Ok(()) };
        if has_outcome(&self.means, &self.run).await? {
            if !self.term.lasts() {
                return Err(Error::new(broker::Kind::Fenced, "the partition is another's"));
            }
            removal::purge(&self.means, &self.run, Some(self.partition), through).await?;
        }
        self.ack().await;
        Ok(())
    }

    async fn ack(&self) {
        self.hand.ack(&self.means.post.connection, &self.events).await;
    }
}

/// Whether a run is over, or will never start. The leader's word, where a replica says no.
pub(super) async fn has_outcome(means: &Means, run: &RunId) -> Result<bool, Error> {
    let (post, id) = (&means.post, RequestId::from(run));
    let subject = Subject::outcome_of(&id).render(post.namespace());
    if post.reader.last(&post.names.outcomes, &subject).await?.is_some() {
        return Ok(true);
    }
    post.reader.has(&post.names.outcomes, &subject).await
}

/// Whether a fact needs no folding: it only tells that a timer was set, in a log of before timers had a place of their own.
pub(super) fn only_tells(name: &str) -> bool {
    matches!(RunFact::parse(name), Some(RunFact::Timer(_)))
}
