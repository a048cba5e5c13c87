//! Recurring requests: specs in the configuration bucket, each with a schedule of the broker that does the firing.
//!
//! A spec is written before its schedule. Whoever dies in between leaves a difference that the coordinator mends, and
//! nothing fires twice for it: there is one schedule per name, tied to the revision of the spec that it was made from.

use std::time::{Duration, Instant};

use broker::{Disposition, Kind, Outgoing, ScheduleVerdict, StoredMessage};
use protocol::{
    ContentType, CronName, CronSpec, Subject,
    cron::{self, CronTie, Mending, Overlap, Recurrence, mending},
    header, subject,
    time::Timestamp,
};
use serde::Serialize;

use crate::{Client, Error, ErrorKind, Receipt};

/// Schedules that one read asks for: their bodies come along.
const PAGE: usize = 64;

/// How long a schedule is tried; the coordinator goes on after that.
const SCHEDULED_WITHIN: Duration = Duration::from_secs(15);

/// A recurring request as it stands.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CronEntry {
    /// Its name.
    pub name: CronName,
    /// How it stands.
    pub state: CronState,
    /// What it says; none where it was made by hand, or cannot be read.
    pub spec: Option<CronSpec>,
    /// Why its spec cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
    /// The revision of its spec; 0 where it has none.
    pub revision: u64,
    /// When it fires, in the broker's words.
    pub schedule: Option<String>,
    /// The zone of that.
    pub zone: Option<String>,
    /// Where it fires.
    pub target: Option<String>,
    /// When it should fire next, computed here; none where it does not fire or that is not understood.
    pub next: Option<Timestamp>,
}

/// How a recurring request stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CronState {
    /// It fires.
    Active,
    /// It does not fire until it is resumed.
    Paused,
    /// Its schedule is not what its spec says: a coordinator mends that.
    Unsettled,
    /// A schedule that somebody published by hand, without a spec.
    ByHand,
    /// Its spec cannot be read.
    Invalid,
}

/// A spec as it is stored. The revision counts also where it was removed.
struct Kept {
    revision: u64,
    spec: Option<Result<CronSpec, String>>,
}

impl Client {
    /// Shows the broker what is to recur, and says everything that is wrong with it. Nothing is stored.
    ///
    /// # Errors
    /// `Invalid` with all faults; `StreamsMissing`, and what publishing says.
    pub async fn cron_check(&self, name: &CronName, spec: &CronSpec) -> Result<(), Error> {
        let mut faults = spec.faults();
        let tie = CronTie { name: name.clone(), revision: 0 };
        let (subject, headers, body) = spec.schedule(self.namespace(), &tie);
        let outgoing = Outgoing::new(subject, body).with_headers(headers);
        let verdict = broker::check_schedule(self.publisher(), outgoing).await;
        let verdict = match verdict {
            Ok(verdict) => verdict,
            Err(_) if !faults.is_empty() => ScheduleVerdict::Good,
            Err(error) => return Err(self.explained(error, &self.names().requests).await),
        };
        match verdict {
            ScheduleVerdict::Good => {}
            ScheduleVerdict::BadPattern => faults.push(format!(
                "schedule: the broker does not take `{}`{}: six fields (second minute hour day month weekday), `@every 10s` \
                 (one second at least, without a zone), `@hourly`, `@daily`, `@weekly`, `@monthly` or `@yearly`",
                spec.schedule,
                spec.zone.as_ref().map(|zone| format!(" in zone {zone}")).unwrap_or_default(),
            )),
            ScheduleVerdict::BadZone => faults.push(format!(
                "zone: the broker knows no `{}`: an IANA name such as Europe/Zurich, known to the server's machine",
                spec.zone.as_deref().unwrap_or_default()
            )),
            ScheduleVerdict::BadTarget => {
                let target = spec.target(name).render(self.namespace());
                let message = format!(
                    "stream {} does not take {target}: bring it up to date with `sortie topology apply`",
                    self.names().requests
                );
                return Err(Error::new(ErrorKind::StreamsMissing, message));
            }
        }
        if faults.is_empty() { Ok(()) } else { Err(Error::invalid(faults.join("; "))) }
    }

    /// Stores a spec and makes the broker fire it. With `replace`, over one that is there, also one made by hand.
    ///
    /// # Errors
    /// Those of [`Client::cron_check`]; `Conflict` when the name is taken, or somebody else changes it just now.
    pub async fn cron_add(&self, name: &CronName, spec: &CronSpec, replace: bool) -> Result<u64, Error> {
        self.cron_check(name, spec).await?;
        let kept = self.cron_kept(name).await?;
        if !replace {
            let taken = |how: &str| {
                let message = format!("cron {name} {how}: see `sortie cron show {name}`, or replace it with --replace");
                Err(Error::new(ErrorKind::Conflict, message))
            };
            if kept.spec.is_some() {
                return taken("is there already");
            }
            if self.cron_schedule(name).await?.is_some_and(|schedule| CronTie::read(&schedule.headers).is_none()) {
                return taken("has a schedule that was made by hand");
            }
        }
        self.cron_write(name, spec, kept.revision).await
    }

    /// Stops it until it is resumed. False if it is paused already.
    ///
    /// # Errors
    /// `NotFound`, `Invalid` where its spec cannot be read, `Conflict`, and what publishing says.
    pub async fn cron_pause(&self, name: &CronName) -> Result<bool, Error> {
        self.cron_set_paused(name, true).await
    }

    /// Makes it fire again. What would have fired meanwhile does not. False if it was not paused.
    ///
    /// # Errors
    /// Those of [`Client::cron_pause`].
    pub async fn cron_resume(&self, name: &CronName) -> Result<bool, Error> {
        self.cron_set_paused(name, false).await
    }

    /// Asks for it once, now, paused or not. What it asks for is a request of its own.
    ///
    /// # Errors
    /// `NotFound`, `Invalid` where its spec cannot be read; `KeyTaken` where it must not overlap and still runs; else
    /// those of [`submit`](crate::RequestBuilder::submit).
    pub async fn cron_fire(&self, name: &CronName) -> Result<Receipt, Error> {
        let (revision, spec) = self.cron_spec(name).await?;
        let body = spec.body.to_string();
        let mut request = self.request_encoded(&spec.capability, ContentType::Json, body).lane(spec.lane);
        if spec.overlap == Overlap::Skip
            && let Subject::Unique { key, .. } = spec.unique(name)
        {
            request = request.unique(key);
        }
        for (header, value) in &spec.headers {
            request = request.header(header, value);
        }
        let wish = &mut request.wish;
        (wish.timeout, wish.attempts, wish.backoff) = (spec.timeout, spec.attempts, spec.backoff);
        wish.cron = Some(CronTie { name: name.clone(), revision });
        match spec.deadline {
            Some(deadline) => request.deadline_in(deadline).submit().await,
            None => request.submit().await,
        }
    }

    /// Removes spec and schedule, also of one made by hand. False if there was none.
    ///
    /// # Errors
    /// `Conflict`, and what publishing says.
    pub async fn cron_remove(&self, name: &CronName) -> Result<bool, Error> {
        let kept = self.cron_kept(name).await?;
        let was_there = kept.spec.is_some() || self.cron_schedule(name).await?.is_some();
        if kept.spec.is_some() {
            match self.config_bucket().remove_at(&cron::key(name), kept.revision).await {
                Ok(()) => {}
                Err(error) if error.kind() == Kind::WrongSequence => {
                    return Err(Error::new(ErrorKind::Conflict, format!("somebody changed cron {name} meanwhile")));
                }
                Err(error) => return Err(self.explained(error, &self.config_stream()).await),
            }
        }
        self.cron_purge(name).await?;
        Ok(was_there)
    }

    /// One as it stands, if there is one.
    ///
    /// # Errors
    /// `StreamsMissing`, and what reading says.
    pub async fn cron(&self, name: &CronName) -> Result<Option<CronEntry>, Error> {
        let kept = self.cron_kept(name).await?;
        let schedule = self.cron_schedule(name).await?;
        let now = self.now().await?;
        Ok(entry(name.clone(), Some(kept), schedule.as_ref(), now))
    }

    /// Every one, by name, also those that were made by hand.
    ///
    /// # Errors
    /// `StreamsMissing`, and what reading says.
    pub async fn crons(&self) -> Result<Vec<CronEntry>, Error> {
        let mut all = std::collections::BTreeMap::new();
        let specs = match self.config_bucket().list(cron::KEYS).await {
            Ok(specs) => specs,
            Err(error) => return Err(self.explained(error, &self.config_stream()).await),
        };
        for found in specs {
            let Some(name) = cron::name_of(&found.key) else { continue };
            all.insert(name, (Some(Kept::of(found)), None));
        }
        let (stream, filter) = (&self.names().requests, subject::filter::cron(self.namespace()));
        let mut from = Some(1);
        while let Some(sequence) = from {
            let page = match self.reader().page(stream, &filter, sequence, PAGE).await {
                Ok(page) => page,
                Err(error) => return Err(self.explained(error, stream).await),
            };
            for schedule in page.messages {
                if let Some(Subject::Cron(name)) = Subject::parse(self.namespace(), &schedule.subject) {
                    all.entry(name).or_insert((None, None)).1 = Some(schedule);
                }
            }
            from = page.next;
        }
        let now = self.now().await?;
        let entries = all.into_iter().filter_map(|(name, (kept, schedule))| entry(name, kept, schedule.as_ref(), now));
        Ok(entries.collect())
    }

    async fn cron_set_paused(&self, name: &CronName, paused: bool) -> Result<bool, Error> {
        let (revision, spec) = self.cron_spec(name).await?;
        let was_paused = spec.paused;
        let spec = CronSpec { paused, ..spec };
        if was_paused == paused {
            // An earlier try may have died between the spec and the schedule.
            self.cron_settle(name, &spec, revision).await?;
            return Ok(false);
        }
        self.cron_write(name, &spec, revision).await?;
        Ok(true)
    }

    async fn cron_write(&self, name: &CronName, spec: &CronSpec, revision: u64) -> Result<u64, Error> {
        let body = serde_json::to_vec(spec).map_err(|error| Error::invalid(error.to_string()))?;
        let revision = self.keep(&cron::key(name), body, revision).await?;
        let settled = self.cron_settle(name, spec, revision).await;
        settled.map(|()| revision).map_err(|error| {
            error.during("the spec is stored, and a coordinator goes on from here; its schedule was not settled")
        })
    }

    async fn cron_settle(&self, name: &CronName, spec: &CronSpec, revision: u64) -> Result<(), Error> {
        if spec.paused { self.cron_purge(name).await } else { self.cron_publish(name, spec, revision).await }
    }

    /// Makes the schedule the one of this revision, unless it is of a later one.
    async fn cron_publish(&self, name: &CronName, spec: &CronSpec, revision: u64) -> Result<(), Error> {
        let (subject, headers, body) = spec.schedule(self.namespace(), &CronTie { name: name.clone(), revision });
        let outgoing = Outgoing::new(subject, body).with_headers(headers);
        let until = Instant::now() + SCHEDULED_WITHIN;
        loop {
            let found = self.cron_schedule(name).await?.map(|found| tied(&found));
            if found.is_some_and(|(_, of)| of.is_some_and(|of| of > revision)) {
                return Ok(());
            }
            let Mending::Publish { expecting } = mending(Some(revision), found) else { return Ok(()) };
            match self.publisher().publish(&outgoing.clone().expecting(expecting)).await {
                Ok(_) => return Ok(()),
                // Somebody was first, or it was read from a replica that is behind.
                Err(error)
                    if (error.kind() == Kind::WrongSequence || error.disposition() == Disposition::Retry)
                        && error.kind() != Kind::StoreFull
                        && Instant::now() < until =>
                {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                Err(error) => return Err(self.explained(error, &self.names().requests).await),
            }
        }
    }

    /// Takes the schedule out, and firings that nobody has taken yet. One that is published again meanwhile, by a resume,
    /// may go too; the coordinator brings that one back.
    async fn cron_purge(&self, name: &CronName) -> Result<(), Error> {
        let stream = &self.names().requests;
        for subject in [Subject::Cron(name.clone()), Subject::Fire(name.clone())] {
            let subject = subject.render(self.namespace());
            if let Err(error) = broker::topology::purge(self.connection(), stream, &subject, None).await {
                return Err(self.explained(error, stream).await);
            }
        }
        Ok(())
    }

    async fn cron_spec(&self, name: &CronName) -> Result<(u64, CronSpec), Error> {
        let kept = self.cron_kept(name).await?;
        match kept.spec {
            Some(Ok(spec)) => Ok((kept.revision, spec)),
            Some(Err(fault)) => Err(Error::invalid(format!("the spec of cron {name} cannot be read: {fault}"))),
            None => Err(Error::new(ErrorKind::NotFound, format!("there is no cron {name}: see `sortie cron list`"))),
        }
    }

    async fn cron_kept(&self, name: &CronName) -> Result<Kept, Error> {
        match self.config_bucket().get(&cron::key(name)).await {
            Ok(Some(found)) => Ok(Kept::of(found)),
            Ok(None) => Ok(Kept { revision: 0, spec: None }),
            Err(error) => Err(self.explained(error, &self.config_stream()).await),
        }
    }

    async fn cron_schedule(&self, name: &CronName) -> Result<Option<StoredMessage>, Error> {
        let stream = &self.names().requests;
        let subject = Subject::Cron(name.clone()).render(self.namespace());
        match self.reader().last(stream, &subject).await {
            Ok(found) => Ok(found),
            Err(error) => Err(self.explained(error, stream).await),
        }
    }
}

impl Kept {
    fn of(entry: broker::Entry) -> Self {
        Self { revision: entry.revision, spec: entry.value.map(|value| CronSpec::read(&value)) }
    }
}

fn tied(schedule: &StoredMessage) -> (u64, Option<u64>) {
    (schedule.sequence, CronTie::read(&schedule.headers).map(|tie| tie.revision))
}

fn entry(name: CronName, kept: Option<Kept>, schedule: Option<&StoredMessage>, now: Timestamp) -> Option<CronEntry> {
    let revision = kept.as_ref().filter(|kept| kept.spec.is_some()).map_or(0, |kept| kept.revision);
    let found = schedule.map(tied);
    let (spec, fault) = match kept.and_then(|kept| kept.spec) {
        Some(Ok(spec)) => (Some(spec), None),
        Some(Err(fault)) => (None, Some(fault)),
        None => (None, None),
    };
    let state = match (&spec, &fault, found) {
        (_, Some(_), _) => CronState::Invalid,
        (Some(spec), None, found) => {
            let fires = (!spec.paused).then_some(revision);
            match (mending(fires, found), spec.paused) {
                (Mending::None, true) => CronState::Paused,
                (Mending::None, false) => CronState::Active,
                _ => CronState::Unsettled,
            }
        }
        (None, None, Some((_, Some(_)))) => CronState::Unsettled,
        (None, None, Some((_, None))) => CronState::ByHand,
        (None, None, None) => return None,
    };
    let header = |name| schedule.and_then(|schedule| schedule.headers.get(name)).map(str::to_owned);
    let said = spec.as_ref().map(|spec| (spec.schedule.clone(), spec.zone.clone()));
    let (pattern, zone) = match said {
        Some((pattern, zone)) => (Some(pattern), zone),
        None => (header(header::NATS_SCHEDULE), header(header::NATS_SCHEDULE_TIME_ZONE)),
    };
    let recurrence = pattern.as_deref().and_then(|pattern| Recurrence::parse(pattern, zone.as_deref()));
    let next = schedule.and_then(|schedule| recurrence?.next(schedule.time, now));
    Some(CronEntry {
        name,
        state,
        spec,
        fault,
        revision,
        schedule: pattern,
        zone,
        target: header(header::NATS_SCHEDULE_TARGET),
        next,
    })
}
