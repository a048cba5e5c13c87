//! `sortie demo`: the count holds though an agent dies, and nothing is left behind.

use std::{fs, path::Path};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::running::{Running, children, gone};

/// So many that something is killed while there is much to do; and two that are not like the others.
const CODES: usize = 600;
const FILES: usize = CODES + 2;

/// Some files in two languages, and a folder for what is temporary.
fn folders() -> (tempfile::TempDir, tempfile::TempDir) {
    let files = tempfile::tempdir().unwrap();
    for number in 0..CODES {
        fs::write(files.path().join(format!("code {number}.rs")), "fn fleet() {}\n".repeat(number % 60)).unwrap();
    }
    fs::create_dir(files.path().join("-texts")).unwrap();
    fs::write(files.path().join("-texts/übung.md"), "# Übung\nkey: AKIAIOSFODNN7EXAMPLE\n").unwrap();
    fs::write(files.path().join(".hidden.md"), "").unwrap();
    (files, tempfile::tempdir().unwrap())
}

fn demo(files: &Path, temporary: &Path, more: &[&str]) -> Running {
    let (files, report) = (files.display().to_string(), temporary.join("audit.md").display().to_string());
    let arguments = [&["demo", &files, "--json", "--report", &report], more].concat();
    Running::start_in(&arguments, &[("TMPDIR", &temporary.display().to_string())])
}

/// What lies in the folder for temporary files; the locks of ports belong to all servers of a user.
fn left_behind(temporary: &Path) -> Vec<String> {
    let names = fs::read_dir(temporary).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| !name.starts_with("sortie-ports-") && name != "audit.md").collect()
}

#[tokio::test]
async fn every_file_is_audited_though_an_agent_and_the_coordinator_are_killed() {
    let (files, temporary) = folders();
    let mut running = demo(files.path(), temporary.path(), &["--keep"]);
    let told: Value = serde_json::from_str(&running.line().await).unwrap();
    assert_eq!(told["holds"], true, "{told}");
    for (key, count) in
        [("files", FILES), ("requests", 2 * FILES), ("completed", 2 * FILES), ("outcomes", 2 * FILES), ("queued", 0)]
    {
        assert_eq!(told[key], count, "{key} of {told}");
    }
    assert_eq!((&told["killed"], &told["joined"]), (&"files.1".into(), &"files.2".into()));
    assert_eq!(
        (&told["coordinator_killed"], &told["coordinator_joined"]),
        (&"coordinator".into(), &"coordinator.2".into())
    );
    assert!(told["examined_before"].as_u64().unwrap() < FILES as u64, "killed on the way: {told}");
    let audit = &told["audit"];
    assert_eq!((&audit["status"], &audit["secrets"]), (&"completed".into(), &1.into()), "{audit}");
    assert_eq!(audit["approved"], true, "there is no terminal to ask on: {audit}");
    let report = fs::read_to_string(audit["report"].as_str().unwrap()).unwrap();
    assert!(report.contains(&format!("{FILES} files were examined.\n")), "{report}");
    assert!(report.contains("| `-texts/übung.md` | 2 | AWS access key |"), "{report}");
    assert_eq!((&told["checksums_agree"], &told["dead"]), (&FILES.into(), &0.into()));
    let languages: Vec<_> = told["languages"].as_array().unwrap().iter().map(|one| one["language"].clone()).collect();
    assert_eq!(languages, ["rust", "markdown"]);

    // The fleet is still up, and can be asked by anybody.
    let url = told["url"].as_str().unwrap().to_owned();
    let list = crate::command::sortie(&url, &["agents", "list", "--capability", "checksum"]).await;
    assert!(list.code == 0 && list.out.contains("checks"), "{list:?}");
    let started = children(running.pid());
    assert_eq!(started.len(), 4, "server, coordinator, and two agents of three");
    running.signal(Signal::SIGINT);
    let (code, said) = running.end().await;
    assert_eq!(code, Some(0), "{said:?}");
    gone(&started).await;
    assert_eq!(left_behind(temporary.path()), Vec::<String>::new());
}

#[tokio::test]
async fn interrupted_it_leaves_nothing_running() {
    let (files, temporary) = folders();
    let running = demo(files.path(), temporary.path(), &[]);
    let started = crate::running::until_children(running.pid(), 4).await;
    running.signal(Signal::SIGINT);
    assert_eq!(running.end().await.0, Some(130));
    gone(&started).await;
    assert_eq!(left_behind(temporary.path()), Vec::<String>::new());
}

#[tokio::test]
async fn without_files_it_says_so() {
    let (empty, temporary) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (code, said) = demo(empty.path(), temporary.path(), &[]).end().await;
    assert!(code == Some(64) && said.join("\n").contains("no file below"), "{said:?}");
    fs::write(temporary.path().join("audit.md"), "# Mine\n").unwrap();
    let (code, said) = demo(empty.path(), temporary.path(), &[]).end().await;
    assert!(code == Some(64) && said.join("\n").contains("is no report"), "{said:?}");
    fs::remove_file(temporary.path().join("audit.md")).unwrap();
    let (code, said) = demo(Path::new("/nowhere"), temporary.path(), &[]).end().await;
    assert!(code == Some(64) && said.join("\n").contains("/nowhere"), "{said:?}");
}
