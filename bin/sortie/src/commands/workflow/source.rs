//! A definition from where the user has it: a file, or by its name what is kept.

use std::path::Path;

use process::{ExitCode, Problem};
use protocol::WorkflowName;
use workflow::Plan;

use super::{check, show};
use crate::{refusal, session::Session};

/// The plan of a file, or of the newest version that is kept.
///
/// # Errors
/// Every fault of a file; that nothing of that name is kept.
pub(super) async fn plan(source: &str, session: &Session) -> Result<Plan, Problem> {
    let path = Path::new(source);
    let is_path = source.contains(['/', '.']) || path.exists();
    if is_path {
        let found = check::found(&[path.to_owned()], check::Whom::Anybody, session).await?;
        let plan = found.into_iter().next().map(|found| found.plan);
        return plan.ok_or_else(|| Problem::new(ExitCode::Internal, format!("{source}: nothing was read")));
    }
    let name = WorkflowName::parse(source).map_err(|error| {
        Problem::new(ExitCode::Usage, error.to_string()).advise("give a file, or a name of `sortie workflow list`")
    })?;
    let stored = session.client().await?.workflow(&name).await.map_err(refusal::problem)?;
    let stored = stored.ok_or_else(|| show::unknown(&name))?;
    Plan::read(&stored.definition).map_err(|faults| {
        let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
        Problem::new(ExitCode::WorkFailed, format!("{name} cannot be run:\n{}", faults.join("\n")))
            .advise("mend it and apply it again: `sortie workflow apply FILE`")
    })
}
