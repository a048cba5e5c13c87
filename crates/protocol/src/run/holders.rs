//! Who holds the places of a workflow that allows so many runs at once.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{RunId, WorkflowName, time::Timestamp};

/// The runs that hold the places of one limit, oldest first. Written by compare-and-set before a run's first fact, and taken
/// out when it has ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunHolders {
    /// The runs.
    pub runs: Vec<RunId>,
    /// Those that wait for a place, the first to come first: at most [`WAITING_MAX`], the others come in as these go.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waiting: Vec<RunWaiting>,
}

/// The most runs that stand in line at one limit: each that comes or goes is a write of them all.
pub const WAITING_MAX: usize = 500;

/// A run that waits for a place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunWaiting {
    /// When the broker stored what begins it.
    pub at: Timestamp,
    /// Where in its stream that lies.
    pub sequence: u64,
    /// Whether that is the stream of unique work.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_unique: bool,
    /// The run.
    pub run: RunId,
}

impl RunHolders {
    /// Whether nobody holds a place or waits for one.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty() && self.waiting.is_empty()
    }

    /// How many wait that came before this one.
    pub fn ahead(&self, waiting: &RunWaiting) -> usize {
        self.waiting.iter().filter(|other| other.run != waiting.run && other.came() < waiting.came()).count()
    }

    /// Puts a run into the line where it belongs; false where it stands there, or where the line is full of earlier ones.
    pub fn line_up(&mut self, waiting: &RunWaiting) -> bool {
        if self.waiting.iter().any(|other| other.run == waiting.run) {
            return false;
        }
        let place = self.waiting.partition_point(|other| other.came() < waiting.came());
        if place >= WAITING_MAX {
            return false;
        }
        self.waiting.insert(place, waiting.clone());
        self.waiting.truncate(WAITING_MAX);
        true
    }
}

impl RunWaiting {
    fn came(&self) -> (Timestamp, u64) {
        (self.at, self.sequence)
    }
}

/// The key of a limit in the state bucket: of a workflow, or of those of its runs with this key, as JSON text.
pub fn holders_key(workflow: &WorkflowName, key: Option<&str>) -> String {
    let of = key.map_or_else(
        || "all".to_owned(),
        |key| Sha256::digest(key.as_bytes()).iter().take(16).map(|byte| format!("{byte:02x}")).collect(),
    );
    format!("holders.{workflow}.{of}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(sequence: u64) -> RunWaiting {
        let at = Timestamp::from_timestamp_nanos(1_000 * i64::try_from(sequence / 10).unwrap());
        RunWaiting { at, sequence, is_unique: false, run: RunId::parse(&format!("run-{sequence}")).unwrap() }
    }

    #[test]
    fn the_first_to_come_is_the_first_in_line() {
        let mut holders = RunHolders::default();
        for sequence in [30, 7, 31, 5] {
            assert!(holders.line_up(&waiting(sequence)));
        }
        assert!(!holders.line_up(&waiting(7)), "it stands there");
        let line: Vec<u64> = holders.waiting.iter().map(|one| one.sequence).collect();
        assert_eq!(line, [5, 7, 30, 31]);
        assert_eq!((holders.ahead(&waiting(5)), holders.ahead(&waiting(30)), holders.ahead(&waiting(99))), (0, 2, 4));
    }

    #[test]
    fn a_line_is_bounded_and_keeps_those_that_came_first() {
        let mut holders = RunHolders::default();
        for sequence in 10..10 + WAITING_MAX as u64 {
            assert!(holders.line_up(&waiting(sequence)));
        }
        assert!(!holders.line_up(&waiting(9_999)));
        assert!(holders.line_up(&waiting(1)));
        assert_eq!((holders.waiting.len(), holders.waiting[0].sequence), (WAITING_MAX, 1));
    }
}
