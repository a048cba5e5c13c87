//! Facts that belong to no run: of one that never started, or written after one had ended and never looked at.
//!
//! A fact may come before its run, and then waits in the log. What has waited for an hour without an outcome of its run and
//! without a start waits for nothing. Each is judged once: what belongs to a live run goes with that run's log.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use broker::{Error, topology};
use chrono::TimeDelta;
use protocol::{
    RequestId, RunFact, RunId, Subject,
    run::StoredFact,
    subject::{self, filter},
};

use crate::{duty::Duty, post::Post};

/// Facts that one read asks for.
const PAGE: usize = 500;

/// Looks for facts of no run.
pub(crate) struct Strays {
    post: Post,
    /// By filter: where the next look goes on.
    from: BTreeMap<String, u64>,
}

impl Strays {
    pub(crate) fn new(post: &Post) -> Self {
        Self { post: post.clone(), from: BTreeMap::new() }
    }

    async fn look_at_all(&mut self) -> Result<(), Error> {
        for filter in filter::run_strays(self.post.namespace()) {
            let old = self.old_facts(&filter).await?;
            for run in self.without_start(&old).await? {
                let (partition, through) = old[&run];
                self.purge(&run, partition, through).await?;
            }
        }
        Ok(())
    }

    /// The runs that facts under a filter belong to and that are old enough, with the last of those facts.
    async fn old_facts(&mut self, filter: &str) -> Result<BTreeMap<RunId, (u8, u64)>, Error> {
        let kept = TimeDelta::from_std(self.post.config.strays_kept).unwrap_or(TimeDelta::MAX);
        let before = self.post.clock.now() - kept;
        let mut found = BTreeMap::new();
        let mut from = Some(self.from.get(filter).copied().unwrap_or(1));
        while let Some(sequence) = from {
            let page = self.post.reader.page(&self.post.names.runs, filter, sequence, PAGE).await?;
            from = page.next;
            for message in page.messages {
                if message.time > before {
                    return Ok(found);
                }
                self.from.insert(filter.to_owned(), message.sequence + 1);
                if let Some(fact) = StoredFact::parse(self.post.namespace(), &message.subject) {
                    found.insert(fact.run, (fact.partition, message.sequence));
                }
            }
        }
        Ok(found)
    }

    /// Those of these runs that have no first fact.
    async fn without_start(&self, runs: &BTreeMap<RunId, (u8, u64)>) -> Result<BTreeSet<RunId>, Error> {
        let namespace = self.post.namespace();
        let place = |run: &RunId| subject::stored_run_fact(namespace, Some(runs[run].0), run, &RunFact::Started);
        let places: Vec<String> = runs.keys().map(place).collect();
        let mut left: BTreeSet<RunId> = runs.keys().cloned().collect();
        for found in self.post.reader.last_of_each(&self.post.names.runs, &places).await? {
            if let Some(fact) = StoredFact::parse(namespace, &found.subject) {
                left.remove(&fact.run);
            }
        }
        Ok(left)
    }

    async fn purge(&self, run: &RunId, partition: u8, through: u64) -> Result<(), Error> {
        let post = &self.post;
        // A start that is still queued takes what came first.
        let first = subject::stored_run_fact(post.namespace(), Some(partition), run, &RunFact::Started);
        if post.reader.has(&post.names.runs, &first).await? {
            return Ok(());
        }
        let filter = filter::run_log(post.namespace(), Some(partition), run);
        let purged = topology::purge(&post.connection, &post.names.runs, &filter, Some(through + 1)).await?;
        let outcome = Subject::outcome_of(&RequestId::from(run)).render(post.namespace());
        let has_ended = post.reader.last(&post.names.outcomes, &outcome).await?.is_some();
        tracing::info!(%run, facts = purged, has_ended, "facts of no run were removed");
        Ok(())
    }
}

impl Duty for Strays {
    const NAME: &'static str = "strays";

    fn begin(&mut self) {
        self.from.clear();
    }

    async fn look(&mut self) -> Result<Option<Duration>, Error> {
        self.post.now().await?;
        let looked = self.look_at_all().await;
        if looked.is_err() {
            // What was passed over unjudged is found again.
            self.from.clear();
        }
        looked.map(|()| None)
    }
}
