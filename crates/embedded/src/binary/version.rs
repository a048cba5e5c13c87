use std::{path::Path, process::Command, time::Duration};

use semver::Version;

use super::MINIMUM;
use crate::{Error, bounded};

/// Printing a version takes milliseconds; a machine that needs longer is too busy to run a server.
const WITHIN: Duration = Duration::from_secs(20);

/// Asks `binary` for its version, and accepts it from [`MINIMUM`](super::MINIMUM) on.
///
/// # Errors
/// [`Error::Unusable`] if it cannot be run, is not nats-server, or is too old.
pub fn version(binary: &Path) -> Result<Version, Error> {
    let unusable = |reason: String| Error::Unusable { path: binary.to_owned(), reason };
    let ended = bounded::run(Command::new(binary).arg("--version"), WITHIN)
        .map_err(|error| unusable(format!("it cannot be run: {error}")))?;
    let Some(version) = parse(&ended.output).filter(|_| ended.status.success()) else {
        return Err(unusable("it does not print a version as nats-server does".to_owned()));
    };
    if version < MINIMUM {
        return Err(unusable(format!("it is version {version}, and {MINIMUM} or newer is needed")));
    }
    Ok(version)
}

/// Reads `nats-server: v2.15.1`, on whatever line it stands.
fn parse(output: &str) -> Option<Version> {
    let said = output.lines().find_map(|line| line.trim().strip_prefix("nats-server: "))?;
    let said = said.split_whitespace().next()?;
    Version::parse(said.strip_prefix('v').unwrap_or(said)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_read_from_what_the_server_prints() {
        let table = [
            ("nats-server: v2.15.1\n", Some(Version::new(2, 15, 1))),
            ("nats-server: 2.14.0", Some(Version::new(2, 14, 0))),
            ("warning: something\nnats-server: v2.14.3 (go1.26)\n", Some(Version::new(2, 14, 3))),
            ("nats-server: v2.14.0-RC.1", Version::parse("2.14.0-RC.1").ok()),
            ("nats-server: v2.14", None),
            ("nats-server: ", None),
            ("gnatsd version 1.4.1", None),
            ("", None),
        ];
        for (output, expected) in table {
            assert_eq!(parse(output), expected, "{output:?}");
        }
    }

    #[test]
    fn a_release_candidate_of_the_oldest_version_is_too_old() {
        assert!(parse("nats-server: v2.14.0-RC.1").is_some_and(|version| version < MINIMUM));
    }
}
