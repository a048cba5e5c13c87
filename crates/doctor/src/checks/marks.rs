//! Dead letters that do not say what became of them: they cannot be read, their request ended otherwise, or they were sent
//! again and nothing marks that, so that somebody would send them once more.

use std::collections::BTreeMap;

use broker::StoredMessage;
use protocol::{DeadLetter, Outcome, RequestId, Status, Subject, replay, subject::filter};

use super::Found;
use crate::{
    Patient,
    finding::Finding,
    patient::{Fact, Unknown},
};

/// Letters that one read asks for, and that are read at all where not everything is.
const PAGE: usize = 256;
const LETTERS_MAX: usize = 500;

/// Findings after which no more are looked for.
const FOUND_MAX: usize = 100;

pub(super) async fn marks(patient: &Patient) -> Found {
    let (stream, letters) = (&patient.names().dead, filter::dead(patient.namespace(), None));
    let (mut findings, mut read, mut from) = (Vec::new(), 0, Some(1));
    while let Some(sequence) = from
        && read < patient.read_max(LETTERS_MAX)
        && findings.len() < FOUND_MAX
    {
        let page = patient.reader().page(stream, &letters, sequence, PAGE).await?;
        read += page.messages.len();
        from = page.next;
        findings.extend(judged(patient, &page.messages).await?);
    }
    Ok(findings)
}

async fn judged(patient: &Patient, messages: &[StoredMessage]) -> Fact<Vec<Finding>> {
    let mut findings = Vec::new();
    let mut ids = Vec::new();
    for message in messages {
        match DeadLetter::read(&message.headers) {
            Some(letter) => ids.push(letter.id),
            None => findings.push(unreadable(&patient.names().dead, message)),
        }
    }
    // The first replay of a letter has an id that follows from it. An outcome that is gone for its age says nothing.
    let replays: Vec<RequestId> = ids.iter().map(|id| replay::replay_id(id, 1, None)).collect();
    let ended = outcomes(patient, ids.iter().chain(&replays)).await?;
    for (id, replay) in ids.iter().zip(&replays) {
        if let Some(status) = ended.get(id).filter(|status| **status != Status::Failed) {
            findings.push(
                Finding::error(format!("request {id} has a dead letter, and the outcome {status}"))
                    .about(id)
                    .remedy("its outcome counts: drop the letter, once you know who wrote it")
                    .command(format!("sortie dead show {id}")),
            );
        }
        if ended.contains_key(replay) && !is_marked(patient, id).await? {
            findings.push(
                Finding::error(format!("the dead letter of {id} was sent again as {replay}, and nothing marks it"))
                    .about(id)
                    .remedy("replay it: it is the same request, which is not done twice, and is marked then")
                    .command(format!("sortie dead replay {id}")),
            );
        }
    }
    Ok(findings)
}

async fn outcomes<'a>(
    patient: &Patient,
    ids: impl Iterator<Item = &'a RequestId>,
) -> Fact<BTreeMap<RequestId, Status>> {
    let subjects: Vec<String> = ids.map(|id| Subject::outcome_of(id).render(patient.namespace())).collect();
    let mut ended = BTreeMap::new();
    let mut each = |message: StoredMessage| {
        if let Some(Subject::Outcome(id)) = Subject::parse(patient.namespace(), &message.subject) {
            let status = Outcome::read(id.clone(), &message.headers, &[]).status;
            ended.insert(id, status);
        }
    };
    patient.reader().each_last(&patient.names().outcomes, &subjects, &mut each).await?;
    Ok(ended)
}

/// By the leader's word: a replica may not have the mark yet.
async fn is_marked(patient: &Patient, id: &RequestId) -> Fact<bool> {
    let marks = filter::replayed_of(patient.namespace(), id);
    patient.reader().has(&patient.names().dead, &marks).await.map_err(Unknown::from)
}

fn unreadable(stream: &str, message: &StoredMessage) -> Finding {
    Finding::error(format!("the dead letter at {} tells no story that can be read", message.subject))
        .about(&message.subject)
        .remedy("look at it with the `nats` command line: whoever wrote it is no agent of ours")
        .command(format!("nats stream get {stream} {}", message.sequence))
}
