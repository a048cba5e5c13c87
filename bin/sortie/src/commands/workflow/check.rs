//! Files of definitions, and everything that is wrong with them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Read,
    path::{Path, PathBuf},
};

use process::{ExitCode, Problem};
use protocol::{Capability, WorkflowName};
use serde_json::{Value, json};
use workflow::{
    Plan,
    validate::{Report, Server, World, validate as judge},
};

use crate::{refusal, session::Session};

/// What is read of a file, in bytes: more than a definition may have, so that the judge says what is too much.
const READ_BYTES_MAX: u64 = 2 * 1024 * 1024;

/// Whom a definition is checked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whom {
    /// The agents and workflows that are there now.
    Fleet,
    /// Nobody knows.
    Anybody,
}

/// A definition that was found right.
pub(super) struct Found {
    /// What it says.
    pub(super) plan: Plan,
    /// As it is stored.
    pub(super) document: Value,
}

pub(super) async fn validate(files: &[PathBuf], offline: bool, session: &Session) -> Result<ExitCode, Problem> {
    let whom = if offline { Whom::Anybody } else { Whom::Fleet };
    let found = found(files, whom, session).await?;
    let document: Vec<Value> = found
        .iter()
        .map(|definition| {
            let Plan { workflow, version, steps, .. } = &definition.plan;
            json!({ "workflow": workflow, "version": version, "steps": steps.len() })
        })
        .collect();
    session.output().show(&document, || {
        let line = |definition: &Found| {
            let Plan { workflow, version, steps, .. } = &definition.plan;
            format!("{workflow} {version} is right: {} steps", steps.len())
        };
        found.iter().map(line).collect::<Vec<_>>().join("\n")
    })?;
    Ok(ExitCode::Done)
}

/// What the files say. Warnings go to stderr.
///
/// # Errors
/// Every fault of every file.
pub(super) async fn found(files: &[PathBuf], whom: Whom, session: &Session) -> Result<Vec<Found>, Problem> {
    let texts = files.iter().map(|path| Ok((path.as_path(), read(path)?))).collect::<Result<Vec<_>, Problem>>()?;
    let known = match whom {
        Whom::Fleet => Known::ask(session, &texts).await?,
        Whom::Anybody => Known::default(),
    };
    let (mut right, mut faults) = (Vec::new(), Vec::new());
    for (path, text) in &texts {
        let report = known.judge(text, whom);
        for warning in &report.warnings {
            eprintln!("{}:{warning} (a warning)", path.display());
        }
        faults.extend(report.faults.iter().map(|fault| format!("{}:{fault}", path.display())));
        right.extend(report.plan.map(|(plan, document)| Found { plan, document }));
    }
    if faults.is_empty() {
        return Ok(right);
    }
    Err(Problem::new(ExitCode::Usage, faults.join("\n")))
}

fn read(path: &Path) -> Result<String, Problem> {
    let mut text = String::new();
    let whole = fs::File::open(path).and_then(|file| file.take(READ_BYTES_MAX).read_to_string(&mut text));
    match whole {
        Ok(_) => Ok(text),
        Err(error) => Err(Problem::new(ExitCode::Usage, format!("{}: cannot be read: {error}", path.display()))),
    }
}

/// What inputs are taken in the fleet, and what is given.
#[derive(Default)]
struct Known {
    capabilities: BTreeMap<Capability, Value>,
    outputs: BTreeMap<Capability, Value>,
    workflows: BTreeMap<WorkflowName, Value>,
    /// What agents serve.
    agents: BTreeSet<Capability>,
    /// What workflows say they serve.
    serving: BTreeMap<WorkflowName, Capability>,
}

impl Known {
    async fn ask(session: &Session, texts: &[(&Path, String)]) -> Result<Self, Problem> {
        let client = session.client().await?;
        let mut capabilities = client.capability_inputs().await.map_err(refusal::problem)?;
        let outputs = client.capability_outputs().await.map_err(refusal::problem)?;
        let kept = client.workflows().await.map_err(refusal::problem)?;
        let agents = capabilities.keys().cloned().collect();
        let (mut workflows, mut serving) = (BTreeMap::new(), BTreeMap::new());
        let serves = |definition: &Value| Capability::parse(definition["serves"].as_str()?).ok();
        for stored in kept {
            let input = stored.definition.get("input").cloned().unwrap_or(Value::Bool(true));
            serving.extend(serves(&stored.definition).map(|capability| (stored.name.clone(), capability)));
            workflows.insert(stored.name, input);
        }
        // One may call another that is applied with it.
        for (plan, _) in texts.iter().filter_map(|(_, text)| Plan::parse(text).ok()) {
            serving.remove(&plan.workflow);
            serving.extend(plan.serves.map(|capability| (plan.workflow.clone(), capability)));
            workflows.insert(plan.workflow, plan.input.unwrap_or(Value::Bool(true)));
        }
        for (workflow, capability) in &serving {
            capabilities.entry(capability.clone()).or_insert_with(|| workflows[workflow].clone());
        }
        Ok(Self { capabilities, outputs, workflows, agents, serving })
    }

    /// Who serves a capability, besides this workflow.
    fn server(&self, capability: &Capability, but: &WorkflowName) -> Option<Server> {
        if self.agents.contains(capability) {
            return Some(Server::Agents);
        }
        let other = self.serving.iter().find(|(name, served)| *name != but && *served == capability);
        other.map(|(name, _)| Server::Workflow(name.clone()))
    }

    fn judge(&self, text: &str, whom: Whom) -> Report {
        let unknown = (whom == Whom::Anybody).then_some(Value::Bool(true));
        judge(
            text,
            &World {
                capability: &|name| self.capabilities.get(name).cloned().or_else(|| unknown.clone()),
                workflow: &|name| self.workflows.get(name).cloned().or_else(|| unknown.clone()),
                output: &|name| self.outputs.get(name).cloned(),
                server: &|capability, but| self.server(capability, but),
            },
        )
    }
}
