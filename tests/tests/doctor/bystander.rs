//! A person who has nothing but `sortie`.

use std::{
    process::{Output, Stdio},
    time::Duration,
};

use anyhow::Result;
use protocol::{
    InstanceId, Kind,
    registry::{AgentEntry, CapabilityEntry, Counts, Health, State},
    time,
};
use serde_json::Value;
use sortie_tests::{Fleet, binaries, fleet::capability, until};
use tokio::process::{Child, Command};

/// How long a fact is waited for: an ack deadline, two looks of a coordinator, and a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// What one run of the doctor found.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) code: i32,
    pub(crate) report: Value,
}

impl Told {
    /// What a check found that is not well.
    pub(crate) fn of(&self, check: &str) -> Vec<Value> {
        let findings = self.report["findings"].as_array().expect("findings").iter();
        let is_it = |finding: &&Value| finding["check"] == check && finding["severity"] != "ok";
        findings.filter(is_it).cloned().collect()
    }

    /// Every check that found something, with how bad it is.
    pub(crate) fn unwell(&self) -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let findings = self.report["findings"].as_array().expect("findings").iter();
        let unwell = findings.filter(|finding| finding["severity"] != "ok");
        unwell.map(|finding| (text(&finding["check"]), text(&finding["severity"]))).collect()
    }
}

fn command(fleet: &Fleet, arguments: &[&str]) -> Command {
    let mut command = Command::new(binaries::path("sortie"));
    command.args(["--server", &fleet.url()]).args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// Runs `sortie` to its end.
pub(crate) async fn sortie(fleet: &Fleet, arguments: &[&str]) -> Output {
    let run = command(fleet, arguments).output();
    tokio::time::timeout(PATIENCE, run).await.expect("it ends").expect("it runs")
}

/// Starts `sortie` as something that goes on until this is dropped.
pub(crate) fn start(fleet: &Fleet, arguments: &[&str]) -> Child {
    command(fleet, arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it runs")
}

/// Runs the doctor.
pub(crate) async fn doctor(fleet: &Fleet) -> Told {
    told(&sortie(fleet, &["doctor", "--json"]).await)
}

/// Reads what the doctor wrote, and that its exit code agrees.
pub(crate) fn told(output: &Output) -> Told {
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    let code = output.status.code().expect("a code");
    let has_error = report["counts"]["error"] != 0;
    assert_eq!((code, report["healthy"].as_bool()), (i32::from(has_error), Some(!has_error)), "{report}");
    Told { code, report }
}

/// Waits until a check finds something, and gives that.
pub(crate) async fn found(fleet: &Fleet, check: &str) -> Value {
    // Building it, where it is not built, is no part of the wait.
    binaries::path("sortie");
    let what = format!("the doctor finds {check}");
    until(&what, PATIENCE, || async { doctor(fleet).await.of(check).into_iter().next() }).await
}

/// Waits until a check finds nothing any more.
pub(crate) async fn gone(fleet: &Fleet, check: &str) {
    let what = format!("the doctor no longer finds {check}");
    until(&what, PATIENCE, || async { doctor(fleet).await.of(check).is_empty().then_some(()) }).await;
}

/// What `sortie why` answers, in one word.
pub(crate) async fn why(fleet: &Fleet, request: &str) -> String {
    let output = sortie(fleet, &["why", request, "--json"]).await;
    let why: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    why["answer"]["why"].as_str().expect("an answer").to_owned()
}

/// What a finding says.
pub(crate) fn seen(finding: &Value) -> &str {
    finding["seen"].as_str().expect("what was seen")
}

/// The words of the command that a finding names.
pub(crate) fn remedy(finding: &Value) -> Vec<&str> {
    let mut words = finding["command"].as_str().unwrap_or_else(|| panic!("a command in {finding}")).split(' ');
    assert_eq!(words.next(), Some("sortie"), "{finding}");
    words.collect()
}

/// Does what a finding says, to its end.
pub(crate) async fn repair(fleet: &Fleet, finding: &Value) -> Result<()> {
    let output = sortie(fleet, &remedy(finding)).await;
    anyhow::ensure!(output.status.success(), "{finding}: {output:?}");
    Ok(())
}

/// An agent as the registry has one that never was.
pub(crate) fn entry(serves: &str) -> AgentEntry {
    let served = CapabilityEntry {
        name: capability(serves),
        description: Some("Paints a wall in the colour that the order names".to_owned()),
        input_schema: Some("0123456789abcdef".repeat(4)),
        output_schema: Some("0123456789abcdef".repeat(4)),
        slots: None,
    };
    AgentEntry {
        instance: InstanceId::generate(),
        kind: Kind::parse("painter").unwrap(),
        version: "1.2.3".to_owned(),
        host: "nowhere".to_owned(),
        pid: 1,
        state: State::Ready,
        health: Health::Healthy,
        health_reason: None,
        capabilities: vec![served],
        slots: 10,
        slots_busy: 0,
        counts: Counts::default(),
        started_at: time::now(),
        seen_at: time::now(),
        tags: [("region".to_owned(), "eu-1".to_owned())].into(),
    }
}
