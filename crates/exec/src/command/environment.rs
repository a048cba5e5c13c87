//! What a command finds in its environment, and nothing else.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    path::Path,
};

use nix::unistd::{AccessFlags, access};
use protocol::time;

use super::Call;
use crate::definition::Definition;

/// The agent's own variables that every command gets, where the agent has them.
pub const PASSED: [&str; 3] = ["PATH", "HOME", "LANG"];

/// How an own variable of the agent is read; [`own`] reads those of this process.
pub type Own<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// Reads a variable of this process. Which ones, a definition says: none of them means anything to the agent itself.
#[allow(clippy::disallowed_methods, reason = "the settings' door reads only the variables that settings know")]
pub fn own(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

const TRACEPARENT_BYTES_MAX: usize = 256;

/// What does not depend on the request; a definition's `env` goes before the agent's own.
pub(super) fn declared(definition: &Definition, own: Own<'_>) -> BTreeMap<OsString, OsString> {
    let names = PASSED.into_iter().chain(definition.pass_env.iter().map(String::as_str));
    let passed = names.filter_map(|name| Some((name.into(), own(name)?)));
    let chosen = definition.env.iter().map(|(name, value)| (name.into(), value.into()));
    passed.chain(chosen).collect()
}

/// What the command is told of the request.
pub(super) fn of_call(call: &Call) -> Vec<(&'static str, String)> {
    let mut variables = vec![
        ("SORTIE_REQUEST_ID", call.request.to_string()),
        ("SORTIE_ATTEMPT", call.attempt.to_string()),
        ("SORTIE_CAPABILITY", call.capability.to_string()),
    ];
    variables.extend(call.deadline.map(|deadline| ("SORTIE_DEADLINE", time::format(deadline))));
    // Whoever published chose this text, and the system takes no NUL in a variable.
    let sane = |text: &&String| text.len() <= TRACEPARENT_BYTES_MAX && text.bytes().all(|byte| byte.is_ascii_graphic());
    variables.extend(call.traceparent.as_ref().filter(sane).map(|parent| ("TRACEPARENT", parent.clone())));
    variables
}

/// Whether the system would find this program and may run it.
pub(super) fn is_executable(program: &Path, path: Option<&OsStr>) -> bool {
    let runs = |candidate: &Path| candidate.is_file() && access(candidate, AccessFlags::X_OK).is_ok();
    if program.components().count() > 1 {
        return runs(program);
    }
    let path = path.unwrap_or(OsStr::new("/bin:/usr/bin"));
    std::env::split_paths(path).any(|folder| runs(&folder.join(program)))
}
