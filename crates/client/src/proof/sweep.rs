//! Settling suspects: the stream of requests read upwards to its end, then, at the leaders, where a request goes from there.

use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use protocol::{
    Origin, RequestId, RunFact, RunId, Subject,
    accepted::Asked,
    run::ended_topic,
    subject::{self, filter},
};

use super::{
    Fault, Sight,
    drops::Drops,
    places::Place,
    prover::{Open, Prover, Suspect, status},
    upwards::{Next, Upwards},
};
use crate::Error;

/// Suspects that one reading is for: some 40 MB.
pub(super) const SUSPECTS_MAX: usize = 100_000;

/// Readings after which what was not met is not there. By what the module's doc says one is enough; the second is for a
/// leader that was just elected.
pub(super) const READINGS: u32 = 2;
pub(super) const READINGS_APART: Duration = Duration::from_millis(1_500);

/// Suspects that leaders are asked about at once.
pub(super) const ASKED_AT_ONCE: usize = 64;

/// What leaders say of a suspect.
enum Said {
    Is(Place),
    Failed(protocol::time::Timestamp),
    Ended(protocol::Status),
    Nowhere,
}

impl Prover<'_> {
    /// Finds each of them, or tells it as a fault.
    pub(super) async fn settle(&mut self, suspects: Vec<Suspect>) -> Result<(), Error> {
        let mut open: Open = suspects.into_iter().map(|suspect| (suspect.accepted.id.clone(), suspect)).collect();
        let mut is_read = true;
        for reading in 0..READINGS {
            if open.is_empty() {
                return Ok(());
            }
            if reading > 0 {
                tokio::time::sleep(READINGS_APART).await;
            }
            is_read = self.sweep(&mut open).await?;
            self.look_where_they_go(&mut open).await?;
            // One by one, which is slow: for those alone that a copy which is behind may not have.
            if self.is_replicated {
                self.ask_leaders(&mut open).await?;
            }
        }
        for suspect in open.into_values() {
            self.judge(suspect, is_read).await?;
        }
        Ok(())
    }

    async fn judge(&mut self, suspect: Suspect, is_read: bool) -> Result<(), Error> {
        if suspect.failed_at.is_some() && self.is_dropped(&suspect).await? {
            self.found(Place::Dropped);
            return Ok(());
        }
        if suspect.failed_at.is_some() && self.was_run(&suspect.accepted.id).await? {
            self.found(Place::Failed);
            return Ok(());
        }
        if self.is_too_old(&suspect).await? {
            self.found(Place::TooOld);
            return Ok(());
        }
        let Suspect { accepted, failed_at } = suspect;
        self.fault(&match (is_read, failed_at) {
            (false, _) => Fault::Undecided { accepted },
            (true, Some(_)) => Fault::Unburied { accepted },
            (true, None) => Fault::Lost { accepted },
        });
        Ok(())
    }

    /// A run that fails leaves no dead letter, whatever it was asked for as.
    async fn was_run(&self, id: &RequestId) -> Result<bool, Error> {
        let Ok(run) = RunId::parse(id.as_str()) else { return Ok(false) };
        let events = &self.client.names().events;
        let place = subject::event(self.client.namespace(), &ended_topic(None, None, Some(&run)));
        let found = self.client.patiently(events, || self.client.reader().last_at_leader(events, &place)).await?;
        Ok(found.is_some())
    }

    async fn is_dropped(&mut self, suspect: &Suspect) -> Result<bool, Error> {
        if self.drops.is_none() {
            self.drops = Some(Drops::read(self.client).await?);
        }
        let failed_at = suspect.failed_at.unwrap_or(suspect.accepted.at);
        Ok(self.drops.as_ref().is_some_and(|drops| drops.may_hold(&suspect.accepted.id, failed_at)))
    }

    /// Reads the stream of requests upwards until its leader has nothing more. Says whether that was reached.
    async fn sweep(&mut self, open: &mut Open) -> Result<bool, Error> {
        let client = self.client;
        let mut upwards = Upwards::of(client, &client.names().requests).await?;
        while !open.is_empty() {
            match upwards.next().await? {
                Next::Some(messages) => {
                    self.meet(open, &messages);
                    let through = messages.last().map_or(0, |message| message.sequence);
                    (self.watch)(Sight::Swept { through, last: upwards.last });
                }
                Next::End => return Ok(true),
                Next::Outrun => return Ok(false),
            }
        }
        Ok(true)
    }

    async fn ask_leaders(&mut self, open: &mut Open) -> Result<(), Error> {
        let suspects: Vec<&Suspect> = open.values().collect();
        let this = &*self;
        let asked = suspects.into_iter().map(|suspect| async move {
            let said = this.ask_leader(suspect).await?;
            Ok::<_, Error>((suspect.accepted.id.clone(), said))
        });
        let said: Vec<(RequestId, Said)> = stream::iter(asked).buffer_unordered(ASKED_AT_ONCE).try_collect().await?;
        for (id, said) in said {
            match said {
                Said::Is(place) => {
                    open.remove(&id);
                    self.found(place);
                }
                Said::Ended(status) => self.ended(open, &id, status, Default::default()),
                // Its dead letter is stored before it leaves the queue, where it may have been until this very moment: it is
                // read once more.
                Said::Failed(at) => {
                    if let Some(suspect) = open.get_mut(&id) {
                        suspect.failed_at = Some(at);
                    }
                }
                Said::Nowhere => {}
            }
        }
        Ok(())
    }

    /// The order counts: a place that is looked at later is one that it goes to from those looked at before.
    async fn ask_leader(&self, suspect: &Suspect) -> Result<Said, Error> {
        let (client, id) = (self.client, &suspect.accepted.id);
        let (names, namespace, reader) = (client.names(), client.namespace(), client.reader());
        if let Origin::UniqueSequence(sequence) = id.origin()
            && client.patiently(&names.unique, || reader.is_at_leader(&names.unique, sequence)).await?
        {
            return Ok(Said::Is(Place::Running));
        }
        if let Ok(run) = RunId::parse(id.as_str()) {
            let first = subject::stored_run_fact(namespace, None, &run, &RunFact::Started);
            if client.patiently(&names.runs, || reader.has(&names.runs, &first)).await? {
                return Ok(Said::Is(Place::Run));
            }
        }
        let subject = Subject::outcome_of(id).render(namespace);
        let outcome = client.patiently(&names.outcomes, || reader.last_at_leader(&names.outcomes, &subject)).await?;
        let failed_at = match &outcome {
            Some(message) if status(message) == protocol::Status::Failed => Some(message.time),
            Some(message) => return Ok(Said::Ended(status(message))),
            None => None,
        };
        if matches!(suspect.accepted.asked, Asked::Start(_)) && failed_at.is_some() {
            return Ok(Said::Ended(protocol::Status::Failed));
        }
        // Also of one whose outcome is gone for its age: letters are kept for longer.
        let subject = filter::dead_of(namespace, id);
        let is_dead = client.patiently(&names.dead, || reader.has(&names.dead, &subject)).await?;
        Ok(match (is_dead, failed_at) {
            (true, _) => Said::Is(Place::Dead),
            (false, Some(failed_at)) => Said::Failed(failed_at),
            (false, None) => Said::Nowhere,
        })
    }
}
