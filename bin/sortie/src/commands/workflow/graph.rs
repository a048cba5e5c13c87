//! `sortie workflow graph`: which step waits for which.

use process::{ExitCode, Problem};
use serde_json::json;
use workflow::graph::{mermaid, terminal};

use super::source;
use crate::session::Session;

pub(super) async fn draw(from: &str, is_mermaid: bool, session: &Session) -> Result<ExitCode, Problem> {
    let plan = source::plan(from, session).await?;
    let steps: Vec<_> = plan
        .steps
        .iter()
        .map(|step| {
            let names = |list: &[workflow::plan::StepIndex]| -> Vec<String> {
                list.iter().map(|index| plan.step(*index).name.to_string()).collect()
            };
            json!({
                "step": step.name,
                "does": workflow::graph::what(step),
                "needs": names(&step.needs),
                "needs_any": names(&step.needs_any),
                "fallback_of": step.fallback_of.map(|index| plan.step(index).name.to_string()),
            })
        })
        .collect();
    let document =
        json!({ "workflow": plan.workflow, "version": plan.version, "steps": steps, "mermaid": mermaid(&plan) });
    session.output().show(&document, || if is_mermaid { mermaid(&plan) } else { terminal(&plan) })?;
    Ok(ExitCode::Done)
}
