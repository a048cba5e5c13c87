#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
use super::*;

const WORDS: &str = "kind: words\nversion: 1.0.0\ncapabilities: {count-words: {command: [wc, -w], output: text}}\n";

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("words.yaml"), WORDS).unwrap();
    std::fs::write(folder.path().join("broken.yaml"), "kind: Words\ncapabilities: {}\n").unwrap();
    std::fs::write(folder.path().join("worker"), "").unwrap();
    folder
}

fn agents(text: &str) -> Result<Vec<Agents>, Faults> {
    let folder = folder();
    let path = folder.path().join("agents.yaml");
    std::fs::write(&path, text).unwrap();
    read(&path)
}

/// Each fault as `place: message`, the temporary folder left out.
fn faults(text: &str) -> Vec<String> {
    let faults = agents(text).unwrap_err();
    let lines = faults.iter().map(|fault| {
        let at = fault.place.find("agents.yaml").unwrap_or(0);
        let place = fault.place[at..].split(" /").next().unwrap_or_default();
        format!("{place} {}", fault.message)
    });
    lines.collect()
}

#[test]
fn a_whole_file() {
    let read = agents(
        "agents:\n- {kind: words, run: exec, file: words.yaml, count: 2, slots: 4, env: {LANG: C, DEPTH: 3}}\n\
         - {kind: files, run: files}\n- {kind: mine, run: ./worker, args: [-v, 2]}\n- {kind: py, run: python3}\n",
    )
    .unwrap();
    let runs: Vec<_> = read.iter().map(|agents| (agents.kind.as_str(), agents.count, agents.slots)).collect();
    assert_eq!(runs, [("words", 2, Some(4)), ("files", 1, None), ("mine", 1, None), ("py", 1, None)]);
    assert_eq!(read[0].run, Run::Exec(read[0].directory.join("words.yaml")));
    assert_eq!(read[0].env, BTreeMap::from([("DEPTH".into(), "3".into()), ("LANG".into(), "C".into())]));
    assert_eq!(read[2].run, Run::Program(read[2].directory.join("./worker"), vec!["-v".into(), "2".into()]));
    assert_eq!(read[3].run, Run::Program("python3".into(), Vec::new()));
}

#[test]
fn every_fault_is_told_at_once() {
    let text = "agnets: []\nagents:\n- {kind: Words, run: exec, slotts: 3, count: 0}\n\
                - {run: files, file: x.yaml, slots: 2000, env: [LANG]}\n- {kind: a, run: ./gone, args: 3}\n\
                - {kind: b, run: exec, file: broken.yaml}\n- {kind: b, run: exec, file: gone.yaml}\n- words\n\
                - {kind: c, run: files}\n- {kind: c, run: true}\n";
    let told = faults(text);
    let expected = [
        ("agents.yaml: agnets", "is no setting of this file"),
        ("agents.yaml: agents.0.slotts", "is no setting of an agent"),
        ("agents.yaml: agents.0.kind", "`Words` is not a valid kind"),
        ("agents.yaml: agents.0.file", "is missing"),
        ("agents.yaml: agents.0.count", "is 0; 1 to 100 are allowed"),
        ("agents.yaml: agents.1.kind", "is missing"),
        ("agents.yaml: agents.1.file", "is for `run: exec` and"),
        ("agents.yaml: agents.1.slots", "is 2000; 1 to 1000 are allowed"),
        ("agents.yaml: agents.1.env", "is not a mapping"),
        ("agents.yaml: agents.2.args", "is not a list of texts"),
        ("agents.yaml: agents.2.run", "there is no program at"),
        ("agents.yaml: agents.3.file:", "kind: `Words` is not a kind"),
        ("agents.yaml: agents.3.file:", "`version` is missing"),
        ("agents.yaml: agents.3.file:", "capabilities"),
        ("agents.yaml: agents.4.file", "cannot be read"),
        ("agents.yaml: agents.5", "is not a mapping"),
        ("agents.yaml: agents.7.run", "is not a text"),
    ];
    for (place, message) in expected {
        assert!(
            told.iter().any(|told| told.starts_with(place) && told.contains(message)),
            "{place} {message}: {told:#?}"
        );
    }
    assert_eq!(told.len(), expected.len(), "{told:#?}");
}

#[test]
fn what_is_no_list_of_agents_says_what_one_looks_like() {
    for text in ["", "agents: {words: 1}\n", "[]\n"] {
        assert!(faults(text).iter().any(|fault| fault.contains("agents: [{kind: words")), "{text:?}");
    }
    assert!(faults("agents: [{kind: a, run: files}, {kind: a, run: files}]")[0].contains("twice"));
}
