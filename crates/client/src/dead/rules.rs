//! Rules that send letters again by themselves, as they are kept in the configuration bucket.

use std::time::Duration;

use broker::Kind as BrokerKind;
use protocol::{Kind, RedriveRule, redrive};

use crate::{Client, Error, ErrorKind};

/// How long storing one is tried while another publish to its key is not settled.
const STORE_WITHIN: Duration = Duration::from_secs(5);

/// A rule as it is stored.
#[derive(Clone, Debug)]
pub struct StoredRule {
    /// Its name.
    pub name: Kind,
    /// The rule, or what is wrong with it: such a one does nothing.
    pub rule: Result<RedriveRule, String>,
}

impl Client {
    /// Every rule, by name.
    ///
    /// # Errors
    /// `StreamsMissing`, and what reading says.
    pub async fn redrive_rules(&self) -> Result<Vec<StoredRule>, Error> {
        let name = &self.names().config;
        let entries = match self.bucket(name).list(redrive::RULE_KEYS).await {
            Ok(entries) => entries,
            Err(error) => return Err(self.explained(error, &Self::bucket_stream(name)).await),
        };
        let read = |entry: broker::Entry| {
            let rule = RedriveRule::read(&entry.value?);
            Some(StoredRule { name: redrive::rule_name(&entry.key)?, rule })
        };
        let mut rules: Vec<StoredRule> = entries.into_iter().filter_map(read).collect();
        rules.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(rules)
    }

    /// Stores a rule under a name; one that is there already only if it `may_replace` it.
    ///
    /// # Errors
    /// `Invalid` when there is one of this name; else what storing says.
    pub async fn add_redrive_rule(&self, name: &Kind, rule: &RedriveRule, may_replace: bool) -> Result<(), Error> {
        let body = serde_json::to_vec(rule).map_err(|error| Error::invalid(error.to_string()))?;
        RedriveRule::read(&body).map_err(Error::invalid)?;
        let bucket = self.bucket(&self.names().config);
        let key = redrive::rule_key(name);
        let until = tokio::time::Instant::now() + STORE_WITHIN;
        loop {
            let entry = bucket.get(&key).await?;
            if entry.as_ref().is_some_and(|entry| entry.value.is_some()) && !may_replace {
                let message =
                    format!("there is a rule {name} already; `sortie dead rule list` shows it, --replace replaces it");
                return Err(Error::invalid(message));
            }
            match bucket.update(&key, body.clone(), entry.map_or(0, |entry| entry.revision), None).await {
                Ok(_) => return Ok(()),
                // Somebody else was first, or a replica was behind: what is there now decides.
                Err(error)
                    if matches!(error.kind(), BrokerKind::WrongSequence | BrokerKind::Contended)
                        && tokio::time::Instant::now() < until =>
                {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Removes a rule. What it has sent again already goes on.
    ///
    /// # Errors
    /// `NotFound` when there is none of this name; else what storing says.
    pub async fn remove_redrive_rule(&self, name: &Kind) -> Result<(), Error> {
        let bucket = self.bucket(&self.names().config);
        let key = redrive::rule_key(name);
        if bucket.get(&key).await?.is_none_or(|entry| entry.value.is_none()) {
            return Err(Error::new(ErrorKind::NotFound, format!("there is no rule {name}")));
        }
        Ok(bucket.remove(&key).await?)
    }
}
