//! Who holds the places of a workflow that allows so many runs at once.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{RunId, WorkflowName};

/// The runs that hold the places of one limit, oldest first. Written by compare-and-set before a run's first fact, and taken
/// out when it has ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunHolders {
    /// The runs.
    pub runs: Vec<RunId>,
}

/// The key of a limit in the state bucket: of a workflow, or of those of its runs with this key, as JSON text.
pub fn holders_key(workflow: &WorkflowName, key: Option<&str>) -> String {
    let of = key.map_or_else(
        || "all".to_owned(),
        |key| Sha256::digest(key.as_bytes()).iter().take(16).map(|byte| format!("{byte:02x}")).collect(),
    );
    format!("holders.{workflow}.{of}")
}
