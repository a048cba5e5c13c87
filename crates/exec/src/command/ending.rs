//! What the end of a command means for its attempt: a function of its exit status and the definition.

use std::{collections::BTreeMap, os::unix::process::ExitStatusExt, process::ExitStatus};

use protocol::{Failure, codes, limits};
use serde_json::json;

use crate::definition::ExitMeaning;

/// The longest last line of stderr that is repeated in a failure's message, in bytes.
const LAST_LINE_BYTES_MAX: usize = 300;

/// What an exit status means.
#[derive(Debug, PartialEq)]
pub(super) enum Ending {
    /// What is on stdout is the result.
    Result,
    /// The attempt failed.
    Failed(Failure),
}

pub(super) fn judge(status: ExitStatus, exit: &BTreeMap<u8, ExitMeaning>) -> Ending {
    let Some(code) = status.code() else {
        let signal = status.signal().unwrap_or_default();
        return Ending::Failed(Failure::new(codes::COMMAND_KILLED, format!("was killed by {}", signal_name(signal))));
    };
    if code == 0 {
        return Ending::Result;
    }
    let failure = Failure::new(codes::COMMAND_FAILED, format!("ended with exit code {code}"));
    let meaning = u8::try_from(code).ok().and_then(|code| exit.get(&code));
    Ending::Failed(match meaning {
        Some(ExitMeaning::GiveUp) => failure.give_up(),
        Some(ExitMeaning::Retry) | None => failure.retry(),
    })
}

/// The failure with the command's name, what it last said, and the numbers for programs.
pub(super) fn tell(mut failure: Failure, name: &str, status: ExitStatus, stderr: &str) -> Failure {
    let last = stderr.lines().rev().find(|line| !line.trim().is_empty()).map(str::trim);
    let said = last.map(|line| format!(": {}", limits::truncate(line, LAST_LINE_BYTES_MAX))).unwrap_or_default();
    failure.message =
        limits::truncate(&format!("`{name}` {}{said}", failure.message), limits::FAILURE_MESSAGE_BYTES_MAX);
    failure.details(json!({ "exit_code": status.code(), "signal": status.signal(), "stderr": stderr }))
}

fn signal_name(signal: i32) -> String {
    match nix::sys::signal::Signal::try_from(signal) {
        Ok(known) => known.as_str().to_owned(),
        Err(_) => format!("signal {signal}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table() {
        let exit = BTreeMap::from([(75, ExitMeaning::Retry), (65, ExitMeaning::GiveUp)]);
        let exited = |code: i32| ExitStatus::from_raw(code << 8);
        for (status, expected) in [
            (exited(0), None),
            (exited(75), Some((codes::COMMAND_FAILED, true, "ended with exit code 75"))),
            (exited(65), Some((codes::COMMAND_FAILED, false, "ended with exit code 65"))),
            (exited(1), Some((codes::COMMAND_FAILED, true, "ended with exit code 1"))),
            (exited(255), Some((codes::COMMAND_FAILED, true, "ended with exit code 255"))),
            (ExitStatus::from_raw(9), Some((codes::COMMAND_KILLED, true, "was killed by SIGKILL"))),
            (ExitStatus::from_raw(11 | 0x80), Some((codes::COMMAND_KILLED, true, "was killed by SIGSEGV"))),
            (ExitStatus::from_raw(64), Some((codes::COMMAND_KILLED, true, "was killed by signal 64"))),
        ] {
            match (judge(status, &exit), expected) {
                (Ending::Result, None) => {}
                (Ending::Failed(failure), Some(expected)) => {
                    assert_eq!((failure.code.as_str(), failure.retryable, failure.message.as_str()), expected);
                }
                (found, expected) => panic!("{status}: {found:?} is not {expected:?}"),
            }
        }
    }

    #[test]
    fn a_failure_repeats_the_last_thing_said() {
        let failure = Failure::new(codes::COMMAND_FAILED, "ended with exit code 2");
        let failure = tell(failure, "wc", ExitStatus::from_raw(2 << 8), "warning\nwc: x: No such file\n\n");
        assert_eq!(failure.message, "`wc` ended with exit code 2: wc: x: No such file");
        let details = failure.details.unwrap_or_default();
        assert_eq!((&details["exit_code"], &details["signal"]), (&json!(2), &json!(null)));
    }
}
