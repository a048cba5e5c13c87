//! What expressions can name, and which functions there are.

use super::work;

/// The names that are known where an expression stands. `input`, `run` and the types of CEL are known everywhere.
pub struct Names<'a> {
    /// Whether the workflow has a step of this name.
    pub has_step: &'a dyn Fn(&str) -> bool,
    /// Those of [`LOCALS`] that are known here.
    pub locals: &'a [&'static str],
}

/// Names that are known in some places, with where that is.
pub(super) const LOCALS: [(&str, &str); 5] = [
    ("item", "in a `foreach` and its `undo`"),
    ("index", "in a `foreach` and its `undo`"),
    ("turn", "in a `repeat` and its `undo`"),
    ("event", "in a trigger"),
    ("last", "in a `repeat`, and in the `undo` of `foreach`, `repeat` and `race`"),
];

/// What `run` has.
pub(super) const RUN_FIELDS: [&str; 4] = ["id", "workflow", "version", "started"];

/// What a step has.
pub(super) const STEP_FIELDS: [&str; 3] = ["output", "status", "error"];

/// What a path begins with.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Root {
    /// `input`.
    Input,
    /// `run`.
    Run,
    /// `steps.<name>.output`.
    StepOutput(String),
    /// `steps.<name>.status`.
    StepStatus(String),
    /// `steps.<name>.error`.
    StepError(String),
    /// `item`, `index`, `turn`, `last` or `event`.
    Local(&'static str),
}

/// One mention of a name in an expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// What is named.
    pub root: Root,
    /// The key that is looked up in it first: `a` of `input.a.b`.
    pub key: Option<String>,
    /// The line of the source, from 1.
    pub line: u64,
    /// The column of the source in characters, from 1.
    pub column: u64,
}

impl Root {
    /// The step that it is about.
    pub fn step(&self) -> Option<&str> {
        match self {
            Self::StepOutput(name) | Self::StepStatus(name) | Self::StepError(name) => Some(name),
            Self::Input | Self::Run | Self::Local(_) => None,
        }
    }
}

/// Names of types, which stand for themselves: `type(x) == string`.
pub(super) fn is_type(name: &str) -> bool {
    matches!(name, "bool" | "int" | "uint" | "double" | "string" | "bytes" | "list" | "map" | "null_type" | "type")
}

/// The functions of CEL's standard library: name, whether it is called on something, how many arguments it takes beside that.
const FUNCTIONS: [(&str, bool, &[usize]); 27] = [
    ("size", false, &[1]),
    ("size", true, &[0]),
    ("int", false, &[1]),
    ("uint", false, &[1]),
    ("double", false, &[1]),
    ("string", false, &[1]),
    ("bool", false, &[1]),
    ("bytes", false, &[1]),
    ("dyn", false, &[1]),
    ("type", false, &[1]),
    ("duration", false, &[1]),
    ("timestamp", false, &[1]),
    ("matches", false, &[2]),
    ("matches", true, &[1]),
    ("contains", true, &[1]),
    ("startsWith", true, &[1]),
    ("endsWith", true, &[1]),
    ("getFullYear", true, &[0, 1]),
    ("getMonth", true, &[0, 1]),
    ("getDate", true, &[0, 1]),
    ("getDayOfMonth", true, &[0, 1]),
    ("getDayOfWeek", true, &[0, 1]),
    ("getDayOfYear", true, &[0, 1]),
    ("getHours", true, &[0, 1]),
    ("getMinutes", true, &[0, 1]),
    ("getSeconds", true, &[0, 1]),
    ("getMilliseconds", true, &[0, 1]),
];

/// What is wrong with a call of this function, if something is.
pub(super) fn function_fault(name: &str, on_something: bool, arguments: usize) -> Option<String> {
    let ours = work::FUNCTIONS.iter().map(|function| (function.name, true, function.arguments));
    let all: Vec<(&str, bool, &[usize])> =
        FUNCTIONS.into_iter().chain(ours.filter(|(name, ..)| !name.starts_with('@'))).collect();
    let same_name: Vec<_> = all.iter().filter(|(known, ..)| *known == name).collect();
    if same_name.iter().any(|(_, member, counts)| *member == on_something && counts.contains(&arguments)) {
        return None;
    }
    if matches!(name, "map" | "filter" | "all" | "exists" | "exists_one" | "existsOne") {
        return Some(format!("`{name}` is written `list.{name}(x, …)`, with a name and an expression"));
    }
    if name == "has" {
        return Some("`has` is written `has(a.b)`".to_owned());
    }
    let Some((_, member, _)) = same_name.first() else {
        let mut known: Vec<&str> = all.iter().map(|(known, ..)| *known).collect();
        known.dedup();
        return Some(format!(
            "there is no function `{name}`; there are has, map, filter, all, exists, exists_one, {}",
            known.join(", ")
        ));
    };
    let like = if *member { format!("x.{name}(…)") } else { format!("{name}(…)") };
    Some(format!("`{name}` with {arguments} arguments is not known; it is written `{like}`"))
}
