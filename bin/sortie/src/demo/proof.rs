//! The count that proves it: what was asked against what the streams hold.

use std::{collections::BTreeSet, time::Duration};

use broker::{Connection, Error, topology};
use client::Client;
use protocol::{RequestId, Subject, subject::filter, topology::Names};
use serde::Serialize;

use super::{
    audit::Audited,
    survey::{Answer, Finding},
};

/// Acknowledgements are not waited for by agents, and one that is lost comes again after the ack deadline.
const SETTLED_WITHIN: Duration = Duration::from_secs(15);

const LOOK: Duration = Duration::from_millis(50);

/// What was counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Proof {
    /// Files that were found.
    pub(crate) files: usize,
    /// Ids of requests that were answered, each counted once: a step of the run and a request beside it for each file.
    pub(crate) requests: usize,
    /// Requests that completed.
    pub(crate) completed: usize,
    /// Requests that ended otherwise, each with how.
    pub(crate) not_completed: Vec<String>,
    /// Outcomes that are stored: in the stream those beside the run, in its log those of its steps.
    pub(crate) outcomes: u64,
    /// Requests with more than one outcome.
    pub(crate) twice: usize,
    /// Requests without a stored outcome.
    pub(crate) lost: usize,
    /// Outcomes of requests that nobody made.
    pub(crate) strange: usize,
    /// Requests that still wait.
    pub(crate) queued: u64,
    /// Requests that were given up.
    pub(crate) dead: u64,
}

impl Proof {
    /// Counts, once the queue has settled.
    ///
    /// # Errors
    /// The broker does not answer.
    pub(crate) async fn count(
        client: &Client,
        files: usize,
        beside: &[Answer],
        audited: &Audited,
    ) -> Result<Self, Error> {
        let (connection, namespace) = (client.connection(), client.namespace());
        let names = Names::of(namespace);
        let queued = settled(connection, &names).await?;
        let place = |id: &RequestId| Subject::outcome_of(id).render(namespace);
        let mut stored = topology::subject_counts(connection, &names.outcomes, &filter::outcomes(namespace)).await?;
        // The run's own outcome says what all of them came to; its log is told in its summary, fact by fact.
        stored.remove(&place(&RequestId::from(&audited.run)));
        for answer in &audited.answers {
            *stored.entry(place(&answer.id)).or_default() += 1;
        }
        let answers: Vec<&Answer> = beside.iter().chain(&audited.answers).collect();
        let ids: BTreeSet<_> = answers.iter().map(|answer| &answer.id).collect();
        let subjects: BTreeSet<String> = ids.iter().map(|id| place(id)).collect();
        let instead = |answer: &&Answer| match &answer.finding {
            Finding::None(file, why) => Some(format!("{}: {why}", file.display())),
            _ => None,
        };
        let not_completed: Vec<String> = answers.iter().filter_map(instead).collect();
        Ok(Self {
            files,
            requests: ids.len(),
            completed: answers.len() - not_completed.len(),
            not_completed,
            outcomes: stored.values().sum(),
            twice: stored.values().filter(|count| **count > 1).count() + answers.len() - ids.len(),
            lost: subjects.iter().filter(|subject| !stored.contains_key(*subject)).count(),
            strange: stored.keys().filter(|subject| !subjects.contains(*subject)).count(),
            queued,
            dead: topology::stream_state(connection, &names.dead).await?.messages,
        })
    }

    /// Whether every file has both its outcomes, and each of them once.
    pub(crate) fn holds(&self) -> bool {
        let whole = 2 * self.files;
        let found = [self.requests, self.completed].iter().all(|count| *count == whole);
        let clean = self.twice == 0 && self.lost == 0 && self.strange == 0 && self.queued == 0 && self.dead == 0;
        found && clean && self.outcomes == whole as u64
    }

    /// The count in one line.
    pub(crate) fn line(&self) -> String {
        let Self { files, requests, completed, outcomes, queued, dead, .. } = self;
        let verdict = match self.holds() {
            true => "nothing twice, nothing lost".to_owned(),
            false => format!(
                "{} not completed, {} twice, {} lost, {} strange: THIS IS A FAULT",
                self.not_completed.len(),
                self.twice,
                self.lost,
                self.strange
            ),
        };
        let equals = if self.holds() { "=" } else { "against" };
        format!(
            "{files} files found x 2 requests {equals} {completed} outcomes completed: {verdict} ({requests} ids, \
             {outcomes} outcomes stored, {queued} queued, {dead} dead)"
        )
    }
}

/// Waits until nothing is queued, and says what is.
async fn settled(connection: &Connection, names: &Names) -> Result<u64, Error> {
    let until = tokio::time::Instant::now() + SETTLED_WITHIN;
    loop {
        let mut queued = 0;
        for stream in [&names.requests, &names.unique] {
            queued += topology::stream_state(connection, stream).await?.messages;
        }
        if queued == 0 || tokio::time::Instant::now() >= until {
            return Ok(queued);
        }
        tokio::time::sleep(LOOK).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proof() -> Proof {
        Proof {
            files: 3,
            requests: 6,
            completed: 6,
            not_completed: Vec::new(),
            outcomes: 6,
            twice: 0,
            lost: 0,
            strange: 0,
            queued: 0,
            dead: 0,
        }
    }

    #[test]
    fn a_whole_count_is_one_line() {
        assert!(proof().holds());
        assert_eq!(
            proof().line(),
            "3 files found x 2 requests = 6 outcomes completed: nothing twice, nothing lost (6 ids, 6 outcomes stored, \
             0 queued, 0 dead)"
        );
    }

    #[test]
    fn anything_else_is_a_fault() {
        let faults = [
            Proof { completed: 5, ..proof() },
            Proof { requests: 5, ..proof() },
            Proof { outcomes: 7, ..proof() },
            Proof { twice: 1, ..proof() },
            Proof { lost: 1, ..proof() },
            Proof { strange: 1, ..proof() },
            Proof { queued: 1, ..proof() },
            Proof { dead: 1, ..proof() },
        ];
        for fault in faults {
            assert!(!fault.holds() && fault.line().contains("THIS IS A FAULT"), "{fault:?}");
        }
    }
}
