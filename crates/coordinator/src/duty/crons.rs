//! Recurring requests: their schedules are made to be what their specs say, and what must not overlap is let through.
//!
//! Whoever adds, pauses, resumes or removes one writes the spec first and then the schedule. If he dies in between, the
//! two differ, and the next look mends that. A schedule is tied to the revision of its spec, and is only ever replaced at
//! the sequence that was read, so two who mend make one schedule; and a spec is only believed at the revision that the
//! leader has, so that a replica which is behind brings nothing back.

mod fires;

use std::{collections::BTreeMap, time::Duration};

use broker::{Disposition, Entry, Error, Outgoing, Settled, topology};
use protocol::{
    CronName, CronSpec, Subject,
    cron::{self, CronTie, Mending, mending},
    subject::filter,
    topology::{bucket_stream, bucket_subject},
};

pub(crate) use fires::Fires;

use crate::{duty::Duty, post::Post};

/// Schedules that one read asks for: their bodies come along.
const PAGE: usize = 100;

/// Makes schedules what their specs say.
pub(crate) struct Crons {
    post: Post,
    /// The revisions of specs that were told to be invalid, so that each is told once.
    told: BTreeMap<CronName, u64>,
}

/// A spec and its schedule, as far as they are there.
#[derive(Default)]
struct Pair {
    spec: Option<Entry>,
    /// Sequence, and the revision it is tied to.
    schedule: Option<(u64, Option<u64>)>,
}

impl Crons {
    pub(crate) fn new(post: &Post) -> Self {
        Self { post: post.clone(), told: BTreeMap::new() }
    }

    async fn pairs(&self) -> Result<BTreeMap<CronName, Pair>, Error> {
        let mut pairs: BTreeMap<CronName, Pair> = BTreeMap::new();
        // Schedules first: a spec that is written in between is then only missing its schedule.
        let (stream, filter) = (&self.post.names.requests, filter::cron(self.post.namespace()));
        let mut from = Some(1);
        while let Some(sequence) = from {
            let page = self.post.reader.page(stream, &filter, sequence, PAGE).await?;
            from = page.next;
            for message in page.messages {
                if let Some(Subject::Cron(name)) = Subject::parse(self.post.namespace(), &message.subject) {
                    let revision = CronTie::read(&message.headers).map(|tie| tie.revision);
                    pairs.entry(name).or_default().schedule = Some((message.sequence, revision));
                }
            }
        }
        for entry in self.post.configuration.list(cron::KEYS).await? {
            if let Some(name) = cron::name_of(&entry.key) {
                pairs.entry(name).or_default().spec = Some(entry);
            }
        }
        Ok(pairs)
    }

    /// Says whether the spec can be made a schedule.
    async fn mend(&mut self, name: &CronName, pair: Pair) -> Result<bool, Error> {
        let revision = pair.spec.as_ref().map_or(0, |entry| entry.revision);
        let spec = match pair.spec.as_ref().and_then(|entry| entry.value.as_deref()).map(CronSpec::read) {
            // What it should be is not known, so what is there stays.
            Some(Err(fault)) => {
                self.tell_invalid(name, revision, &fault);
                return Ok(false);
            }
            Some(Ok(spec)) => Some(spec).filter(|spec| !spec.paused),
            None => None,
        };
        let step = mending(spec.as_ref().map(|_| revision), pair.schedule);
        if step == Mending::None || !self.is_latest(name, pair.spec.as_ref()).await? {
            return Ok(true);
        }
        match (step, spec) {
            (Mending::Publish { expecting }, Some(spec)) => {
                let tie = CronTie { name: name.clone(), revision };
                let (subject, headers, body) = spec.schedule(self.post.namespace(), &tie);
                let outgoing = Outgoing::new(subject, body).with_headers(headers).expecting(expecting);
                match self.post.recorder.record(&outgoing).await {
                    Ok(Settled::Stored(_)) => self.count(name, "published"),
                    Ok(Settled::Superseded) => {}
                    // A spec that was written by hand; it must not keep the others back.
                    Err(error) if error.disposition() == Disposition::Reject => {
                        self.tell_invalid(name, revision, &error.to_string());
                        return Ok(false);
                    }
                    Err(error) => return Err(error),
                }
            }
            (Mending::Purge { through }, _) => {
                let subject = Subject::Cron(name.clone()).render(self.post.namespace());
                let stream = &self.post.names.requests;
                if topology::purge(&self.post.connection, stream, &subject, Some(through + 1)).await? > 0 {
                    self.count(name, "purged");
                }
            }
            _ => {}
        }
        Ok(true)
    }

    /// Whether the spec that was read is the one that the leader has.
    async fn is_latest(&self, name: &CronName, read: Option<&Entry>) -> Result<bool, Error> {
        let (bucket, key) = (&self.post.names.config, cron::key(name));
        // A list leaves out what was removed: its marker's revision counts too.
        let read = match read {
            Some(entry) => entry.revision,
            None => {
                self.post.configuration.get(&key).await?.filter(|entry| entry.value.is_none()).map_or(0, |e| e.revision)
            }
        };
        let found =
            self.post.reader.last_sequence_at_leader(&bucket_stream(bucket), &bucket_subject(bucket, &key)).await?;
        Ok(found.map_or(0, |(sequence, _)| sequence) == read)
    }

    fn count(&self, name: &CronName, end: &str) {
        tracing::info!(cron = %name, end, "schedule was not what its spec says");
        self.post.metrics.cron_mended.inc();
    }

    fn tell_invalid(&mut self, name: &CronName, revision: u64, fault: &str) {
        if self.told.insert(name.clone(), revision) != Some(revision) {
            tracing::error!(cron = %name, fault, "spec of a recurring request is not valid; `sortie cron show` has it");
        }
    }
}

impl Duty for Crons {
    const NAME: &'static str = "crons";

    fn begin(&mut self) {
        self.told.clear();
    }

    async fn look(&mut self) -> Result<Option<Duration>, Error> {
        let pairs = self.pairs().await?;
        self.told.retain(|name, _| pairs.contains_key(name));
        let mut invalid = 0;
        for (name, pair) in pairs {
            invalid += i64::from(!self.mend(&name, pair).await?);
        }
        self.post.metrics.cron_invalid.set(invalid);
        Ok(None)
    }
}
