//! The manifests agree with `crates/ARCHITECTURE.md`.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
};

use serde_json::Value;
use sortie_tests::binaries::workspace;

type Arrows = BTreeMap<String, BTreeSet<String>>;

/// Lines such as ``- `broker` -> protocol. What …``.
fn listed() -> Arrows {
    let text = std::fs::read_to_string(workspace().join("crates/ARCHITECTURE.md")).unwrap();
    let lines = text.lines().filter_map(|line| line.strip_prefix("- `")?.split_once("` -> "));
    let arrow = |(name, rest): (&str, &str)| {
        let targets = rest.split('.').next().unwrap();
        let targets = targets.split(", ").filter(|target| *target != "nothing").map(str::to_owned).collect();
        (name.to_owned(), targets)
    };
    lines.map(arrow).collect()
}

fn in_manifests() -> Arrows {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .current_dir(workspace())
        .output()
        .unwrap();
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo metadata");
    let own = |name: &str| name.strip_prefix("sortie-").unwrap_or(name).to_owned();
    let crates = [
        "bench",
        "protocol",
        "broker",
        "process",
        "client",
        "doctor",
        "worker",
        "coordinator",
        "document",
        "exec",
        "http",
        "embedded",
        "workflow",
    ];
    let short = |name: &str| if crates.contains(&own(name).as_str()) { own(name) } else { name.to_owned() };
    let mut arrows = Arrows::new();
    for package in metadata["packages"].as_array().unwrap() {
        let dependencies = package["dependencies"].as_array().unwrap().iter();
        let ours = dependencies.filter(|dependency| dependency["path"].is_string() && dependency["kind"].is_null());
        let targets = ours.map(|dependency| short(dependency["name"].as_str().unwrap())).collect();
        arrows.insert(short(package["name"].as_str().unwrap()), targets);
    }
    arrows
}

#[test]
fn every_arrow_is_listed() {
    let (listed, found) = (listed(), in_manifests());
    assert_eq!(found.keys().collect::<Vec<_>>(), listed.keys().collect::<Vec<_>>(), "each package has a line");
    for (package, targets) in &found {
        let extra: Vec<_> = targets.difference(&listed[package]).collect();
        assert!(extra.is_empty(), "{package} depends on {extra:?}, which crates/ARCHITECTURE.md does not list");
    }
}

#[test]
fn pure_crates_know_no_io() {
    for package in ["protocol", "workflow"] {
        let manifest = std::fs::read_to_string(workspace().join(format!("crates/{package}/Cargo.toml"))).unwrap();
        for forbidden in ["tokio", "async-nats", "broker"] {
            assert!(!manifest.contains(forbidden), "{package} must not know {forbidden}");
        }
    }
}
