//! Settings of agents as the fleet keeps them: a document for every agent, one per kind, one per instance, each with its
//! history.

use std::collections::BTreeSet;

use protocol::{
    InstanceId, Kind, header,
    settings::{self, Layer, Merged, Scope, SettingFault},
    time::Timestamp,
    topology::bucket_subject,
};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::{Client, Error, ErrorKind};

/// Revisions that one read asks for; the bucket keeps no more of a key.
const PAGE: usize = 100;

/// A document as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredSettings {
    /// Whom it is for.
    pub scope: Scope,
    /// Its revision; 0 where it was never written.
    pub revision: u64,
    /// What it says; an empty object where there is none.
    pub document: Value,
    /// What is wrong with it, where somebody wrote it by hand.
    pub faults: Vec<SettingFault>,
}

/// One revision of a document.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SettingsRevision {
    /// Its revision.
    pub revision: u64,
    /// When it was written.
    pub at: Timestamp,
    /// What it said; none where it was removed or cannot be read.
    pub document: Option<Value>,
    /// Paths that it changed.
    pub changed: Vec<String>,
}

impl Client {
    /// The document of a scope.
    ///
    /// # Errors
    /// `StreamsMissing`, and what reading says.
    pub async fn settings(&self, scope: &Scope) -> Result<StoredSettings, Error> {
        let found = match self.config_bucket().get(&scope.key()).await {
            Ok(found) => found,
            Err(error) => return Err(self.explained(error, &self.config_stream()).await),
        };
        let revision = found.as_ref().map_or(0, |entry| entry.revision);
        let (document, faults) = match found.and_then(|entry| entry.value) {
            None => (Value::Object(Map::new()), Vec::new()),
            Some(value) => match serde_json::from_slice::<Value>(&value) {
                Ok(document) => {
                    let faults = settings::check(&document);
                    (document, faults)
                }
                Err(error) => {
                    let fault = SettingFault { path: String::new(), message: format!("is not JSON: {error}") };
                    (Value::Object(Map::new()), vec![fault])
                }
            },
        };
        Ok(StoredSettings { scope: scope.clone(), revision, document, faults })
    }

    /// What the fleet's documents come to for an agent of this kind, or this one: its own file, variables and flags are
    /// known to itself only. A document with faults counts for nothing, as with the agents.
    ///
    /// # Errors
    /// `StreamsMissing`, and what reading says.
    pub async fn settings_effective(
        &self,
        kind: Option<&Kind>,
        instance: Option<&InstanceId>,
    ) -> Result<(Merged, Vec<StoredSettings>), Error> {
        let scopes = [Some(Scope::Global), kind.cloned().map(Scope::Kind), instance.cloned().map(Scope::Instance)];
        let mut stored = Vec::new();
        for scope in scopes.into_iter().flatten() {
            stored.push(self.settings(&scope).await?);
        }
        let sound = stored.iter().filter(|stored| stored.faults.is_empty());
        let layers = sound.map(|stored| (stored.scope.layer(), stored.document.clone()));
        let merged = settings::merge(layers.chain([(Layer::Default, settings::defaults())]));
        Ok((merged, stored))
    }

    /// Stores a document where its revision is still this one, and says the new one.
    ///
    /// # Errors
    /// `Invalid` with everything that is wrong with it, `Conflict` where somebody changed it meanwhile; else what
    /// publishing says.
    pub async fn settings_write(&self, scope: &Scope, document: &Value, revision: u64) -> Result<u64, Error> {
        let faults = settings::check(document);
        if !faults.is_empty() {
            let told: Vec<String> = faults.iter().map(ToString::to_string).collect();
            return Err(Error::invalid(told.join("; ")));
        }
        self.keep(&scope.key(), document.to_string().into_bytes(), revision).await
    }

    /// Every revision of a document that is kept (64 at most), oldest first.
    ///
    /// # Errors
    /// `StreamsMissing`, and what reading says.
    pub async fn settings_history(&self, scope: &Scope) -> Result<Vec<SettingsRevision>, Error> {
        let stream = self.config_stream();
        let subject = bucket_subject(&self.names().config, &scope.key());
        let mut all: Vec<SettingsRevision> = Vec::new();
        let (mut from, nothing) = (Some(1), Value::Object(Map::new()));
        while let Some(sequence) = from {
            let page = match self.reader().page(&stream, &subject, sequence, PAGE).await {
                Ok(page) => page,
                Err(error) => return Err(self.explained(error, &stream).await),
            };
            from = page.next;
            for message in page.messages {
                let is_removal = message.headers.get(header::KV_OPERATION).is_some();
                let document = serde_json::from_slice(&message.body).ok().filter(|_| !is_removal);
                let before = all.last().and_then(|revision| revision.document.as_ref()).unwrap_or(&nothing);
                let changed = settings::changes(before, document.as_ref().unwrap_or(&nothing));
                all.push(SettingsRevision { revision: message.sequence, at: message.time, document, changed });
            }
        }
        Ok(all)
    }

    /// Makes a document what it was at an earlier revision, and says the new one and what changed; none where nothing
    /// would.
    ///
    /// # Errors
    /// `NotFound` where that revision is not kept, or is of another document; else those of
    /// [`Client::settings_write`].
    pub async fn settings_rollback(&self, scope: &Scope, to: u64) -> Result<Option<(u64, Vec<String>)>, Error> {
        let history = self.settings_history(scope).await?;
        let kept: BTreeSet<u64> = history.iter().map(|each| each.revision).collect();
        let Some(wanted) = history.iter().find(|each| each.revision == to) else {
            let message = format!("the document for {scope} has no revision {to}: it has {kept:?}");
            return Err(Error::new(ErrorKind::NotFound, message));
        };
        let document = wanted.document.clone().unwrap_or_else(|| Value::Object(Map::new()));
        let now = self.settings(scope).await?;
        let changed = settings::changes(&now.document, &document);
        if changed.is_empty() && now.faults.is_empty() {
            return Ok(None);
        }
        let revision = self.settings_write(scope, &document, now.revision).await?;
        Ok(Some((revision, changed)))
    }
}
