//! A job: ids that follow from its name and the input, so that nothing else need be remembered.

use std::fmt;

use protocol::RequestId;
use sha2::{Digest, Sha256};

/// The name of a job, out of which every line makes a valid id.
#[derive(Clone, Debug)]
pub(super) struct Job(String);

impl Job {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("a job needs a name".to_owned());
        }
        let job = Self(text.to_owned());
        match RequestId::from_client(&job.text(u64::MAX, b"")) {
            Ok(_) => Ok(job),
            Err(error) => Err(format!("`{text}` makes no ids of requests: {error}")),
        }
    }

    /// The id of a line: `<job>-<line>-<hash of the line>`.
    pub(super) fn id(&self, number: u64, line: &[u8]) -> Option<RequestId> {
        RequestId::from_client(&self.text(number, line)).ok()
    }

    fn text(&self, number: u64, line: &[u8]) -> String {
        let hash: String = Sha256::digest(line).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        format!("{}-{number}-{hash}", self.0)
    }
}

impl fmt::Display for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_follows_from_the_line() {
        let job = Job::parse("nightly").unwrap();
        assert_eq!(job.id(3, b"a").unwrap().as_str(), "nightly-3-ca978112ca1bbdca");
        assert_ne!(job.id(3, b"a"), job.id(3, b"b"));
        assert_ne!(job.id(3, b"a"), job.id(4, b"a"));
    }

    #[test]
    fn names_that_make_no_ids_are_refused() {
        for bad in ["", "a.b", "a b", "a*", "seq", "useq", "a~b", &"x".repeat(180)] {
            assert!(Job::parse(bad).is_err(), "{bad}");
        }
    }
}
