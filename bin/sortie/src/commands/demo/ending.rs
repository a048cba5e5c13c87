//! What is shown at the end: the table, the count, and how to see the same from outside.

use std::path::{Path, PathBuf};

use protocol::{Namespace, RequestId, topology::Names};
use serde::Serialize;

use crate::{
    demo::{Audited, Languages, Proof, Share},
    output::Output,
};

/// Files of one trouble that are named.
const NAMED_MAX: usize = 10;

/// What was killed, and what came for it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Loss {
    /// The agent that was killed.
    pub(super) killed: String,
    /// The one that came for it.
    pub(super) joined: String,
    /// The coordinator that was killed.
    pub(super) coordinator_killed: String,
    /// The one that came for it.
    pub(super) coordinator_joined: String,
    /// How many files the run had examined then.
    pub(super) examined_before: usize,
}

/// Everything that was found out: the document of `--json`.
#[derive(Debug, Serialize)]
pub(super) struct Ending {
    /// The folder.
    pub(super) folder: PathBuf,
    /// Where the fleet can be reached, if it stays up.
    pub(super) url: Option<String>,
    /// Whether the count proves it.
    pub(super) holds: bool,
    #[serde(flatten)]
    pub(super) proof: Proof,
    /// The run of the workflow.
    pub(super) audit: Audited,
    #[serde(flatten)]
    pub(super) loss: Loss,
    /// What each agent did.
    pub(super) agents: Vec<Share>,
    #[serde(flatten)]
    pub(super) languages: Languages,
}

impl Ending {
    /// For people.
    pub(super) fn text(&self, output: Output) -> String {
        let mut text = format!("\n{}\n\n", self.languages.table(output));
        let differ = self.languages.checksums_differ.iter().map(|file| file.display().to_string()).collect();
        for (title, lines) in [("did not complete", &self.proof.not_completed), ("written meanwhile", &differ)] {
            for line in lines.iter().take(NAMED_MAX) {
                text += &format!("{title}: {line}\n");
            }
        }
        let shares: Vec<String> =
            self.agents.iter().map(|share| format!("{} {}", share.agent, share.outcomes)).collect();
        let Loss { killed, coordinator_killed, .. } = &self.loss;
        text += &format!("outcomes by agent: {} ({killed} and {coordinator_killed} were killed)\n", shares.join(", "));
        text += &format!("{} of {} checksums agree with sha256sum\n", self.languages.checksums_agree, self.proof.files);
        text += &format!("{}\n", self.audit.line());
        text + &self.proof.line()
    }
}

/// The same from outside, with another tool.
pub(super) fn from_outside(namespace: &Namespace, url: &str, id: &RequestId, folder: &Path, file: &Path) -> String {
    let names = Names::of(namespace);
    let outcome = protocol::Subject::outcome_of(id).render(namespace);
    let input = serde_json::json!({ "path": file });
    let audit = serde_json::json!({ "path": folder, "report": "again.md" });
    let commands = [
        "stream ls".to_owned(),
        format!("stream get {} -S {outcome}", names.outcomes),
        format!("consumer report {}", names.requests),
        "micro list".to_owned(),
        format!("kv ls {}", names.agents),
        format!("pub {namespace}.request.checksum '{input}'"),
        format!("pub {namespace}.start.repo-audit '{audit}'"),
    ];
    let lines = commands.map(|command| format!("  nats -s {url} {command}\n"));
    format!("\nthe same from outside, with the nats command line:\n{}", lines.concat())
}
