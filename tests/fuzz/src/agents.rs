//! Agent files: commands and HTTP calls as YAML or JSON.

use crate::text_of;

/// Feeds an agent file: faults have a place in the text, and what passes is written in a way that reads as the same.
pub fn agents(data: &[u8]) {
    let text = text_of(data);
    let lines = text.matches(['\n', '\r']).count() as u64 + 1;
    match exec::Definition::parse(&text) {
        Ok(definition) => {
            let written = serde_json::to_string(&definition).expect("a definition can be written");
            assert_eq!(exec::Definition::parse(&written), Ok(definition));
        }
        Err(faults) => {
            assert!(!faults.is_empty(), "a file is refused and nobody says why");
            assert!(faults.iter().all(|fault| fault.line <= lines), "{faults:?}");
        }
    }
    match http_agent::Definition::parse(&text) {
        Ok(definition) => {
            let written = serde_json::to_string(&definition).expect("a definition can be written");
            assert_eq!(http_agent::Definition::parse(&written), Ok(definition));
        }
        Err(faults) => {
            assert!(!faults.is_empty(), "a file is refused and nobody says why");
            assert!(faults.iter().all(|fault| fault.line <= lines), "{faults:?}");
        }
    }
}
