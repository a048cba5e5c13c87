//! The definitions of workflows, as they stand in their bucket, with what their starts are checked by.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use broker::{Entry, Error};
use jsonschema::Validator;
use protocol::{
    Failure, WorkflowName, codes, limits,
    run::definition_key,
    topology::{bucket_stream, bucket_subject},
};
use serde_json::{Value, json};
use workflow::Program;

use crate::post::Post;

/// Definitions that are remembered by their revision.
const KEPT_MAX: usize = 500;

/// Faults of an input that a failure names.
const FAULTS_MAX: usize = 20;
const FAULT_BYTES_MAX: usize = 300;

/// Finds definitions.
pub(super) struct Definitions {
    post: Post,
    kept: Mutex<HashMap<WorkflowName, (u64, Arc<Definition>)>>,
    looks: Mutex<HashMap<WorkflowName, Arc<Look>>>,
}

/// The last look for a definition, and when it began.
type Look = tokio::sync::Mutex<Option<(Instant, Option<Entry>)>>;

/// A definition that can be run.
#[derive(Debug)]
pub(super) struct Definition {
    pub(super) value: Value,
    pub(super) program: Program,
    input: Option<Validator>,
}

/// Why there is none.
#[derive(Debug)]
pub(super) enum Missing {
    Refused(Failure),
    Error(Error),
}

impl Definitions {
    pub(super) fn new(post: &Post) -> Self {
        Self { post: post.clone(), kept: Mutex::default(), looks: Mutex::default() }
    }

    /// The workflow's definition as it stands now.
    pub(super) async fn find(&self, workflow: &WorkflowName) -> Result<Arc<Definition>, Missing> {
        let key = definition_key(workflow);
        let unknown = || {
            let message = format!("there is no workflow `{workflow}`; `sortie workflow list` shows what there is");
            Missing::Refused(Failure::new(codes::WORKFLOW_UNKNOWN, message).give_up())
        };
        let (revision, body) = match self.look(workflow).await.map_err(Missing::Error)? {
            Some(entry) => (entry.revision, entry.value.ok_or_else(unknown)?),
            // A replica may not have yet what was just brought.
            None => {
                let bucket = self.post.workflows.name();
                let (stream, subject) = (bucket_stream(bucket), bucket_subject(bucket, &key));
                let found = self.post.reader.last_at_leader(&stream, &subject).await.map_err(Missing::Error)?;
                let found = found.filter(|found| !found.body.is_empty()).ok_or_else(unknown)?;
                (found.sequence, found.body)
            }
        };
        if let Some(known) = self.known(workflow, revision) {
            return Ok(known);
        }
        let definition = Arc::new(Definition::read(&body).map_err(Missing::Refused)?);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= KEPT_MAX {
            kept.clear();
        }
        kept.insert(workflow.clone(), (revision, Arc::clone(&definition)));
        Ok(definition)
    }

    /// What stands in the bucket. A look that began after somebody asked is good for him, so that many starts at once cost a few.
    async fn look(&self, workflow: &WorkflowName) -> Result<Option<Entry>, Error> {
        let asked = Instant::now();
        let look = {
            let mut looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
            if looks.len() >= KEPT_MAX {
                looks.clear();
            }
            Arc::clone(looks.entry(workflow.clone()).or_default())
        };
        let mut last = look.lock().await;
        if let Some((began, found)) = &*last
            && *began >= asked
        {
            return Ok(found.clone());
        }
        let began = Instant::now();
        let found = self.post.workflows.get(&definition_key(workflow)).await?;
        *last = Some((began, found.clone()));
        Ok(found)
    }

    fn known(&self, workflow: &WorkflowName, revision: u64) -> Option<Arc<Definition>> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.get(workflow).filter(|(known, _)| *known == revision).map(|(_, definition)| Arc::clone(definition))
    }
}

impl Definition {
    fn read(body: &[u8]) -> Result<Self, Failure> {
        let value = serde_json::from_slice(body);
        Self::of(value.map_err(|error| Failure::new(codes::DEFINITION_INVALID, error.to_string()).give_up())?)
    }

    /// The definition that a run started with.
    pub(super) fn of(value: Value) -> Result<Self, Failure> {
        let invalid = |what: String| Failure::new(codes::DEFINITION_INVALID, what).give_up();
        let program = Program::read(&value)?;
        let compiled = program.plan().input.as_ref().map(jsonschema::validator_for).transpose();
        let input = compiled.map_err(|error| invalid(format!("input: {error}")))?;
        Ok(Self { value, program, input })
    }

    pub(super) fn has_schema(&self) -> bool {
        self.input.is_some()
    }

    /// Whether an input is what the schema says.
    pub(super) fn check(&self, input: &Value) -> Result<(), Failure> {
        let Some(validator) = &self.input else { return Ok(()) };
        let fault = |error: jsonschema::ValidationError<'_>| {
            let message = limits::truncate(&error.to_string(), FAULT_BYTES_MAX);
            json!({ "pointer": error.instance_path().to_string(), "message": message })
        };
        let faults: Vec<Value> = validator.iter_errors(input).take(FAULTS_MAX).map(fault).collect();
        if faults.is_empty() {
            return Ok(());
        }
        let first = faults[0]["message"].as_str().unwrap_or_default();
        let message = format!("the input is not what the workflow's schema says: {first}");
        Err(Failure::new(codes::INVALID_INPUT, message).give_up().details(json!({ "faults": faults })))
    }
}
