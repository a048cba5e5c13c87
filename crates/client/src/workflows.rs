//! Definitions of workflows as the fleet keeps them: a key each, with its history. What a definition means is for whoever
//! reads it; here it is a document with a name and a version.

use std::collections::BTreeMap;

use broker::{Bucket, Entry};
use protocol::{
    Capability, WorkflowName, header, mark::schema_key, registry::CapabilityEntry, run::definition_key,
    time::Timestamp, topology::bucket_subject,
};
use serde::Serialize;
use serde_json::Value;

use crate::{Client, Error, ErrorKind};

/// Revisions that one read asks for; the bucket keeps no more of a key.
const PAGE: usize = 100;

/// A definition as it is stored.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StoredWorkflow {
    /// Its name.
    pub name: WorkflowName,
    /// Its revision: what `apply` must not have been overtaken by.
    pub revision: u64,
    /// When it was applied; only a history knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    /// What it says; null where somebody stored by hand what is no JSON.
    pub definition: Value,
}

/// What an apply came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Applied {
    /// There was none of that name.
    Created,
    /// It stands where an earlier one stood; runs that have begun go on with theirs.
    Replaced,
    /// It was there already.
    Unchanged,
}

impl StoredWorkflow {
    /// Its semantic version; empty where it says none.
    pub fn version(&self) -> &str {
        self.definition.get("version").and_then(Value::as_str).unwrap_or_default()
    }
}

impl Client {
    /// Every definition, by name.
    ///
    /// # Errors
    /// `StreamsMissing`, and what reading says.
    pub async fn workflows(&self) -> Result<Vec<StoredWorkflow>, Error> {
        let mut all: Vec<StoredWorkflow> = match self.workflow_bucket().list(">").await {
            Ok(entries) => entries.into_iter().filter_map(read).collect(),
            Err(error) => return Err(self.explained(error, &self.workflow_stream()).await),
        };
        all.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(all)
    }

    /// The definition of a name.
    ///
    /// # Errors
    /// `StreamsMissing`, and what reading says.
    pub async fn workflow(&self, name: &WorkflowName) -> Result<Option<StoredWorkflow>, Error> {
        Ok(self.workflow_entry(name).await?.and_then(read))
    }

    /// Every revision of a definition that is kept (64 at most), oldest first.
    ///
    /// # Errors
    /// `StreamsMissing`, and what reading says.
    pub async fn workflow_history(&self, name: &WorkflowName) -> Result<Vec<StoredWorkflow>, Error> {
        let stream = self.workflow_stream();
        let subject = bucket_subject(&self.names().workflows, &definition_key(name));
        let (mut from, mut all) = (Some(1), Vec::new());
        while let Some(sequence) = from {
            let page = match self.reader().page(&stream, &subject, sequence, PAGE).await {
                Ok(page) => page,
                Err(error) => return Err(self.explained(error, &stream).await),
            };
            from = page.next;
            let kept = page.messages.into_iter().filter(|message| message.headers.get(header::KV_OPERATION).is_none());
            all.extend(kept.map(|message| StoredWorkflow {
                name: name.clone(),
                revision: message.sequence,
                at: Some(message.time),
                definition: serde_json::from_slice(&message.body).unwrap_or_default(),
            }));
        }
        Ok(all)
    }

    /// Stores a definition that was found right. A version that is there with other content is refused unless `replace`:
    /// one version is one definition.
    ///
    /// # Errors
    /// `Conflict` when the version is taken, or somebody applied another one meanwhile; `Invalid` when it is too large;
    /// else what publishing says.
    pub async fn workflow_apply(
        &self,
        name: &WorkflowName,
        definition: &Value,
        replace: bool,
    ) -> Result<(Applied, u64), Error> {
        let found = self.workflow_entry(name).await?;
        let revision = found.as_ref().map_or(0, |entry| entry.revision);
        let there = found.and_then(read);
        if let Some(there) = &there {
            if there.definition == *definition {
                return Ok((Applied::Unchanged, revision));
            }
            let version = definition.get("version").and_then(Value::as_str).unwrap_or_default();
            if there.version() == version && !replace {
                let message = format!(
                    "{name} {version} is there with other content: give it another version, or replace it with --replace"
                );
                return Err(Error::new(ErrorKind::Conflict, message));
            }
        }
        let applied = if there.is_some() { Applied::Replaced } else { Applied::Created };
        let body = definition.to_string().into_bytes();
        let revision = self.keep_in(&self.workflow_bucket(), &definition_key(name), body, revision).await?;
        Ok((applied, revision))
    }

    /// Forgets a definition; runs that have begun go on. False if there is none.
    ///
    /// # Errors
    /// What publishing says.
    pub async fn workflow_remove(&self, name: &WorkflowName) -> Result<bool, Error> {
        let Some(entry) = self.workflow_entry(name).await?.filter(|entry| entry.value.is_some()) else {
            return Ok(false);
        };
        match self.workflow_bucket().remove_at(&definition_key(name), entry.revision).await {
            Ok(()) => Ok(true),
            Err(error) => Err(self.explained(error, &self.workflow_stream()).await),
        }
    }

    /// The JSON Schema of every capability's input that an agent serves now; `true` where none is known. Of two agents
    /// that differ, any.
    ///
    /// # Errors
    /// Those of [`Client::agents`].
    pub async fn capability_inputs(&self) -> Result<BTreeMap<Capability, Value>, Error> {
        self.capability_schemas(|entry| entry.input_schema).await
    }

    /// The same of every capability's output.
    ///
    /// # Errors
    /// Those of [`Client::agents`].
    pub async fn capability_outputs(&self) -> Result<BTreeMap<Capability, Value>, Error> {
        self.capability_schemas(|entry| entry.output_schema).await
    }

    async fn capability_schemas(
        &self,
        digest: fn(CapabilityEntry) -> Option<String>,
    ) -> Result<BTreeMap<Capability, Value>, Error> {
        let agents = self.agents().await?;
        let served = agents.into_iter().filter(|agent| !agent.is_gone()).flat_map(|agent| agent.capabilities);
        let digests: BTreeMap<Capability, Option<String>> =
            served.map(|entry| (entry.name.clone(), digest(entry))).collect();
        let name = &self.names().state;
        let keys = digests.values().flatten().map(|digest| schema_key(digest));
        let found = match self.bucket(name).get_many(keys).await {
            Ok(found) => found,
            Err(error) => return Err(self.explained(error, &Self::bucket_stream(name)).await),
        };
        let schemas: BTreeMap<String, Value> = found
            .into_iter()
            .filter_map(|entry| Some((entry.key, serde_json::from_slice(&entry.value?).ok()?)))
            .collect();
        let of = |digest: Option<String>| digest.and_then(|digest| schemas.get(&schema_key(&digest)).cloned());
        Ok(digests.into_iter().map(|(name, digest)| (name, of(digest).unwrap_or(Value::Bool(true)))).collect())
    }

    async fn workflow_entry(&self, name: &WorkflowName) -> Result<Option<Entry>, Error> {
        match self.workflow_bucket().get(&definition_key(name)).await {
            Ok(found) => Ok(found),
            Err(error) => Err(self.explained(error, &self.workflow_stream()).await),
        }
    }

    fn workflow_bucket(&self) -> Bucket {
        self.bucket(&self.names().workflows)
    }

    fn workflow_stream(&self) -> String {
        Self::bucket_stream(&self.names().workflows)
    }
}

fn read(entry: Entry) -> Option<StoredWorkflow> {
    let name = WorkflowName::parse(&entry.key).ok()?;
    let definition = serde_json::from_slice(&entry.value?).unwrap_or_default();
    Some(StoredWorkflow { name, revision: entry.revision, at: None, definition })
}
