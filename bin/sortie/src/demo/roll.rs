//! Who is who: the names of agents by the instances that sign outcomes.

use std::collections::BTreeMap;

use process::Problem;
use protocol::InstanceId;
use serde::Serialize;

use super::survey::Answer;
use crate::{fleet::Fleet, refusal, supervisor::Keeper};

/// Names by instance. An agent that died keeps its place.
#[derive(Debug, Default)]
pub(crate) struct Roll(BTreeMap<InstanceId, String>);

/// What one agent did.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Share {
    /// Its name.
    pub(crate) agent: String,
    /// How many outcomes are its.
    pub(crate) outcomes: usize,
}

impl Roll {
    /// Notes the agents that are there.
    ///
    /// # Errors
    /// The registry cannot be read.
    pub(crate) async fn note(&mut self, fleet: &Fleet) -> Result<(), Problem> {
        let entries = fleet.client().agents().await.map_err(refusal::problem)?;
        let names: BTreeMap<u32, &str> =
            fleet.agents().iter().filter_map(|keeper| Some((keeper.pid()?, Keeper::name(keeper)))).collect();
        let known =
            entries.into_iter().filter_map(|entry| Some((entry.instance, (*names.get(&entry.pid)?).to_owned())));
        self.0.extend(known);
        Ok(())
    }

    /// The shares of these answers, by name.
    pub(crate) fn shares<'a>(&self, answers: impl IntoIterator<Item = &'a Answer>) -> Vec<Share> {
        let mut counts = BTreeMap::<&str, usize>::new();
        for answer in answers {
            let name = answer.instance.as_ref().and_then(|instance| self.0.get(instance));
            *counts.entry(name.map_or("nobody known", String::as_str)).or_default() += 1;
        }
        let share = |(agent, outcomes): (&str, usize)| Share { agent: agent.to_owned(), outcomes };
        counts.into_iter().map(share).collect()
    }
}
