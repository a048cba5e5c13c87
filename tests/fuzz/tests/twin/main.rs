//! The targets of cargo-fuzz without cargo-fuzz: seeds, then a bounded number of changed seeds, in every `cargo test`.
//!
//! Random bytes would never get past the first of them, so inputs are seeds and examples of the project with a few changes,
//! made to their bytes, to their words, or to their tree where they are documents. `PROPTEST_CASES` multiplies by its 256th
//! part how many there are. What once broke a promise lies in `seeds/` and is fed each time.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod change;
mod tree;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use serde_json::Value;
use sortie_fuzz::{Form, TARGETS, Target};

use change::Change;

/// No input takes longer, in time of the processor: the machine may have much else to do.
const LONGEST: Duration = Duration::from_secs(5);

/// What a process that has read all of it takes at most, in bytes of resident memory.
const RESIDENT_BYTES_MAX: u64 = 1024 * 1024 * 1024;

macro_rules! twins {
    ($($name:ident: $cases:literal,)*) => {
        $(#[test]
        fn $name() {
            run(stringify!($name), $cases);
        })*

        #[test]
        fn every_target_has_a_twin() {
            let twins = [$(stringify!($name)),*];
            assert_eq!(TARGETS.iter().map(|target| target.name).collect::<Vec<_>>(), twins);
        }
    };
}

// As many as take about a second of a debug build.
twins! {
    subjects: 60,
    words: 20,
    headers: 1_000,
    codec: 2_000,
    documents: 300,
    control: 300,
    policies: 400,
    workflow: 100,
    cel: 60,
    log: 100,
    agents: 60,
}

fn run(name: &str, cases: u32) {
    let target = TARGETS.iter().copied().find(|target| target.name == name).expect("a target");
    let seeds = seeds(&target);
    assert!(!seeds.is_empty(), "{name} has nothing to begin from");
    for (path, seed) in &seeds {
        timed(&target, seed, &path.display().to_string());
    }
    let seeds: Vec<Vec<u8>> = seeds.into_iter().map(|(_, seed)| seed).collect();
    let usual = Config::default();
    let cases = u64::from(cases) * u64::from(usual.cases) / 256;
    let config = Config { cases: u32::try_from(cases).unwrap_or(u32::MAX), failure_persistence: None, ..usual };
    let changes = proptest::collection::vec(any::<Change>(), 1..6);
    let input = (any::<prop::sample::Index>(), changes, any::<bool>());
    let result = TestRunner::new(config).run(&input, |(seed, changes, as_tree)| {
        let input = changed(&target, &seeds[seed.index(seeds.len())], &seeds, &changes, as_tree);
        timed(&target, &input, &String::from_utf8_lossy(&input));
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}\nWrite what broke the promise into tests/fuzz/seeds/{name}/, so that it is fed each time.");
    }
    let resident = resident_bytes();
    assert!(resident < RESIDENT_BYTES_MAX, "{resident} bytes are resident");
}

fn timed(target: &Target, input: &[u8], shown: &str) {
    let begun = processor_time();
    (target.feed)(input);
    let took = processor_time() - begun;
    assert!(took < LONGEST, "{took:?} for {shown}");
}

fn changed(target: &Target, seed: &[u8], seeds: &[Vec<u8>], changes: &[Change], as_tree: bool) -> Vec<u8> {
    let text = String::from_utf8_lossy(seed);
    if as_tree
        && target.form == Form::Document
        && let Ok(value) = serde_saphyr::from_str::<Value>(&text)
    {
        return tree::changed(value, changes).to_string().into_bytes();
    }
    if as_tree
        && target.form == Form::Expression
        && let Some((source, data)) = text.split_once("\n---\n")
    {
        let data = serde_json::from_str(data).unwrap_or(Value::Null);
        return format!("{source}\n---\n{}", tree::changed(data, changes)).into_bytes();
    }
    if as_tree && target.form == Form::Messages {
        return change::messages(seed, changes);
    }
    change::bytes(seed, seeds, changes)
}

/// The target's own seeds, and the examples of the project.
fn seeds(target: &Target) -> Vec<(PathBuf, Vec<u8>)> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let own = files(&here.join("seeds").join(target.name), "");
    let examples = target.examples.iter().flat_map(|(folder, end)| files(&here.join("../..").join(folder), end));
    own.into_iter().chain(examples).collect()
}

fn files(folder: &Path, end: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.is_file() && path.to_string_lossy().ends_with(end));
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), fs::read(&path).unwrap())).collect()
}

/// What this thread has used; nothing where the system does not tell.
fn processor_time() -> Duration {
    let told = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    Duration::from_nanos(told.split(' ').next().and_then(|nanos| nanos.parse().ok()).unwrap_or(0))
}

fn resident_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    peak.unwrap_or(0) * 1024
}

/// A seed that nothing reads would be no seed: those that are called like a schema are what it says.
#[test]
fn documents_to_begin_from_are_what_they_are_called() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut checked = 0;
    for folder in ["documents", "control", "policies"] {
        for (path, seed) in files(&here.join("seeds").join(folder), ".json") {
            let name = path.file_stem().unwrap().to_string_lossy().trim_end_matches(['-', '2', '3']).to_owned();
            let Ok(schema) = fs::read(here.join("../../schemas").join(format!("{name}.json"))) else { continue };
            let schema: Value = serde_json::from_slice(&schema).unwrap();
            let Ok(document) = serde_json::from_slice::<Value>(&seed) else { continue };
            let faults: Vec<String> = jsonschema::validator_for(&schema)
                .unwrap()
                .iter_errors(&document)
                .map(|error| error.to_string())
                .collect();
            assert!(faults.is_empty(), "{}: {faults:?}", path.display());
            checked += 1;
        }
    }
    assert!(checked > 25, "{checked}");
}
