//! Agent files: commands and HTTP calls as YAML or JSON.

use std::fmt::Debug;

use serde::Serialize;

use crate::text_of;

/// Feeds an agent file: faults have a place in the text, and what passes is written in a way that reads as the same. Where there
/// are millions, each is read as one of the two kinds.
pub fn agents(data: &[u8]) {
    let text = text_of(data);
    let (is_both, is_even) = (!cfg!(feature = "libfuzzer"), text.len().is_multiple_of(2));
    if is_both || is_even {
        file(&text, exec::Definition::parse, |fault| fault.line);
    }
    if is_both || !is_even {
        file(&text, http_agent::Definition::parse, |fault| fault.line);
    }
}

fn file<T, F>(text: &str, parse: impl Fn(&str) -> Result<T, Vec<F>>, line: impl Fn(&F) -> u64)
where
    T: Serialize + PartialEq + Debug,
    F: PartialEq + Debug,
{
    let lines = text.matches(['\n', '\r']).count() as u64 + 1;
    match parse(text) {
        Ok(definition) => {
            let written = serde_json::to_string(&definition).expect("a definition can be written");
            assert_eq!(parse(&written), Ok(definition));
        }
        Err(faults) => {
            assert!(!faults.is_empty(), "a file is refused and nobody says why");
            assert!(faults.iter().all(|fault| line(fault) <= lines), "{faults:?}");
        }
    }
}
