//! What was accepted: one line of JSON for each acknowledgement of the broker, in a file from which `sortie audit` proves
//! that nothing was lost.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Capability, RequestId, WorkflowName, time::Timestamp};

/// A line may have this many bytes, its end included: ids and names are bounded, and nothing else stands in it.
pub const LINE_BYTES_MAX: usize = 4_096;

/// One request, or one start of a run, that the broker has acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Accepted {
    /// The request, or the run.
    pub id: RequestId,
    /// What was asked for.
    #[serde(flatten)]
    pub asked: Asked,
    /// The stream that has stored it.
    pub stream: String,
    /// Its sequence there; none where the broker said that it is there already.
    #[serde(rename = "seq", default, skip_serializing_if = "Option::is_none")]
    pub sequence: Option<u64>,
    /// When it was handed over, on the broker's clock: not after it was stored.
    pub at: Timestamp,
}

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Asked {
    /// A piece of work of this capability.
    Request(Capability),
    /// A run of this workflow.
    Start(WorkflowName),
}

/// Why a line could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unread {
    /// It ends too early: whoever wrote it was killed while it wrote, or is writing it now.
    Torn,
    /// It is something else.
    Foreign(String),
}

impl Accepted {
    /// The line, its end included.
    pub fn line(&self) -> String {
        // Names, numbers and a time: there is nothing in it that has no JSON.
        let mut line = serde_json::to_string(self).unwrap_or_default();
        line.push('\n');
        line
    }

    /// Reads a line, with or without its end.
    ///
    /// # Errors
    /// Whether it is torn, or what else is wrong with it.
    pub fn read(line: &[u8]) -> Result<Self, Unread> {
        serde_json::from_slice(line.trim_ascii_end()).map_err(|error| match error.is_eof() {
            true => Unread::Torn,
            false => Unread::Foreign(error.to_string()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time;

    fn accepted(asked: Asked, sequence: Option<u64>) -> Accepted {
        let id = RequestId::parse("order-17").unwrap();
        let at = time::parse("2026-11-20T07:17:00.123Z").unwrap();
        Accepted { id, asked, stream: "FLEET_REQUESTS".to_owned(), sequence, at }
    }

    #[test]
    fn a_line_is_what_it_was() {
        let request = accepted(Asked::Request(Capability::parse("echo").unwrap()), Some(4));
        assert_eq!(
            request.line(),
            "{\"id\":\"order-17\",\"request\":\"echo\",\"stream\":\"FLEET_REQUESTS\",\"seq\":4,\
             \"at\":\"2026-11-20T07:17:00.123Z\"}\n"
        );
        let start = accepted(Asked::Start(WorkflowName::parse("night").unwrap()), None);
        for one in [request, start] {
            assert_eq!(Accepted::read(one.line().as_bytes()), Ok(one.clone()));
            assert!(one.line().len() < LINE_BYTES_MAX);
        }
    }

    #[test]
    fn a_line_that_ends_too_early_is_told_from_one_that_is_something_else() {
        let line = accepted(Asked::Request(Capability::parse("echo").unwrap()), Some(4)).line();
        let whole = line.trim_end().len();
        for end in 0..whole {
            assert_eq!(Accepted::read(&line.as_bytes()[..end]), Err(Unread::Torn), "{}", &line[..end]);
        }
        for foreign in ["hello", "{}", "[1]", "{\"id\":\"1\",\"request\":\"echo\",\"stream\":\"S\",\"at\":\"now\"}"] {
            assert!(matches!(Accepted::read(foreign.as_bytes()), Err(Unread::Foreign(_))), "{foreign}");
        }
    }
}
