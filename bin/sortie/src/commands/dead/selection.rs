//! The letters that a command is for: named one by one, or all that a filter means.

use client::Client;
use process::{ExitCode, Problem};
use protocol::RequestId;
use serde_json::{Value, json};

use super::filter::FilterArgs;
use crate::refusal;

/// Ids that one audit record names.
const IDS_TOLD: usize = 1_000;

/// The letters that a command is for.
#[derive(Debug, clap::Args)]
pub(super) struct SelectionArgs {
    /// The requests that were given up
    #[arg(value_name = "ID", conflicts_with_all = ["all"])]
    ids: Vec<RequestId>,
    /// All that the filters mean
    #[arg(long)]
    all: bool,
    /// The oldest so many of them
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    #[command(flatten)]
    filter: FilterArgs,
}

/// What was meant.
pub(super) struct Selection {
    /// The requests that were given up, the oldest first where a filter found them.
    pub(super) ids: Vec<RequestId>,
    /// Whether they were named one by one.
    pub(super) is_named: bool,
    /// How that was said, for the audit trail.
    said: Value,
}

impl SelectionArgs {
    /// Finds them. `narrow` says what else a filter means here.
    pub(super) async fn find(
        self,
        client: &Client,
        narrow: impl FnOnce(FilterArgs) -> FilterArgs,
    ) -> Result<Selection, Problem> {
        let is_filtered = !self.filter.is_empty();
        match (self.ids.is_empty(), self.all || is_filtered) {
            (false, false) => {
                let told: Vec<&RequestId> = self.ids.iter().take(IDS_TOLD).collect();
                let said = json!({ "ids": told });
                Ok(Selection { ids: self.ids, is_named: true, said })
            }
            (true, true) => {
                let filter = narrow(self.filter.resolved()?);
                let said = json!({ "filter": filter.document(), "limit": self.limit });
                let filter = filter.filter(client).await?;
                let ids = client.dead_ids(&filter, self.limit.unwrap_or(usize::MAX)).await;
                Ok(Selection { ids: ids.map_err(refusal::problem)?, is_named: false, said })
            }
            (true, false) => Err(Problem::new(ExitCode::Usage, "which dead letters?")
                .advise("name them by their ids, give a filter such as --code timeout, or say --all")),
            (false, true) => Err(Problem::new(ExitCode::Usage, "letters are named by ids or by filters, not by both")),
        }
    }
}

impl Selection {
    /// What the audit trail is told as target.
    pub(super) fn target(&self) -> String {
        match self.ids.as_slice() {
            [one] => one.to_string(),
            many => format!("{} dead letters", many.len()),
        }
    }

    /// What it is told beside: which letters, and how they are dealt with.
    pub(super) fn detail(&self, how: Value) -> Value {
        json!({ "letters": self.said, "how": how })
    }
}
