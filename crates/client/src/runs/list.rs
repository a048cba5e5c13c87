//! Which runs there are.

use protocol::{
    RequestId, RunId, Status, Subject, WorkflowName, header,
    run::{Start, StoredFact, ended_topic},
    subject::{self, filter},
    time::Timestamp,
};
use serde::Serialize;

use crate::{Client, Error};

/// First facts that one read asks for: each holds a definition.
const PAGE: usize = 64;

/// Which runs are listed.
#[derive(Clone, Debug, Default)]
pub struct RunFilter {
    /// Of this workflow alone. Defaults to all.
    pub workflow: Option<WorkflowName>,
    /// That ended so. Defaults to however they ended.
    pub status: Option<Status>,
}

/// A run that is alive.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LiveRun {
    /// The run.
    pub run: RunId,
    /// The workflow; none where a stranger wrote the first fact.
    pub workflow: Option<WorkflowName>,
    /// When it began.
    pub started_at: Timestamp,
    /// Which partition of the logs its log lies in.
    #[serde(skip)]
    pub partition: u8,
}

/// A run that has ended, as far as the place of its summary tells.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EndedRun {
    /// The run.
    pub run: RunId,
    /// The workflow.
    pub workflow: WorkflowName,
    /// How it ended.
    pub status: Status,
}

impl Client {
    /// Runs that are alive, the oldest first, at most `count_max`.
    ///
    /// # Errors
    /// `StreamsMissing`, and what reading says.
    pub async fn live_runs(&self, wanted: &RunFilter, count_max: usize) -> Result<Vec<LiveRun>, Error> {
        let mut runs = Vec::new();
        let mut from = Some(1);
        while let Some(sequence) = from
            && runs.len() < count_max
        {
            let (some, next) = self.live_runs_from(wanted, sequence).await?;
            runs.extend(some);
            from = next;
        }
        runs.truncate(count_max);
        Ok(runs)
    }

    /// Some runs that are alive, the oldest first, among those whose first fact has this sequence or a later one; and where
    /// to go on, if there may be more.
    ///
    /// # Errors
    /// `StreamsMissing`, and what reading says.
    pub async fn live_runs_from(&self, wanted: &RunFilter, from: u64) -> Result<(Vec<LiveRun>, Option<u64>), Error> {
        let stream = &self.names().runs;
        let filter = filter::runs_started(self.namespace());
        let page = match self.reader().page(stream, &filter, from, PAGE).await {
            Ok(page) => page,
            Err(error) => return Err(self.explained(error, stream).await),
        };
        let runs = page.messages.iter().filter_map(|message| {
            let StoredFact { run, partition, .. } = StoredFact::parse(self.namespace(), &message.subject)?;
            let workflow = message.headers.get(header::WORKFLOW).and_then(|name| WorkflowName::parse(name).ok());
            let is_wanted = wanted.workflow.is_none() || wanted.workflow == workflow;
            is_wanted.then_some(LiveRun { run, workflow, started_at: message.time, partition })
        });
        Ok((runs.collect(), page.next))
    }

    /// The workflow of a run whose start nobody has taken yet, if it is among the first starts that wait.
    ///
    /// # Errors
    /// `StreamsMissing`, and what reading says.
    pub async fn waiting_start(&self, run: &RunId, scan_max: usize) -> Result<Option<WorkflowName>, Error> {
        let stream = &self.names().requests;
        let filter = filter::starts(self.namespace());
        let (mut from, mut read) = (Some(1), 0);
        while let Some(sequence) = from
            && read < scan_max
        {
            let page = match self.reader().page(stream, &filter, sequence, PAGE).await {
                Ok(page) => page,
                Err(error) => return Err(self.explained(error, stream).await),
            };
            (from, read) = (page.next, read + page.messages.len());
            let of_run = |message: &&broker::StoredMessage| {
                Start::read(&message.headers, RequestId::of_sequence(message.sequence))
                    .is_ok_and(|start| start.run == *run)
            };
            let found = page.messages.iter().find(of_run);
            if let Some(Subject::Start(workflow)) =
                found.and_then(|message| Subject::parse(self.namespace(), &message.subject))
            {
                return Ok(Some(workflow));
            }
        }
        Ok(None)
    }

    /// Runs that have ended and whose summaries are kept, by workflow, status and id.
    ///
    /// # Errors
    /// `StreamsMissing`, and what asking says.
    pub async fn ended_runs(&self, wanted: &RunFilter) -> Result<Vec<EndedRun>, Error> {
        let stream = &self.names().events;
        let place = subject::event(self.namespace(), &ended_topic(wanted.workflow.as_ref(), wanted.status, None));
        let counts = match broker::topology::subject_counts(self.connection(), stream, &place).await {
            Ok(counts) => counts,
            Err(error) => return Err(self.explained(error, stream).await),
        };
        Ok(counts.into_keys().filter_map(|subject| ended(&subject)).collect())
    }
}

/// Reads `<ns>.event.sys.run.<workflow>.<status>.<run>` from its end.
pub(super) fn ended(subject: &str) -> Option<EndedRun> {
    let mut tokens = subject.rsplit('.');
    let (run, status, workflow) = (tokens.next()?, tokens.next()?, tokens.next()?);
    Some(EndedRun {
        run: RunId::parse(run).ok()?,
        workflow: WorkflowName::parse(workflow).ok()?,
        status: Status::parse(status)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_of_a_summary_tells_the_run() {
        let found = ended("my-fleet.event.sys.run.audit.failed.order-1").unwrap();
        let told = (found.workflow.as_str(), found.status, found.run.as_str());
        assert_eq!(told, ("audit", Status::Failed, "order-1"));
        assert_eq!(ended("fleet.event.sys.run.audit.over.order-1"), None);
    }
}
