//! `sortie bench`: every workload measures what it says, leaves nothing behind, and two reports can be compared.

use std::{fs, path::Path};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::{
    command::{Ended, sortie},
    running::{Running, children, gone, until_children},
};

async fn bench(temporary: &Path, arguments: &[&str]) -> Value {
    let arguments = [&["bench"], arguments, &["--json", "--rounds", "1"]].concat();
    let mut running = Running::start_in(&arguments, &[("TMPDIR", &temporary.display().to_string())]);
    let line = running.line().await;
    let started = children(running.pid());
    let (code, said) = running.end().await;
    assert_eq!(code, Some(0), "{arguments:?}: {said:?}");
    gone(&started).await;
    serde_json::from_str(&line).unwrap()
}

fn figure(report: &Value, side: &str, figure: &str) -> f64 {
    report["rounds"][0][side][figure].as_f64().unwrap()
}

#[tokio::test]
async fn every_workload_does_all_of_its_operations_on_both_sides() {
    let temporary = tempfile::tempdir().unwrap();
    let workloads: [(&[&str], f64); 6] = [
        (&["requests", "--number", "300", "--in-flight", "20", "--capabilities", "3"], 300.0),
        (&["latency", "--number", "30"], 30.0),
        (&["open", "--rate", "100", "--for", "1s"], 100.0),
        (&["runs", "--number", "20", "--steps", "2", "--in-flight", "5"], 20.0),
        (&["fanout", "--number", "2", "--items", "20"], 2.0),
        (&["timers", "--number", "50"], 50.0),
    ];
    for (arguments, operations) in workloads {
        let report = bench(temporary.path(), arguments).await;
        for side in ["sortie", "yardstick"] {
            assert_eq!(figure(&report, side, "operations"), operations, "{side}: {report}");
            assert!(figure(&report, side, "rate") > 0.0, "{side}: {report}");
        }
        assert!(report["ratio"].as_f64().unwrap() > 0.0, "{report}");
        let is_of_steps = report["figures"]["step_to_step_p50_us"].as_f64().is_some_and(|us| us > 0.0);
        assert_eq!(is_of_steps, arguments[0] == "runs", "{report}");
        let names: Vec<_> = report["resources"].as_array().unwrap().iter().map(|used| used["name"].clone()).collect();
        assert_eq!(names, ["bench.1", "client", "coordinator", "nats-server"], "{report}");
        assert!(report["resources"][3]["resident_bytes"].as_u64().unwrap() > 1_000_000, "{report}");
    }
}

#[tokio::test]
async fn backlogs_and_sleepers_are_measured_to_their_end() {
    let temporary = tempfile::tempdir().unwrap();
    let report = bench(temporary.path(), &["backlog", "--number", "2000"]).await;
    assert!(figure(&report, "sortie", "operations") > 0.0 && report["ratio"].as_f64().unwrap() > 0.0, "{report}");
    let report = bench(temporary.path(), &["sleepers", "--number", "200"]).await;
    assert_eq!(figure(&report, "sortie", "operations"), 200.0);
    assert!(report["figures"]["coordinator_bytes_per_sleeping_run"].as_f64().is_some(), "{report}");
}

#[tokio::test]
async fn what_is_slower_by_more_than_a_tenth_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (before, after) = (path("before.json"), path("after.json"));
    bench(folder.path(), &["latency", "--number", "20", "--out", &before]).await;
    let mut report: Value = serde_json::from_str(&fs::read_to_string(&before).unwrap()).unwrap();
    report["ratio"] = (report["ratio"].as_f64().unwrap() * 2.0).into();
    fs::write(&after, report.to_string()).unwrap();
    let compare = async |first: &str, second: &str| -> Ended {
        sortie("nats://127.0.0.1:1", &["bench", "compare", first, second]).await
    };
    let same = compare(&before, &before).await;
    assert_eq!((same.code, same.out.contains("worse")), (0, false), "{same:?}");
    let worse = compare(&before, &after).await;
    assert_eq!(worse.code, 1);
    assert!(worse.out.lines().any(|line| line.starts_with("ratio") && line.contains("worse")), "{worse:?}");
    report["parameters"]["number"] = 21.into();
    fs::write(&after, report.to_string()).unwrap();
    let other = compare(&before, &after).await;
    assert!(other.code == 2 && other.err.contains("number"), "{other:?}");
    let nothing = compare(&before, "/nowhere.json").await;
    assert!(nothing.code == 2 && nothing.err.contains("--out"), "{nothing:?}");
}

#[tokio::test]
async fn interrupted_it_leaves_nothing_running() {
    let temporary = tempfile::tempdir().unwrap();
    let env = [("TMPDIR", temporary.path().display().to_string())];
    let env: Vec<(&str, &str)> = env.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let running = Running::start_in(&["bench", "open", "--for", "10m"], &env);
    let started = until_children(running.pid(), 3).await;
    running.signal(Signal::SIGINT);
    assert_eq!(running.end().await.0, Some(130));
    gone(&started).await;
}

#[tokio::test]
async fn a_server_is_named_for_a_fleet_that_runs_only() {
    let told = sortie("nats://127.0.0.1:1", &["bench", "latency"]).await;
    assert!(told.code == 2 && told.err.contains("--fleet"), "{told:?}");
}
