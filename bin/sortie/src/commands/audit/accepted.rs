//! Of all that was accepted.

use std::path::Path;

use client::{Fault, Proof, Sight};
use process::{ExitCode, Problem};
use protocol::{
    accepted::{Accepted, Asked},
    time,
};
use serde_json::{Value, json};

use crate::{meter::Meter, output::Output, refusal, session::Session};

/// Faults that people are shown one by one.
const SHOWN_MAX: u64 = 100;

pub(super) async fn prove(file: &Path, session: &Session) -> Result<ExitCode, Problem> {
    let client = session.client().await?;
    let meter = Meter::new("auditing", None);
    let mut list = List { output: session.output(), told: 0, broken: None };
    let mut watch = |sight: Sight<'_>| match sight {
        Sight::Looked { lines, suspects } => {
            meter.at(usize::try_from(lines).unwrap_or(0), format!("{suspects} to be looked for"))
        }
        Sight::Swept { through, last } => meter.tell(format!("reading the queues: {through} of {last}")),
        Sight::Fault(fault) => list.add(fault),
    };
    let proof = client.prove(file, &mut watch).await;
    drop(meter);
    let proof = proof.map_err(refusal::problem)?;
    list.end(&proof)?;
    Ok(exit_code(&proof))
}

fn exit_code(proof: &Proof) -> ExitCode {
    let faults = proof.faults;
    match (proof.holds(), faults.lost + faults.twice + faults.unburied) {
        (true, _) => ExitCode::Done,
        (false, 0) => ExitCode::Again,
        (false, _) => ExitCode::WorkFailed,
    }
}

/// Writes faults as they come: there may be more than memory should hold.
struct List {
    output: Output,
    told: u64,
    broken: Option<Problem>,
}

impl List {
    fn add(&mut self, fault: &Fault) {
        self.told += 1;
        let text = match self.output.is_json() {
            true => {
                let begin = if self.told == 1 { "{\"faults\":[" } else { "," };
                format!("{begin}{}", json!(fault))
            }
            false if self.told <= SHOWN_MAX => line(fault),
            false => return,
        };
        if self.broken.is_none() {
            self.broken = self.output.bytes(text.as_bytes()).err();
        }
    }

    fn end(self, proof: &Proof) -> Result<(), Problem> {
        if let Some(problem) = self.broken {
            return Err(problem);
        }
        if self.output.is_json() {
            let begin = if self.told == 0 { "{\"faults\":[" } else { "" };
            return self.output.text(&format!("{begin}],{}", rest(proof)));
        }
        self.output.text(&summary(proof, self.told))
    }
}

/// The document from behind its list of faults on.
fn rest(proof: &Proof) -> String {
    let mut document = json!({ "proved": proof.holds() });
    if let (Value::Object(document), Value::Object(mut more)) = (&mut document, json!(proof)) {
        let counts = more.remove("faults").unwrap_or_default();
        document.insert("counts".to_owned(), counts);
        document.extend(more);
    }
    document.to_string().split_off(1)
}

fn line(fault: &Fault) -> String {
    let of = |accepted: &Accepted| {
        let what = match &accepted.asked {
            Asked::Request(capability) => format!("request for {capability}"),
            Asked::Start(workflow) => format!("run of {workflow}"),
        };
        let stored = accepted.sequence.map(|sequence| format!(", {} {sequence}", accepted.stream)).unwrap_or_default();
        format!("{} ({what}, accepted {}{stored})", accepted.id, time::format(accepted.at))
    };
    match fault {
        Fault::Lost { accepted } => format!("LOST {}\n", of(accepted)),
        Fault::Twice { id, outcomes } => format!("TWICE {id} has {outcomes} outcomes\n"),
        Fault::Unburied { accepted } => format!("UNBURIED {} failed and has no dead letter\n", of(accepted)),
        Fault::Undecided { accepted } => format!("UNDECIDED {}\n", of(accepted)),
    }
}

fn summary(proof: &Proof, told: u64) -> String {
    let mut text = String::new();
    if told > SHOWN_MAX {
        text += &format!("and {} more: --json names all\n", told - SHOWN_MAX);
    }
    let found = &proof.found;
    let places = [
        (found.completed, "completed"),
        (found.failed, "failed"),
        (found.expired, "expired"),
        (found.cancelled, "cancelled"),
        (found.dead, "dead, with their letters"),
        (found.dropped, "dead, their letters dropped since"),
        (found.scheduled, "scheduled"),
        (found.waiting, "waiting"),
        (found.running, "running"),
        (found.runs, "runs under way"),
        (found.too_old, "too old to tell: accepted longer ago than outcomes are kept"),
    ];
    text += &format!("{} accepted\n", proof.accepted);
    text.extend(places.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("  {count:>9} {what}\n")));
    if proof.again > 0 {
        text += &format!("  {:>9} named once more\n", proof.again);
    }
    if proof.torn > 0 {
        text += &format!("note: {} torn: whoever wrote them was killed within them\n", counted(proof.torn, "line"));
    }
    let faults = proof.faults;
    let kinds = [
        (faults.lost, "lost: no outcome, not queued, scheduled, running or dead"),
        (faults.twice, "with more than one outcome"),
        (faults.unburied, "failed without a dead letter"),
        (faults.undecided, "not met while more came than could be read: look again"),
    ];
    text.extend(kinds.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}\n")));
    text + if proof.holds() { "proved: nothing is lost, and nothing is there twice\n" } else { "not proved\n" }
}

fn counted(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use client::{Faults, Tally};

    use super::*;

    fn proof(faults: Faults) -> Proof {
        Proof { accepted: 3, again: 0, torn: 1, found: Tally { completed: 2, ..Tally::default() }, faults }
    }

    #[test]
    fn exit_codes() {
        for (faults, code) in [
            (Faults::default(), ExitCode::Done),
            (Faults { undecided: 1, ..Faults::default() }, ExitCode::Again),
            (Faults { lost: 1, undecided: 1, ..Faults::default() }, ExitCode::WorkFailed),
            (Faults { twice: 1, ..Faults::default() }, ExitCode::WorkFailed),
            (Faults { unburied: 1, ..Faults::default() }, ExitCode::WorkFailed),
        ] {
            assert_eq!(exit_code(&proof(faults)), code, "{faults:?}");
        }
    }

    #[test]
    fn what_is_told_is_short_and_what_is_written_is_one_document() {
        let lost = proof(Faults { lost: 101, ..Faults::default() });
        let text = summary(&lost, 101);
        assert!(text.starts_with("and 1 more: --json names all\n3 accepted\n          2 completed\n"), "{text}");
        assert!(
            text.contains("1 line torn")
                && text.ends_with("101 lost: no outcome, not queued, scheduled, running or dead\nnot proved\n"),
            "{text}"
        );
        let document: Value = serde_json::from_str(&format!("{{\"faults\":[],{}", rest(&lost))).unwrap();
        assert_eq!((&document["proved"], &document["counts"]["lost"]), (&json!(false), &json!(101)));
        assert_eq!((&document["accepted"], &document["found"]["completed"]), (&json!(3), &json!(2)));
    }
}
