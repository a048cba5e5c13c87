//! Reads the files that people write, YAML or JSON, and tells everything that is wrong with them at once and where.
//!
//! The JSON Schema that editors use finds most faults; what a schema cannot say, a [`Document`] looks for itself. It is no
//! place for settings of a process: those are `process::settings`.
//!
//! ```text
//!   text --> Located (a value that knows its lines) --> schema, formats, the document's own look --> faults | data
//! ```
//!
//! ```
//! use sortie_document::{Document, Retry};
//!
//! #[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
//! #[serde(deny_unknown_fields)]
//! struct Wish { retry: Retry }
//! impl Document for Wish {}
//!
//! assert_eq!(Wish::parse("retry: {attempts: 5}").unwrap().retry.policy().attempts_max, 5);
//! let faults = Wish::parse("retry: {attempts: 0}\nrety: 1\n").unwrap_err();
//! assert_eq!(faults.iter().map(|fault| fault.line).collect::<Vec<_>>(), [1, 2]);
//! ```

mod check;
mod fault;
mod located;
mod retry;

use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

pub use check::{Checker, Format, check_against, check_schema, check_schemas};
pub use fault::{Error, Fault};
pub use located::{Located, below};
pub use retry::Retry;

/// The size of a file, in bytes.
pub const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// What a file may say.
pub trait Document: DeserializeOwned + JsonSchema {
    /// Formats of text that its schema names beside those of this crate.
    const FORMATS: &'static [Format] = &[];

    /// Adds what its schema cannot find.
    fn check(_located: &Located, _faults: &mut Vec<Fault>) {}

    /// Reads a text, YAML or JSON.
    ///
    /// # Errors
    /// Every fault that was found, in the order of the text; never an empty list.
    fn parse(text: &str) -> Result<Self, Vec<Fault>> {
        let located = Located::read(text)?;
        let faults = check::check::<Self>(&located);
        if faults.is_empty() {
            return serde_json::from_value(located.value.clone())
                .map_err(|error| vec![located.fault("", error.to_string())]);
        }
        Err(faults)
    }

    /// Reads a file, YAML or JSON.
    ///
    /// # Errors
    /// [`Error::Unreadable`], or [`Error::Faulty`] with every fault that was found.
    fn read(path: &Path) -> Result<Self, Error> {
        let unreadable = |source| Error::Unreadable { path: path.to_owned(), source };
        let size = std::fs::metadata(path).map_err(unreadable)?.len();
        if size > FILE_BYTES_MAX {
            let message = format!("{size} bytes are too many for a definition; {FILE_BYTES_MAX} is the limit");
            return Err(unreadable(std::io::Error::other(message)));
        }
        let text = std::fs::read_to_string(path).map_err(unreadable)?;
        Self::parse(&text).map_err(|faults| Error::Faulty { path: path.to_owned(), faults })
    }

    /// The JSON Schema of the file, for editors. The checks are made with it.
    fn schema() -> Value {
        schemars::schema_for!(Self).to_value()
    }
}

/// JSON Schemas of a capability.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Schemas {
    /// What the input must be; other input fails at once with `invalid_input`. Defaults to anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Value")]
    pub input: Option<Value>,
    /// What the result must be. Defaults to anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Value")]
    pub output: Option<Value>,
}
