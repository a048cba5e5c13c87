//! The file that says which command answers which capability.

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use document::{Document, Located, below, check_schemas};
use protocol::{Capability, Kind};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use worker::layer::Layers;

pub use document::{Error, Fault, Retry, Schemas};

/// Capabilities in one definition: each costs consumers on the broker.
pub const CAPABILITIES_MAX: usize = 64;

/// What a command may print on stdout where the definition says nothing, in bytes.
pub const OUTPUT_BYTES_DEFAULT: usize = 8 * 1024 * 1024;

/// An agent made of commands. Unknown keys are faults.
///
/// ```yaml
/// kind: words
/// version: 1.0.0
/// capabilities:
///   count-words:
///     command: [wc, -w]
///     output: text
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Sortie agent definition")]
pub struct Definition {
    /// What kind of agent this is, as the registry shows it.
    #[schemars(with = "String", extend("format" = "sortie-kind"))]
    pub kind: Kind,
    /// Its version, as the registry shows it: three numbers such as `1.0.0`, as semantic versions have.
    #[schemars(length(max = 64), extend("format" = "sortie-version"))]
    pub version: String,
    /// The folder in which commands run, relative to the definition file. Defaults to the folder of the definition file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1))]
    pub directory: Option<PathBuf>,
    /// Variables that every command gets. Defaults to none.
    #[serde(default)]
    #[schemars(extend(
        "propertyNames" = { "format": "sortie-variable" },
        "additionalProperties" = { "type": "string", "format": "sortie-argument" }
    ))]
    pub env: BTreeMap<String, String>,
    /// Names of the agent's own variables that every command gets too, where the agent has them. Defaults to none:
    /// commands otherwise see only `PATH`, `HOME`, `LANG`, `env` and what the agent says about the request.
    #[serde(default)]
    #[schemars(extend("items" = { "type": "string", "format": "sortie-variable" }))]
    pub pass_env: Vec<String>,
    /// The command for each capability.
    #[schemars(extend("propertyNames" = { "format": "sortie-capability" }, "minProperties" = 1, "maxProperties" = 64))]
    pub capabilities: BTreeMap<Capability, CommandDefinition>,
}

/// The command that answers one capability.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CommandDefinition {
    /// What the capability does, in a sentence, as the registry shows it. Defaults to nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(max = 1024))]
    pub description: Option<String>,
    /// The program and its fixed arguments, given to the system as they are: no shell reads them. A program with a `/`
    /// in its name is looked for relative to the directory, any other on the `PATH`.
    #[schemars(length(min = 1, max = 256), extend("items" = { "type": "string", "format": "sortie-argument" }))]
    pub command: Vec<String>,
    /// Fields of the JSON input that are appended as arguments, in this order, one argument each. They must be there
    /// and be text, numbers or booleans. A value that begins with `-` is passed on as it is: end `command` with `--`
    /// where the program would take it for an option. Defaults to none.
    #[serde(default)]
    #[schemars(length(max = 64), inner(length(min = 1)))]
    pub args_from: Vec<String>,
    /// How stdout becomes the result. Defaults to `json`.
    #[serde(default)]
    pub output: Output,
    /// The largest stdout that is taken, in bytes. Defaults to 8 MiB.
    #[serde(default = "output_bytes_default")]
    #[schemars(range(min = 1, max = 67_108_864))]
    pub output_bytes_max: usize,
    /// How long one attempt may take, such as `30s`. Defaults to the worker's default, one minute.
    #[serde(default, with = "protocol::duration::optional", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", extend("format" = "sortie-timeout"))]
    pub timeout: Option<Duration>,
    /// When and how often a failed attempt is tried again. Defaults to the worker's default, three attempts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Retry")]
    pub retry: Option<Retry>,
    /// What exit codes from 1 to 255 mean, such as `75: retry`. Codes that are not listed are tried again under the
    /// policy. Defaults to none.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, ExitMeaning>", extend("propertyNames" = { "format": "sortie-exit-code" }))]
    pub exit: BTreeMap<u8, ExitMeaning>,
    /// JSON Schemas of input and output. Defaults to taking everything.
    #[serde(default)]
    pub schema: Schemas,
    /// Rate limit, circuit breaker, cache and retry rules around it. Defaults to none.
    #[serde(default, skip_serializing_if = "Layers::is_empty")]
    pub layers: Layers,
    /// The folder in which this command runs, relative to the definition file. Defaults to the definition's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1))]
    pub directory: Option<PathBuf>,
}

/// How stdout becomes the result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Output {
    /// One JSON document.
    #[default]
    Json,
    /// An array with each line as a text.
    Lines,
    /// One text, without its last line ending.
    Text,
}

/// What an exit code means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ExitMeaning {
    /// Try again, as the policy says.
    Retry,
    /// The request has failed.
    GiveUp,
}

impl Definition {
    /// Reads a file, YAML or JSON, and makes its directories absolute.
    ///
    /// # Errors
    /// [`Error::Unreadable`], or [`Error::Faulty`] with every fault that was found.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let mut definition = <Self as Document>::read(path)?;
        let absolute = std::path::absolute(path);
        let absolute = absolute.map_err(|source| Error::Unreadable { path: path.to_owned(), source })?;
        let home = absolute.parent().unwrap_or(Path::new("/"));
        let directory = home.join(definition.directory.take().unwrap_or_default());
        for command in definition.capabilities.values_mut() {
            command.directory =
                Some(command.directory.take().map_or_else(|| directory.clone(), |chosen| home.join(chosen)));
        }
        definition.directory = Some(directory);
        Ok(definition)
    }

    /// Reads a text, YAML or JSON; directories stay as they are written.
    ///
    /// # Errors
    /// Every fault that was found, in the order of the text; never an empty list.
    pub fn parse(text: &str) -> Result<Self, Vec<Fault>> {
        <Self as Document>::parse(text)
    }

    /// The JSON Schema of the file, for editors. The checks of [`Definition::parse`] are made with it.
    pub fn json_schema() -> Value {
        <Self as Document>::schema()
    }
}

impl Document for Definition {
    fn check(located: &Located, faults: &mut Vec<Fault>) {
        let commands = located.value.get("capabilities").and_then(Value::as_object);
        for (name, command) in commands.into_iter().flatten() {
            let pointer = below("/capabilities", name);
            let program = command.get("command").and_then(|command| command.get(0)).and_then(Value::as_str);
            if program.is_some_and(|program| program.trim().is_empty()) {
                faults.push(located.fault(&format!("{pointer}/command/0"), "names no program".to_owned()));
            }
            check_schemas(located, &pointer, faults);
            // What is no layers at all is told by the schema.
            let layers = command.get("layers").and_then(|layers| Layers::deserialize(layers).ok()).unwrap_or_default();
            for (place, message) in layers.faults() {
                faults.push(located.fault(&format!("{pointer}/layers{place}"), message));
            }
        }
    }
}

fn output_bytes_default() -> usize {
    OUTPUT_BYTES_DEFAULT
}
