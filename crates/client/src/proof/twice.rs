//! Requests with more than one outcome.

use std::time::Duration;

use broker::topology::inspect;
use protocol::{Subject, subject::filter};

use super::{Fault, prover::Prover};
use crate::Error;

/// Requests that are named.
const NAMED_MAX: usize = 10_000;

/// Looks, where the leader counts more messages than subjects and none is found that has two: subjects come and go while they
/// are listed.
const LOOKS: u32 = 3;
const LOOKS_APART: Duration = Duration::from_millis(500);

impl Prover<'_> {
    /// Every outcome of the fleet is looked at, not those of the file alone.
    pub(super) async fn repeated_outcomes(&mut self) -> Result<(), Error> {
        let (client, stream) = (self.client, &self.client.names().outcomes);
        let outcomes = filter::outcomes(client.namespace());
        for look in 0..LOOKS {
            if look > 0 {
                tokio::time::sleep(LOOKS_APART).await;
            }
            let ask = || inspect::repeated_subjects(client.connection(), stream, &outcomes, NAMED_MAX);
            let repeated = client.patiently(stream, ask).await?;
            for (subject, outcomes) in &repeated.subjects {
                if let Some(Subject::Outcome(id)) = Subject::parse(client.namespace(), subject) {
                    self.fault(&Fault::Twice { id, outcomes: *outcomes });
                }
            }
            if repeated.surplus == 0 || !repeated.subjects.is_empty() {
                return Ok(());
            }
        }
        Ok(())
    }
}
