//! The file that says which agents a fleet on this machine has. Everything that is wrong with it is told at once.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use process::settings::{Faults, file};
use protocol::{Kind, limits};
use serde_json::{Map, Value};

/// Processes of one entry: each is a program of its own on this one machine.
const COUNT_MAX: u64 = 100;

const KEYS: [&str; 7] = ["kind", "run", "file", "args", "count", "slots", "env"];

/// Some processes of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Agents {
    /// What they are called, with a number each.
    pub(crate) kind: Kind,
    /// What they run.
    pub(crate) run: Run,
    /// How many there are. Defaults to 1.
    pub(crate) count: u64,
    /// Attempts at once in each. Defaults to the agent's own default.
    pub(crate) slots: Option<u64>,
    /// Variables that they get. Defaults to none.
    pub(crate) env: BTreeMap<String, String>,
    /// Where they run: the folder of the file.
    pub(crate) directory: PathBuf,
}

/// What a process runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Run {
    /// Our agent that runs commands, with its definition.
    Exec(PathBuf),
    /// Our agent that makes HTTP calls, with its definition.
    Http(PathBuf),
    /// Our agent that examines files.
    Files(Vec<String>),
    /// The agent that `sortie bench` asks.
    Bench {
        /// How many capabilities it serves.
        capabilities: usize,
    },
    /// Any other program.
    Program(PathBuf, Vec<String>),
}

/// Reads the file.
///
/// # Errors
/// Every fault of it.
pub(crate) fn read(path: &Path) -> Result<Vec<Agents>, Faults> {
    let place = path.display().to_string();
    let document: Value = file::load(path)?;
    let absolute =
        std::path::absolute(path).map_err(|error| Faults::one(&place, format!("cannot be found: {error}")))?;
    check(&place, absolute.parent().unwrap_or(Path::new("/")), &document)
}

fn check(place: &str, folder: &Path, document: &Value) -> Result<Vec<Agents>, Faults> {
    const SHAPE: &str = "is not a list such as `agents: [{kind: words, run: exec, file: words.yaml}]`";
    let mut faults = Faults::new();
    let mut all = Vec::new();
    for key in document.as_object().into_iter().flat_map(Map::keys).filter(|key| *key != "agents") {
        faults.add(format!("{place}: {key}"), "is no setting of this file; it has `agents` only");
    }
    match document.get("agents").and_then(Value::as_array) {
        None => faults.add(format!("{place}: agents"), SHAPE),
        Some(entries) => {
            for (number, entry) in entries.iter().enumerate() {
                let place = format!("{place}: agents.{number}");
                match entry.as_object() {
                    None => faults.add(place, "is not a mapping such as `{kind: words, run: exec, file: words.yaml}`"),
                    Some(entry) => all.extend(Entry { place, entry, faults: &mut faults }.agents(folder)),
                }
            }
        }
    }
    let mut seen = std::collections::BTreeSet::new();
    for agents in &all {
        if !seen.insert(&agents.kind) {
            faults.add(format!("{place}: agents"), format!("kind `{}` stands there twice; use `count`", agents.kind));
        }
    }
    faults.finish(all)
}

/// One entry while it is read.
struct Entry<'a> {
    place: String,
    entry: &'a Map<String, Value>,
    faults: &'a mut Faults,
}

impl Entry<'_> {
    /// The agents, as far as they can be made out: what is wrong is among the faults, and then nothing starts.
    fn agents(mut self, folder: &Path) -> Option<Agents> {
        for key in self.entry.keys().filter(|key| !KEYS.contains(&key.as_str())) {
            let known = KEYS.join(", ");
            self.faults.add(format!("{}.{key}", self.place), format!("is no setting of an agent; those are {known}"));
        }
        let kind = self.text("kind").and_then(|text| match Kind::parse(&text) {
            Ok(kind) => Some(kind),
            Err(error) => self.fault("kind", error.to_string()),
        });
        let run = self.run(folder);
        let count = self.number("count", COUNT_MAX).unwrap_or(1);
        let slots = self.number("slots", limits::SLOTS_MAX as u64);
        let env = self.env();
        Some(Agents { kind: kind?, run: run?, count, slots, env, directory: folder.to_owned() })
    }

    fn run(&mut self, folder: &Path) -> Option<Run> {
        let file = self.entry.contains_key("file").then(|| self.text("file")).flatten();
        let args = self.args();
        let run = self.text("run")?;
        let has_definition = matches!(run.as_str(), "exec" | "http");
        if !has_definition && file.is_some() {
            self.fault::<()>("file", "is for `run: exec` and `run: http` only; others take `args`");
        }
        match run.as_str() {
            _ if has_definition && self.entry.contains_key("args") => {
                self.fault("args", format!("is not for `run: {run}`, whose words stand in `file`"))
            }
            _ if has_definition => {
                let Some(file) = file else {
                    return if self.entry.contains_key("file") {
                        None
                    } else {
                        self.fault("file", "is missing: name the file that declares the capabilities")
                    };
                };
                let file = folder.join(file);
                match run.as_str() {
                    "exec" => self.accepted(exec::Definition::read(&file)).then_some(Run::Exec(file)),
                    _ => self.accepted(http_agent::Definition::read(&file)).then_some(Run::Http(file)),
                }
            }
            "files" => Some(Run::Files(args)),
            // A name alone is looked for on the PATH.
            program if program.contains('/') => {
                let program = folder.join(program);
                match program.is_file() {
                    true => Some(Run::Program(program, args)),
                    false => self.fault("run", format!("there is no program at {}", program.display())),
                }
            }
            program => Some(Run::Program(program.into(), args)),
        }
    }

    /// Whether the agent of a definition will accept it.
    fn accepted<T>(&mut self, read: Result<T, exec::definition::Error>) -> bool {
        match read {
            Ok(_) => true,
            Err(exec::definition::Error::Faulty { path, faults }) => {
                for fault in faults {
                    self.faults.add(format!("{}.file: {}", self.place, path.display()), fault.to_string());
                }
                false
            }
            Err(error) => self.fault::<()>("file", error.to_string()).is_some(),
        }
    }

    fn args(&mut self) -> Vec<String> {
        let value = self.entry.get("args").cloned().unwrap_or(Value::Array(Vec::new()));
        let args = value.as_array().map(|args| args.iter().map(scalar).collect::<Option<Vec<_>>>());
        args.flatten()
            .or_else(|| self.fault("args", "is not a list of texts such as `[worker.py, --fast]`"))
            .unwrap_or_default()
    }

    fn env(&mut self) -> BTreeMap<String, String> {
        let mut env = BTreeMap::new();
        let value = self.entry.get("env").cloned().unwrap_or(Value::Object(Map::new()));
        let Some(variables) = value.as_object() else {
            self.fault::<()>("env", "is not a mapping such as `{LANG: C}`");
            return env;
        };
        for (name, value) in variables {
            let key = format!("env.{name}");
            if name.is_empty() || name.contains(['=', '\0']) {
                self.fault::<()>(&key, "is no name of a variable");
            }
            match scalar(value) {
                Some(value) => drop(env.insert(name.clone(), value)),
                None => drop(self.fault::<()>(&key, "is not a text, a number or a boolean")),
            }
        }
        env
    }

    fn text(&mut self, key: &str) -> Option<String> {
        match self.entry.get(key) {
            None => self.fault(key, "is missing"),
            Some(Value::String(text)) if !text.trim().is_empty() => Some(text.clone()),
            Some(_) => self.fault(key, "is not a text"),
        }
    }

    fn number(&mut self, key: &str, max: u64) -> Option<u64> {
        let value = self.entry.get(key)?;
        let number = value.as_u64().filter(|number| (1..=max).contains(number));
        number.or_else(|| self.fault(key, format!("is {value}; 1 to {max} are allowed")))
    }

    fn fault<T>(&mut self, key: &str, message: impl Into<String>) -> Option<T> {
        self.faults.add(format!("{}.{key}", self.place), message);
        None
    }
}

/// What YAML reads as a number or a boolean is a text to a process.
fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.contains('\0') => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
