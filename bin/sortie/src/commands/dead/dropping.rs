//! `sortie dead drop`: letters that nobody needs any more.

use futures_util::{StreamExt, stream};
use process::{ExitCode, Problem};
use protocol::RequestId;
use serde_json::{Value, json};

use super::{replay::dry_run, selection::SelectionArgs};
use crate::{meter::Meter, refusal, session::Session};

/// Letters that are dropped at once.
const AT_ONCE: usize = 16;

/// Delete letters; what was sent again goes on
///
/// A letter's mark stays, so that the same letter brought back by `import` is known to have been sent again.
#[derive(Debug, clap::Args)]
pub(super) struct DropArgs {
    #[command(flatten)]
    selection: SelectionArgs,
    /// Show what would be deleted, and delete nothing
    #[arg(long)]
    dry_run: bool,
}

pub(super) async fn run(args: DropArgs, session: &Session) -> Result<ExitCode, Problem> {
    let client = session.client().await?;
    let selection = args.selection.find(client, |filter| filter).await?;
    if args.dry_run {
        return dry_run(&selection, session);
    }
    session.audit("dead-drop", &selection.target(), selection.detail(Value::Null)).await?;
    let meter = Meter::new("dropping", Some(selection.ids.len()));
    let mut dropping = stream::iter(selection.ids)
        .map(|id| async move {
            let ended = client.drop_dead(&id).await;
            (id, ended)
        })
        .buffer_unordered(AT_ONCE);
    let (mut dropped, mut refused): (Vec<RequestId>, Vec<(RequestId, Problem)>) = (Vec::new(), Vec::new());
    while let Some((id, ended)) = dropping.next().await {
        match ended {
            Ok(()) => dropped.push(id),
            Err(error) => refused.push((id, refusal::problem(error))),
        }
        meter.at(dropped.len(), "");
    }
    drop(meter);
    let told: Vec<Value> =
        refused.iter().map(|(id, problem)| json!({ "id": id, "refusal": problem.message })).collect();
    session.output().show(&json!({ "dropped": dropped, "refused": told }), || {
        let mut lines: Vec<String> =
            refused.iter().map(|(id, problem)| format!("{id} is not dropped: {}", problem.message)).collect();
        lines.push(format!("{} dropped", dropped.len()));
        lines.join("\n")
    })?;
    Ok(refused.first().map_or(ExitCode::Done, |(_, problem)| problem.code))
}
