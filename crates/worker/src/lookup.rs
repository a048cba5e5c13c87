//! Looking whether outcomes are there: whatever is asked at the same moment goes as one read.

use std::collections::HashMap;

use broker::{Connection, Reader, StoredMessage};
use protocol::{Namespace, Origin, RequestId, Subject, subject, topology::Names};
use tokio::sync::{mpsc, oneshot};

/// Questions that go as one read.
const BATCH_MAX: usize = 500;

/// Asks for outcomes.
#[derive(Clone, Debug)]
pub(crate) struct Lookup {
    questions: mpsc::Sender<Question>,
}

#[derive(Debug)]
struct Question {
    id: RequestId,
    answer: oneshot::Sender<Result<Option<StoredMessage>, broker::Error>>,
}

/// Answers questions until every [`Lookup`] is gone.
#[derive(Debug)]
pub(crate) struct Answerer {
    questions: mpsc::Receiver<Question>,
    reader: Reader,
    namespace: Namespace,
    names: Names,
}

impl Lookup {
    pub(crate) fn new(connection: &Connection, namespace: &Namespace) -> (Self, Answerer) {
        // As many as there can be messages in hand: asking never waits for room.
        let (sender, questions) = mpsc::channel(2 * protocol::limits::SLOTS_MAX);
        let answerer = Answerer {
            questions,
            reader: Reader::new(connection),
            namespace: namespace.clone(),
            names: Names::of(namespace),
        };
        (Self { questions: sender }, answerer)
    }

    /// The stored outcome of a request, or for a step the outcome of its run: either means that there is nothing to do.
    pub(crate) async fn outcome(&self, id: &RequestId) -> Result<Option<StoredMessage>, broker::Error> {
        let closed = || broker::Error::new(broker::Kind::Unreachable, "the worker is leaving");
        let (answer, answered) = oneshot::channel();
        self.questions.send(Question { id: id.clone(), answer }).await.map_err(|_| closed())?;
        answered.await.map_err(|_| closed())?
    }
}

impl Answerer {
    pub(crate) async fn run(mut self) {
        let mut batch = Vec::new();
        while self.questions.recv_many(&mut batch, BATCH_MAX).await > 0 {
            self.answer(std::mem::take(&mut batch)).await;
        }
    }

    async fn answer(&self, questions: Vec<Question>) {
        let mut outcomes = Vec::new();
        let mut steps = Vec::new();
        for question in &questions {
            if let Origin::Step { run, step, item } = question.id.origin() {
                steps.push(subject::stored_step_outcome(&self.namespace, &run, &step, item));
                if let Ok(run_as_request) = RequestId::parse(run.as_str()) {
                    outcomes.push(Subject::Outcome(run_as_request).render(&self.namespace));
                }
            } else {
                outcomes.push(Subject::Outcome(question.id.clone()).render(&self.namespace));
            }
        }
        let mut found = HashMap::new();
        let mut failed = None;
        for (stream, subjects) in [(&self.names.outcomes, outcomes), (&self.names.runs, steps)] {
            if subjects.is_empty() {
                continue;
            }
            match self.reader.last_of_each(stream, &subjects).await {
                Ok(messages) => found.extend(messages.into_iter().map(|message| (self.key(&message.subject), message))),
                Err(error) => failed = Some(error),
            }
        }
        for question in questions {
            let answer = match &failed {
                Some(error) => Err(error.clone()),
                None => Ok(keys_of(&question.id).iter().find_map(|key| found.get(key).cloned())),
            };
            // Whoever asked may be gone.
            let _ = question.answer.send(answer);
        }
    }

    /// The id that a stored outcome is about; in a run's log a partition stands in front of the run.
    fn key(&self, subject: &str) -> String {
        if let Some(Subject::Outcome(id)) = Subject::parse(&self.namespace, subject) {
            return id.to_string();
        }
        match subject.split('.').collect::<Vec<_>>().as_slice() {
            [_, "run", _partition, run, "step", step, item, "outcome"] => format!("{run}~{step}~{item}"),
            _ => String::new(),
        }
    }
}

fn keys_of(id: &RequestId) -> Vec<String> {
    match id.origin() {
        Origin::Step { run, .. } => vec![id.to_string(), run.to_string()],
        _ => vec![id.to_string()],
    }
}
