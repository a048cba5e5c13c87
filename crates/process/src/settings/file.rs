//! Configuration files: YAML (and so JSON), with every unknown key a fault.

use std::path::Path;

use serde::de::DeserializeOwned;

use super::Faults;

/// Reads a file into plain data. A key that the data does not know is a fault, each one with its path.
///
/// # Errors
/// The file cannot be read, is not what it should be, or says things that nobody will heed.
pub fn load<T: DeserializeOwned>(path: &Path) -> Result<T, Faults> {
    let place = path.display().to_string();
    let text =
        std::fs::read_to_string(path).map_err(|error| Faults::one(&place, format!("cannot be read: {error}")))?;
    parse(&place, &text)
}

/// As [`load`], for text that was read already; `place` is where it came from.
///
/// # Errors
/// As [`load`].
pub fn parse<T: DeserializeOwned>(place: &str, text: &str) -> Result<T, Faults> {
    let mut faults = Faults::new();
    let value = serde_saphyr::with_deserializer_from_str(text, |deserializer| {
        serde_ignored::deserialize(deserializer, |key| {
            faults.add(format!("{place}: {key}"), "is no setting of this file");
        })
    });
    match value {
        Ok(value) => faults.finish(value),
        Err(error) => {
            faults.add(place, error.to_string());
            Err(faults)
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
    use super::*;

    #[derive(Debug, PartialEq, serde::Deserialize)]
    struct Garden {
        trees: Vec<Tree>,
        #[serde(default)]
        area: u32,
    }

    #[derive(Debug, PartialEq, serde::Deserialize)]
    struct Tree {
        name: String,
    }

    #[test]
    fn yaml_and_json_are_read() {
        let garden = Garden { trees: vec![Tree { name: "elm".into() }], area: 3 };
        assert_eq!(parse("f", "area: 3\ntrees:\n  - name: elm\n"), Ok(garden));
        let garden = Garden { trees: vec![], area: 0 };
        assert_eq!(parse("f", r#"{"trees": []}"#), Ok(garden));
    }

    #[test]
    fn every_unknown_key_is_a_fault_with_its_path() {
        let faults = parse::<Garden>("f.yaml", "trees: [{name: elm, hight: 3}]\naera: 3\n").unwrap_err();
        let places: Vec<_> = faults.iter().map(|fault| fault.place.as_str()).collect();
        assert_eq!(places, ["f.yaml: trees.0.hight", "f.yaml: aera"]);
    }

    #[test]
    fn what_is_missing_or_absent_says_where() {
        let faults = parse::<Garden>("f.yaml", "area: 3\n").unwrap_err().to_string();
        assert!(faults.contains("f.yaml") && faults.contains("trees"), "{faults}");
        let faults = load::<Garden>(Path::new("/nowhere/f.yaml")).unwrap_err().to_string();
        assert!(faults.starts_with("/nowhere/f.yaml: cannot be read"), "{faults}");
    }
}
