//! The environment: every variable that Sortie reads, and the only place that reads them.
//!
//! An empty variable counts as one that is not set.

use std::collections::BTreeMap;

/// Servers to connect to, as `--server`.
pub const SERVER: &str = "SORTIE_SERVER";
/// Namespace of the fleet, as `--namespace`.
pub const NAMESPACE: &str = "SORTIE_NAMESPACE";
/// Credentials file (JWT and seed), as `--creds`.
pub const CREDS: &str = "SORTIE_CREDS";
/// File with an nkey seed, as `--nkey`.
pub const NKEY: &str = "SORTIE_NKEY";
/// User name, as `--user`.
pub const USER: &str = "SORTIE_USER";
/// Password of the user. There is no flag for it, because others see command lines.
pub const PASSWORD: &str = "SORTIE_PASSWORD";
/// Token. There is no flag for it, because others see command lines.
pub const TOKEN: &str = "SORTIE_TOKEN";
/// File with the certificates to trust, as `--tls-ca`.
pub const TLS_CA: &str = "SORTIE_TLS_CA";
/// File with our certificate, as `--tls-cert`.
pub const TLS_CERT: &str = "SORTIE_TLS_CERT";
/// File with our certificate's key, as `--tls-key`.
pub const TLS_KEY: &str = "SORTIE_TLS_KEY";
/// Prefix of the subjects on which answers arrive, as `--inbox-prefix`.
pub const INBOX_PREFIX: &str = "SORTIE_INBOX_PREFIX";
/// What to log, as `--log-level`.
pub const LOG: &str = "SORTIE_LOG";
/// How to log, as `--log-format`.
pub const LOG_FORMAT: &str = "SORTIE_LOG_FORMAT";
/// What to ship to the fleet's log, as `--ship-logs`.
pub const SHIP_LOGS: &str = "SORTIE_SHIP_LOGS";
/// Where to serve metrics, as `--metrics`.
pub const METRICS: &str = "SORTIE_METRICS";

/// An agent's slots.
pub const SLOTS: &str = "SORTIE_SLOTS";
/// How often an agent renews its registry entry.
pub const HEARTBEAT: &str = "SORTIE_HEARTBEAT";
/// How long an agent's attempts may go on after a stop was asked for.
pub const DRAIN_GRACE: &str = "SORTIE_DRAIN_GRACE";
/// An agent's file of settings, as `--config`.
pub const CONFIG: &str = "SORTIE_CONFIG";
/// An agent's file of variables, as `--env-file`.
pub const ENV_FILE: &str = "SORTIE_ENV_FILE";

/// What the NATS command line calls [`SERVER`]; ours goes first, here and below.
pub const NATS_URL: &str = "NATS_URL";
/// What the NATS command line calls [`CREDS`].
pub const NATS_CREDS: &str = "NATS_CREDS";
/// What the NATS command line calls [`NKEY`].
pub const NATS_NKEY: &str = "NATS_NKEY";
/// What the NATS command line calls [`USER`].
pub const NATS_USER: &str = "NATS_USER";
/// What the NATS command line calls [`PASSWORD`].
pub const NATS_PASSWORD: &str = "NATS_PASSWORD";
/// What the NATS command line calls [`TOKEN`].
pub const NATS_TOKEN: &str = "NATS_TOKEN";
/// What the NATS command line calls [`TLS_CA`].
pub const NATS_CA: &str = "NATS_CA";
/// What the NATS command line calls [`TLS_CERT`].
pub const NATS_CERT: &str = "NATS_CERT";
/// What the NATS command line calls [`TLS_KEY`].
pub const NATS_KEY: &str = "NATS_KEY";
/// Name of a context of the NATS command line, as `--context`, below every other variable.
pub const NATS_CONTEXT: &str = "NATS_CONTEXT";

/// Where contexts of the NATS command line are looked for. Defaults to `~/.config`.
pub const XDG_CONFIG_HOME: &str = "XDG_CONFIG_HOME";
/// Where `sortie up` keeps its store. Defaults to `~/.local/share`.
pub const XDG_DATA_HOME: &str = "XDG_DATA_HOME";
/// What `~` stands for.
pub const HOME: &str = "HOME";
/// Who steers the fleet, as the audit trail names it. Defaults to the user and the host.
pub const OPERATOR: &str = "SORTIE_OPERATOR";
/// What the system calls whoever is logged in.
pub const LOGIN: &str = "USER";
/// What bodies are edited with, before [`EDITOR`].
pub const VISUAL: &str = "VISUAL";
/// What bodies are edited with. Defaults to `vi`.
pub const EDITOR: &str = "EDITOR";
/// Set to anything, it turns colours off.
pub const NO_COLOR: &str = "NO_COLOR";

/// Every variable that Sortie reads.
pub const ALL: &[&str] = &[
    SERVER,
    NAMESPACE,
    CREDS,
    NKEY,
    USER,
    PASSWORD,
    TOKEN,
    TLS_CA,
    TLS_CERT,
    TLS_KEY,
    INBOX_PREFIX,
    LOG,
    LOG_FORMAT,
    SHIP_LOGS,
    METRICS,
    SLOTS,
    HEARTBEAT,
    DRAIN_GRACE,
    CONFIG,
    ENV_FILE,
    NATS_URL,
    NATS_CREDS,
    NATS_NKEY,
    NATS_USER,
    NATS_PASSWORD,
    NATS_TOKEN,
    NATS_CA,
    NATS_CERT,
    NATS_KEY,
    NATS_CONTEXT,
    XDG_CONFIG_HOME,
    XDG_DATA_HOME,
    HOME,
    OPERATOR,
    LOGIN,
    VISUAL,
    EDITOR,
    NO_COLOR,
];

/// The variables of [`ALL`] as they were at one moment, so that what depends on them is a
/// function of data.
#[derive(Clone, Default)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// The environment of this process.
    #[allow(clippy::disallowed_methods, reason = "this is the one door that the ban points to")]
    pub fn of_process() -> Self {
        Self::of(ALL.iter().filter_map(|&name| {
            let value = std::env::var_os(name)?;
            Some((name, value.to_string_lossy().into_owned()))
        }))
    }

    /// An environment made by hand.
    pub fn of<K: Into<String>, V: Into<String>>(pairs: impl IntoIterator<Item = (K, V)>) -> Self {
        let pairs = pairs.into_iter().map(|(name, value)| (name.into(), value.into()));
        Self(pairs.filter(|(_, value)| !value.is_empty()).collect())
    }

    /// The value of a variable, if it is set.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

/// A variable that is none of ours: one that a setting refers to. Empty counts as not set.
#[allow(clippy::disallowed_methods, reason = "this is the one door that the ban points to")]
pub(super) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

// Only the names: values may be secrets.
impl std::fmt::Debug for Environment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_variable_is_not_set_and_values_are_not_shown() {
        let environment = Environment::of([(SERVER, ""), (PASSWORD, "hunter2")]);
        assert_eq!(environment.get(SERVER), None);
        assert_eq!(environment.get(PASSWORD), Some("hunter2"));
        assert_eq!(format!("{environment:?}"), r#"{"SORTIE_PASSWORD"}"#);
    }
}
