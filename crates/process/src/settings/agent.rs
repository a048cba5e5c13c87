//! An agent's own layers of settings: its file, its environment file, its variables. The fleet's documents lie between.

use std::path::{Path, PathBuf};

use protocol::settings::{self, Layer};
use serde_json::{Map, Value};

use super::{Environment, Faults, environment as variable, file};

/// Variables that are settings, and where each stands.
const VARIABLES: [(&str, &str); 3] =
    [(variable::SLOTS, "slots"), (variable::HEARTBEAT, "heartbeat"), (variable::DRAIN_GRACE, "drain_grace")];

/// The flags for it.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Settings")]
pub struct AgentArgs {
    /// File of settings, YAML or JSON, below those of the fleet [env: SORTIE_CONFIG]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// File of lines such as SORTIE_SLOTS=4, above that and below the fleet [env: SORTIE_ENV_FILE]
    #[arg(long, value_name = "FILE")]
    pub env_file: Option<PathBuf>,
}

impl AgentArgs {
    /// Reads the layers, each checked.
    ///
    /// # Errors
    /// Everything that is wrong with any of them.
    pub fn resolve(&self, environment: &Environment) -> Result<Vec<(Layer, Value)>, Faults> {
        let mut faults = Faults::new();
        let path = |flag: &Option<PathBuf>, name| flag.clone().or_else(|| environment.get(name).map(PathBuf::from));
        let mut layers = Vec::new();
        if let Some(path) = path(&self.config, variable::CONFIG)
            && let Some(document) = faults.absorb(file::load::<Value>(&path))
        {
            let place = path.display().to_string();
            for fault in settings::check(&document) {
                let place = if fault.path.is_empty() { place.clone() } else { format!("{place}: {}", fault.path) };
                faults.add(place, fault.message);
            }
            layers.push((Layer::File, document));
        }
        if let Some(path) = path(&self.env_file, variable::ENV_FILE)
            && let Some(pairs) = faults.absorb(lines(&path))
        {
            let place = path.display().to_string();
            let pairs = pairs.iter().map(|(name, value)| (name.as_str(), value.as_str()));
            layers.push((Layer::EnvFile, document(pairs, &format!("{place}: "), &mut faults)));
        }
        let set = VARIABLES.iter().filter_map(|(name, _)| Some((*name, environment.get(name)?)));
        layers.push((Layer::Variable, document(set, "", &mut faults)));
        faults.finish(layers)
    }
}

/// A document from variables.
fn document<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>, place: &str, faults: &mut Faults) -> Value {
    let mut whole = Value::Object(Map::new());
    for (name, text) in pairs {
        let Some((_, path)) = VARIABLES.iter().find(|(known, _)| *known == name) else {
            let known = VARIABLES.map(|(name, _)| name).join(", ");
            faults.add(format!("{place}{name}"), format!("is no setting; there are {known}"));
            continue;
        };
        let value = text.parse::<u64>().map_or_else(|_| Value::String(text.to_owned()), Value::from);
        let mut one = Value::Object(Map::new());
        settings::set(&mut one, path, value.clone());
        match settings::check(&one).into_iter().next() {
            Some(fault) => faults.add(format!("{place}{name}"), fault.message),
            None => settings::set(&mut whole, path, value),
        }
    }
    whole
}

/// `NAME=VALUE` on each line; empty lines and those that begin with `#` say nothing.
fn lines(path: &Path) -> Result<Vec<(String, String)>, Faults> {
    let place = path.display().to_string();
    let text =
        std::fs::read_to_string(path).map_err(|error| Faults::one(&place, format!("cannot be read: {error}")))?;
    let mut faults = Faults::new();
    let mut pairs = Vec::new();
    for (number, line) in text.lines().map(str::trim).enumerate() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match line.split_once('=') {
            Some((name, value)) => pairs.push((name.trim().to_owned(), value.trim().trim_matches('"').to_owned())),
            None => faults.add(format!("{place}: line {}", number + 1), "is not NAME=VALUE"),
        }
    }
    faults.finish(pairs)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
    use serde_json::json;

    use super::*;

    #[test]
    fn an_agents_layers_are_read_and_every_fault_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let (config, env_file) = (folder.path().join("agent.yaml"), folder.path().join("agent.env"));
        std::fs::write(&config, "slots: 3\ncustom: { colour: blue }\n").unwrap();
        std::fs::write(&env_file, "# of this machine\nSORTIE_SLOTS=\"5\"\n\nSORTIE_HEARTBEAT = 5s\n").unwrap();
        let args = AgentArgs { config: Some(config.clone()), env_file: Some(env_file.clone()) };
        let environment = Environment::of([(variable::DRAIN_GRACE, "1m")]);
        let layers = args.resolve(&environment).unwrap();
        assert_eq!(
            layers,
            [
                (Layer::File, json!({ "slots": 3, "custom": { "colour": "blue" } })),
                (Layer::EnvFile, json!({ "slots": 5, "heartbeat": "5s" })),
                (Layer::Variable, json!({ "drain_grace": "1m" })),
            ]
        );
        let merged = settings::merge(layers.into_iter().chain([(Layer::Kind, json!({ "slots": 7 }))]));
        assert_eq!((&merged.document["slots"], merged.origins["heartbeat"].clone()), (&json!(7), Layer::EnvFile));

        std::fs::write(&config, "slots: 0\nslot: 1\n").unwrap();
        std::fs::write(&env_file, "SORTIE_SLOT=1\nSORTIE_HEARTBEAT=9h\n").unwrap();
        let environment = Environment::of([(variable::SLOTS, "many")]);
        let faults = args.resolve(&environment).unwrap_err();
        let places: Vec<String> =
            faults.iter().map(|fault| fault.place.rsplit('/').next().unwrap_or_default().to_owned()).collect();
        assert_eq!(
            places,
            [
                "agent.yaml: slot",
                "agent.yaml: slots",
                "agent.env: SORTIE_SLOT",
                "agent.env: SORTIE_HEARTBEAT",
                "SORTIE_SLOTS"
            ]
        );
        let absent = AgentArgs { config: Some("/nowhere/a.yaml".into()), env_file: None };
        assert!(absent.resolve(&Environment::default()).unwrap_err().to_string().contains("cannot be read"));
    }
}
