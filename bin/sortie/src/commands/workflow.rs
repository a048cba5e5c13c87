//! `sortie workflow`: definitions, checked and kept.

mod check;
mod graph;
mod show;
mod simulate;
mod source;

use std::path::PathBuf;

use clap::Subcommand;
use process::{ExitCode, Problem};
use protocol::WorkflowName;
use serde_json::{Value, json};

use crate::{refusal, session::Session};

const EXAMPLES: &str = "\
Examples:
  sortie workflow validate audit.yaml         everything that is wrong with it, with line and column
  sortie workflow validate --offline *.yaml   without looking who serves what in the fleet
  sortie workflow apply audit.yaml            keep it: from now on it can be started
  sortie workflow list                        what is kept, and in which version
  sortie workflow show repo-audit             its steps, and what they wait for
  sortie workflow show repo-audit --history   every version that was applied
  sortie workflow graph repo-audit            a drawing of that; --mermaid for documents
  sortie workflow simulate audit.yaml --input '{\"path\":\".\"}' --fail report
                                              what would be called, in what order, if that failed
  sortie workflow remove repo-audit           runs that have begun go on

A run keeps the definition that it started with: a new version changes no run that has begun. Started by
`nats pub fleet.start.repo-audit '{\"path\":\".\"}'`.";

/// Keep and check definitions of workflows
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct WorkflowArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Check definitions and keep them; all or, where one is wrong, none
    Apply {
        /// YAML or JSON files, a definition each
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// Also where the same version is there with other content
        #[arg(long)]
        replace: bool,
    },
    /// Tell everything that is wrong with definitions, and keep nothing
    Validate {
        /// YAML or JSON files, a definition each
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// Do not look who serves what, and what the inputs must be
        #[arg(long)]
        offline: bool,
    },
    /// List what is kept, by name
    List,
    /// Show one: its steps, and what they wait for; with --json as it is stored
    Show {
        /// Which one
        name: WorkflowName,
        /// This version of it instead of the newest
        #[arg(long, value_name = "VERSION")]
        version: Option<String>,
        /// Every version that was applied, oldest first
        #[arg(long, conflicts_with = "version")]
        history: bool,
    },
    /// Draw which step waits for which
    Graph {
        /// A file, or the name of a workflow that is kept
        #[arg(value_name = "NAME|FILE")]
        source: String,
        /// A Mermaid flowchart, for documents
        #[arg(long)]
        mermaid: bool,
    },
    /// Run one dry: invent outcomes, and tell what would be called, in what order; exit code 1 unless it completes
    Simulate(simulate::SimulateArgs),
    /// Forget one; runs that have begun go on
    Remove {
        /// Which one
        name: WorkflowName,
    },
}

pub(crate) async fn run(args: WorkflowArgs, session: &Session) -> Result<ExitCode, Problem> {
    match args.verb {
        Verb::Apply { files, replace } => apply(&files, replace, session).await,
        Verb::Validate { files, offline } => check::validate(&files, offline, session).await,
        Verb::List => show::list(session).await,
        Verb::Show { name, history: true, .. } => show::history(&name, session).await,
        Verb::Show { name, version, .. } => show::one(&name, version.as_deref(), session).await,
        Verb::Graph { source, mermaid } => graph::draw(&source, mermaid, session).await,
        Verb::Simulate(args) => simulate::dry_run(args, session).await,
        Verb::Remove { name } => remove(&name, session).await,
    }
}

async fn apply(files: &[PathBuf], replace: bool, session: &Session) -> Result<ExitCode, Problem> {
    let found = check::found(files, check::Whom::Fleet, session).await?;
    let mut documents = Vec::new();
    for definition in found {
        let (name, version) = (&definition.plan.workflow, &definition.plan.version);
        session.audit("workflow-apply", name.as_str(), json!({ "version": version })).await?;
        let client = session.client().await?;
        let (applied, revision) =
            client.workflow_apply(name, &definition.document, replace).await.map_err(refusal::problem)?;
        documents.push(json!({ "workflow": name, "version": version, "done": applied, "revision": revision }));
    }
    session.output().show(&documents, || {
        let line = |document: &Value| {
            let text = |key: &str| document[key].as_str().unwrap_or_default().to_owned();
            format!("{} {} is {}", text("workflow"), text("version"), text("done"))
        };
        documents.iter().map(line).collect::<Vec<_>>().join("\n")
    })?;
    Ok(ExitCode::Done)
}

async fn remove(name: &WorkflowName, session: &Session) -> Result<ExitCode, Problem> {
    session.audit("workflow-remove", name.as_str(), Value::Null).await?;
    if !session.client().await?.workflow_remove(name).await.map_err(refusal::problem)? {
        return Err(show::unknown(name));
    }
    session.output().show(&json!({ "workflow": name, "done": "removed" }), || format!("workflow {name} is removed"))?;
    Ok(ExitCode::Done)
}
