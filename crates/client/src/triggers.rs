//! Triggers: what events start. Their specs are kept in the configuration bucket, and a coordinator does what they say.
//! Whoever adds one has checked its expressions; here it is a document with a name.

use protocol::{
    TriggerName,
    trigger::{self, TriggerSpec},
};
use serde::Serialize;

use crate::{Client, Error, ErrorKind};

/// A trigger as it is stored.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StoredTrigger {
    /// Its name.
    pub name: TriggerName,
    /// Its revision.
    pub revision: u64,
    /// What it says; none where it cannot be read.
    pub spec: Option<TriggerSpec>,
    /// Why it cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
}

impl Client {
    /// Every trigger, by name.
    ///
    /// # Errors
    /// `StreamsMissing`, and what reading says.
    pub async fn triggers(&self) -> Result<Vec<StoredTrigger>, Error> {
        let entries = match self.config_bucket().list(trigger::KEYS).await {
            Ok(entries) => entries,
            Err(error) => return Err(self.explained(error, &self.config_stream()).await),
        };
        let mut all: Vec<StoredTrigger> = entries.into_iter().filter_map(read).collect();
        all.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(all)
    }

    /// Stores a trigger: it is for every event that is stored from now on. Gives its revision.
    ///
    /// # Errors
    /// `Conflict` when the name is taken and `replace` is not said, or somebody changes it just now; `Invalid` when there
    /// are too many; else what publishing says.
    pub async fn trigger_add(&self, name: &TriggerName, spec: &TriggerSpec, replace: bool) -> Result<u64, Error> {
        let events = &self.names().events;
        let after = match broker::topology::stream_state(self.connection(), events).await {
            Ok(state) => state.last_sequence,
            Err(error) => return Err(self.explained(error, events).await),
        };
        let all = self.triggers().await?;
        if all.len() >= trigger::TRIGGERS_MAX && all.iter().all(|stored| stored.name != *name) {
            return Err(Error::invalid(format!("there are {} triggers, and no more can be", all.len())));
        }
        let found = self.config_bucket().get(&trigger::key(name)).await.map_err(Error::from)?;
        if found.as_ref().is_some_and(|entry| entry.value.is_some()) && !replace {
            let message = format!("trigger {name} is there already: replace it with --replace");
            return Err(Error::new(ErrorKind::Conflict, message));
        }
        let spec = TriggerSpec { after, ..spec.clone() };
        // Plain data with text keys always has a JSON form.
        let body = serde_json::to_vec(&spec).unwrap_or_default();
        self.keep(&trigger::key(name), body, found.map_or(0, |entry| entry.revision)).await
    }

    /// Forgets a trigger; what it started goes on. False if there is none.
    ///
    /// # Errors
    /// What publishing says.
    pub async fn trigger_remove(&self, name: &TriggerName) -> Result<bool, Error> {
        let bucket = self.config_bucket();
        let found = bucket.get(&trigger::key(name)).await.map_err(Error::from)?;
        let Some(entry) = found.filter(|entry| entry.value.is_some()) else { return Ok(false) };
        match bucket.remove_at(&trigger::key(name), entry.revision).await {
            Ok(()) => Ok(true),
            Err(error) => Err(self.explained(error, &self.config_stream()).await),
        }
    }
}

fn read(entry: broker::Entry) -> Option<StoredTrigger> {
    let name = trigger::name_of(&entry.key)?;
    let (spec, fault) = match TriggerSpec::read(&entry.value?) {
        Ok(spec) => (Some(spec), None),
        Err(fault) => (None, Some(fault)),
    };
    Some(StoredTrigger { name, revision: entry.revision, spec, fault })
}
