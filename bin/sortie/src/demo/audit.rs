//! The run of the shipped workflow `repo-audit`: followed fact by fact, told whether it may go on, and read when it is over.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use agent_files::{FileReport, Secret, SecretList};
use client::{Client, RunRecord};
use process::{ExitCode, Problem};
use protocol::{LoggedFact, Outcome, RequestId, RunId, Status, StepName};
use serde::Serialize;
use serde_json::{Value, json};
use workflow::{
    Payload, Plan,
    fact::{Event, Fact},
};

use super::survey::{Answer, Finding, instead};
use crate::refusal;

/// The workflow, as it is shipped.
const WORKFLOW: &str = include_str!("../../workflows/repo-audit.yaml");

/// Files that one run examines at most: items of a `foreach`.
pub(crate) const FILES_MAX: usize = 10_000;

/// Between two looks at the log.
const LOOK: Duration = Duration::from_millis(20);

/// The step that asks about each file, and the one that looks for secrets.
const EXAMINE: &str = "examine";
const SECRETS: &str = "secrets";

/// A run that goes on.
#[derive(Debug)]
pub(crate) struct Audit {
    client: Client,
    run: RunId,
    /// The last fact that was seen.
    seen: u64,
    examined: usize,
}

/// What is seen of a run.
#[derive(Debug)]
pub(crate) enum Sight {
    /// Something that changes only what [`Audit::examined`] says.
    Progress,
    /// It waits for somebody to approve, because of these.
    Waits(Vec<Secret>),
    /// It is over.
    Over(Audited),
}

/// A run that is over.
#[derive(Debug, Serialize)]
pub(crate) struct Audited {
    /// The run.
    pub(crate) run: RunId,
    /// How it ended.
    pub(crate) status: Status,
    /// Why, where it did not complete.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) failure: Option<String>,
    /// Where the report is; none where nobody approved it.
    pub(crate) report: Option<PathBuf>,
    /// Lines that look like secrets; none where nobody could look.
    pub(crate) secrets: Option<u64>,
    /// Whether somebody was asked, and what they said.
    pub(crate) approved: Option<bool>,
    /// Outcomes of the steps that asked about files.
    #[serde(skip)]
    pub(crate) answers: Vec<Answer>,
}

impl Audit {
    /// Applies the workflow and starts a run of it.
    ///
    /// # Errors
    /// It cannot be stored.
    pub(crate) async fn start(client: &Client, folder: &Path, report: &str) -> Result<Self, Problem> {
        let faulty = |faults: String| Problem::new(ExitCode::Internal, faults);
        let (plan, definition) = Plan::parse(WORKFLOW).map_err(|faults| faulty(format!("{faults:?}")))?;
        client.workflow_apply(&plan.workflow, &definition, true).await.map_err(refusal::problem)?;
        let input = json!({ "path": folder, "hidden": true, "report": report });
        let started = client.start(&plan.workflow, &input).submit().await.map_err(refusal::problem)?;
        Ok(Self { client: client.clone(), run: started.run().clone(), seen: 0, examined: 0 })
    }

    /// The run.
    pub(crate) fn run(&self) -> &RunId {
        &self.run
    }

    /// So many files are examined, as far as was seen.
    pub(crate) fn examined(&self) -> usize {
        self.examined
    }

    /// What happens next. May be dropped and called again.
    ///
    /// # Errors
    /// The log cannot be read.
    pub(crate) async fn next(&mut self) -> Result<Sight, Problem> {
        tokio::time::sleep(LOOK).await;
        let facts = self.client.run_facts(&self.run, self.seen).await.map_err(refusal::problem)?;
        if facts.is_empty() {
            if let Some(RunRecord::Ended(_)) = self.client.run_record(&self.run).await.map_err(refusal::problem)? {
                return Ok(Sight::Over(self.over().await?));
            }
            return Ok(Sight::Progress);
        }
        let events: Vec<Event> = facts.iter().map(|fact| event(fact, &fact.bytes())).collect();
        let looked = events.iter().find_map(has_looked);
        let secrets = if looked == Some(true) { self.secrets().await? } else { Vec::new() };
        // As the workflow's gate says.
        let waits = looked.is_some_and(|could| !could || !secrets.is_empty());
        self.seen = facts.last().map_or(self.seen, |fact| fact.sequence);
        self.examined += events.iter().filter(|event| examined(event).is_some()).count();
        Ok(if waits { Sight::Waits(secrets) } else { Sight::Progress })
    }

    /// Says whether the report may be written.
    ///
    /// # Errors
    /// It cannot be stored.
    pub(crate) async fn decide(&self, approved: bool, by: &str) -> Result<(), Problem> {
        let name = StepName::parse("approve").map_err(|error| Problem::new(ExitCode::Internal, error.to_string()))?;
        let said = json!({ "approved": approved, "by": by });
        self.client.signal(&self.run, &name, &said, None).await.map(|_| ()).map_err(refusal::problem)
    }

    async fn secrets(&self) -> Result<Vec<Secret>, Problem> {
        let facts = self.client.run_facts(&self.run, 0).await.map_err(refusal::problem)?;
        let is_found =
            |fact: &&LoggedFact| matches!(event(fact, b""), Event::StepEnded { step, .. } if step.as_str() == SECRETS);
        let Some(fact) = facts.iter().find(is_found) else { return Ok(Vec::new()) };
        let body = self.client.whole_body(fact).await.map_err(refusal::problem)?;
        Ok(serde_json::from_slice::<SecretList>(&body).map(|list| list.secrets).unwrap_or_default())
    }

    async fn over(&self) -> Result<Audited, Problem> {
        let (client, run) = (&self.client, &self.run);
        let record = client.run_record(run).await.map_err(refusal::problem)?;
        let outcome = client.wait(&RequestId::from(run), LOOK).await.map_err(refusal::problem)?;
        let mut answers = Vec::new();
        let mut approved = None;
        for fact in record.iter().flat_map(RunRecord::facts) {
            let body = client.whole_body(fact).await.map_err(refusal::problem)?;
            let event = event(fact, &body);
            if let Event::Signalled { value: Payload::Value(said), .. } = &event {
                approved = said["approved"].as_bool();
            }
            if let Some((step, item)) = examined(&event) {
                let id = RequestId::of_step(run, step, item);
                answers.push(answer(id.clone(), item, Outcome::read(id, &fact.headers(), &body)));
            }
        }
        let output: Value = outcome.result().unwrap_or_default();
        Ok(Audited {
            run: run.clone(),
            status: outcome.status,
            failure: outcome.failure().map(|failure| failure.to_string()),
            report: output["report"]["path"].as_str().map(PathBuf::from),
            secrets: output["secrets"].as_u64(),
            approved,
            answers,
        })
    }
}

impl Audited {
    /// For people.
    pub(crate) fn line(&self) -> String {
        let Self { run, status, failure, report, secrets, .. } = self;
        if let Some(failure) = failure {
            return format!("run {run} of repo-audit has {status}: {failure}");
        }
        let secrets = match secrets {
            None => "nobody could look for secrets".to_owned(),
            Some(0) => "no line looks like a secret".to_owned(),
            Some(1) => "1 line looks like a secret".to_owned(),
            Some(lines) => format!("{lines} lines look like secrets"),
        };
        let report = match report {
            Some(path) => format!("the report is {}", path.display()),
            None => "not approved, so no report was written".to_owned(),
        };
        format!("run {run} of repo-audit: {secrets}; {report}")
    }
}

/// What a fact says. Time plays no part in what is looked for.
fn event(fact: &LoggedFact, body: &[u8]) -> Event {
    Fact::read(&fact.name, fact.sequence, fact.at, &fact.headers(), body).event
}

/// Which file it is about, if it is the outcome of one.
fn examined(event: &Event) -> Option<(&StepName, u64)> {
    match event {
        Event::StepEnded { step, item, .. } if step.as_str() == EXAMINE => Some((step, *item)),
        _ => None,
    }
}

/// Whether somebody could look for secrets, if it tells that.
fn has_looked(event: &Event) -> Option<bool> {
    match event {
        Event::StepEnded { step, outcome, .. } if step.as_str() == SECRETS => Some(outcome.status == Status::Completed),
        _ => None,
    }
}

fn answer(id: RequestId, item: u64, outcome: Outcome) -> Answer {
    let named = |why: String| Finding::None(PathBuf::from(format!("file {item}")), why);
    let finding = match instead(&outcome) {
        Some(instead) => named(instead),
        None => match outcome.content_type.decode::<FileReport>(&outcome.body) {
            Ok(report) => Finding::Report(report),
            Err(failure) => named(failure.to_string()),
        },
    };
    Answer { id, instance: outcome.instance, finding }
}
