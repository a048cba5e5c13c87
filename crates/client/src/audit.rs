//! The audit trail: who changed what.

use std::time::Duration;

use broker::{Kind, Outgoing};
use protocol::{ContentType, Headers, Operator, audit::AuditRecord, header, subject};
use serde_json::Value;

use crate::{Client, Error, ErrorKind};

/// How long storing a record is tried.
const RECORD_WITHIN: Duration = Duration::from_secs(5);

impl Client {
    /// Records an act that steers the fleet, before it is done: what cannot be recorded is not to be done. The verb is
    /// one subject token such as `queue-pause`.
    ///
    /// # Errors
    /// `StreamsMissing`, `TimedOut`, `StoreFull`, `Forbidden`: what storing says.
    pub async fn audit(&self, who: &Operator, verb: &str, target: &str, detail: Value) -> Result<(), Error> {
        let record = AuditRecord {
            who: who.clone(),
            verb: verb.to_owned(),
            target: target.to_owned(),
            detail,
            at: self.now().await?,
        };
        let body = serde_json::to_vec(&record).map_err(|error| Error::invalid(error.to_string()))?;
        let mut headers = Headers::new();
        headers.push(header::CONTENT_TYPE, ContentType::Json.as_str());
        let outgoing = Outgoing::new(subject::audit(self.namespace(), who, verb), body).with_headers(headers);
        match self.publisher().publish_within(&outgoing, RECORD_WITHIN).await {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == Kind::StoreFull => {
                let message = format!("not done, because it cannot be recorded: the broker's store is full: {error}");
                Err(Error::new(ErrorKind::StoreFull, message))
            }
            Err(error) => Err(self.explained(error, &self.names().audit).await),
        }
    }
}
