//! What somebody waits for and nobody has.

use std::collections::{HashMap, HashSet};

use broker::topology;
use futures_util::{StreamExt, TryStreamExt, stream};
use protocol::{
    Origin, RequestId, RunFact, RunId, Subject,
    run::sub_run_of,
    subject,
    topology::{RUN_PARTITIONS, run_consumer},
};

use super::{
    places::{Delivered, in_queue},
    sweep::{ASKED_AT_ONCE, READINGS, READINGS_APART, SUSPECTS_MAX},
    upwards::{Next, Upwards},
};
use crate::{Client, Error};

/// The most that are looked for in one reading: some 40 MB.
pub const WANTED_MAX: usize = SUSPECTS_MAX;

impl Client {
    /// By partition of the runs' logs: what the facts up to this sequence led to was published.
    ///
    /// # Errors
    /// `StreamsMissing`, and what reading says.
    pub async fn carried_out(&self) -> Result<HashMap<u8, u64>, Error> {
        let stream = &self.names().runs;
        let states = self.patiently(stream, || topology::consumer_states(self.connection(), stream)).await?;
        let floor = |partition| {
            let name = run_consumer(self.namespace(), partition).name;
            let state = states.iter().find(|state| state.consumer.name == name)?;
            Some((partition, state.ack_floor))
        };
        Ok((0..RUN_PARTITIONS).filter_map(floor).collect())
    }

    /// Of requests and starts that were published before this began, those that are nowhere: neither in the stream of requests nor
    /// a run, and without an outcome. What was on its way meanwhile is met, as [`prove`](Client::prove) says. None where more
    /// is stored than can be read.
    ///
    /// # Errors
    /// `StreamsMissing`, and what reading says.
    pub async fn nowhere(&self, mut wanted: HashSet<RequestId>) -> Result<Option<HashSet<RequestId>>, Error> {
        for reading in 0..READINGS {
            if wanted.is_empty() {
                break;
            }
            if reading > 0 {
                tokio::time::sleep(READINGS_APART).await;
            }
            if !self.meet(&mut wanted).await? {
                return Ok(None);
            }
            let asked = wanted.into_iter().map(|id| async move { Ok::<_, Error>((self.has_gone_on(&id).await?, id)) });
            let said: Vec<(bool, RequestId)> =
                stream::iter(asked).buffer_unordered(ASKED_AT_ONCE).try_collect().await?;
            wanted = said.into_iter().filter(|(has_gone_on, _)| !has_gone_on).map(|(_, id)| id).collect();
        }
        Ok(Some(wanted))
    }

    /// Takes out what is met in the stream of requests. False: it was not read to its end.
    async fn meet(&self, wanted: &mut HashSet<RequestId>) -> Result<bool, Error> {
        let delivered = Delivered::new();
        // What a step asks for and a workflow serves may wait for a place as the start of its run.
        let steps = wanted.iter().filter(|id| matches!(id.origin(), Origin::Step { .. }));
        let starts: HashMap<RequestId, RequestId> =
            steps.map(|id| (RequestId::from(&sub_run_of(id)), id.clone())).collect();
        let mut upwards = Upwards::of(self, &self.names().requests).await?;
        while !wanted.is_empty() {
            match upwards.next().await? {
                Next::Some(messages) => {
                    for (id, _) in messages.iter().filter_map(|one| in_queue(self.namespace(), one, &delivered)) {
                        wanted.remove(starts.get(&id).unwrap_or(&id));
                    }
                }
                Next::End => return Ok(true),
                Next::Outrun => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Whether it has begun as a run, or has its outcome; or the run that waited for it is over.
    async fn has_gone_on(&self, id: &RequestId) -> Result<bool, Error> {
        let (runs, outcomes, namespace) = (&self.names().runs, &self.names().outcomes, self.namespace());
        let first = |run: &RunId| subject::stored_run_fact(namespace, None, run, &RunFact::Started);
        if let Origin::Step { run, step, item } = id.origin() {
            return Ok(self.has(runs, &first(&sub_run_of(id))).await?
                || self.has(runs, &subject::stored_step_outcome(namespace, &run, &step, item)).await?
                || !self.has(runs, &first(&run)).await?);
        }
        let begun = match RunId::parse(id.as_str()) {
            Ok(run) => self.has(runs, &first(&run)).await?,
            Err(_) => false,
        };
        Ok(begun || self.has(outcomes, &Subject::outcome_of(id).render(namespace)).await?)
    }

    async fn has(&self, stream: &str, place: &str) -> Result<bool, Error> {
        self.patiently(stream, || self.reader().has(stream, place)).await
    }
}
