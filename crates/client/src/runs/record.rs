//! The log of a run, wherever it is kept.

use broker::Kind;
use protocol::{
    LoggedFact, RunId, RunSummary, header,
    run::{StoredFact, ended_topic},
    subject::{self, filter},
};

use crate::{Client, Error, ErrorKind};

/// Facts that one read asks for.
const PAGE: usize = 500;

/// A run's log.
#[derive(Clone, Debug, PartialEq)]
pub enum RunRecord {
    /// The run is alive, or has not started and something waits for it: its facts, in order.
    Live(Vec<LoggedFact>),
    /// It is over.
    Ended(Box<RunSummary>),
}

impl RunRecord {
    /// Its facts, in order.
    pub fn facts(&self) -> &[LoggedFact] {
        match self {
            Self::Live(facts) => facts,
            Self::Ended(summary) => &summary.facts,
        }
    }
}

impl Client {
    /// The log of a run: of one that is alive from the stream, of one that has ended from its summary, which is kept for as
    /// long as events are. None where nothing is known of it. Bodies in the object store stay there, see
    /// [`Client::whole_body`].
    ///
    /// # Errors
    /// `StreamsMissing`, `Unreadable` where a summary cannot be read, and what reading says.
    pub async fn run_record(&self, run: &RunId) -> Result<Option<RunRecord>, Error> {
        // Ended first: what is found in the stream then may be late, and belongs to nothing.
        if let Some(summary) = self.run_summary(run).await? {
            return Ok(Some(RunRecord::Ended(Box::new(summary))));
        }
        let facts = self.run_facts(run, 0).await?;
        if !facts.is_empty() {
            return Ok(Some(RunRecord::Live(facts)));
        }
        // It may have ended in between.
        Ok(self.run_summary(run).await?.map(|summary| RunRecord::Ended(Box::new(summary))))
    }

    /// The facts of a run that is alive, above a sequence, in order: for whoever follows it.
    ///
    /// # Errors
    /// `StreamsMissing`, and what reading says.
    pub async fn run_facts(&self, run: &RunId, above: u64) -> Result<Vec<LoggedFact>, Error> {
        let stream = &self.names().runs;
        let filter = filter::run_log(self.namespace(), None, run);
        let mut facts = Vec::new();
        let mut from = Some(above + 1);
        while let Some(sequence) = from {
            let page = match self.reader().page(stream, &filter, sequence, PAGE).await {
                Ok(page) => page,
                Err(error) => return Err(self.explained(error, stream).await),
            };
            from = page.next;
            facts.extend(page.messages.iter().filter_map(|message| {
                let stored = StoredFact::parse(self.namespace(), &message.subject)?;
                Some(LoggedFact::new(message.sequence, message.time, stored.name, &message.headers, &message.body))
            }));
        }
        Ok(facts)
    }

    /// What is kept of a run that has ended.
    ///
    /// # Errors
    /// `StreamsMissing`, `Unreadable` where it cannot be read, and what reading says.
    pub async fn run_summary(&self, run: &RunId) -> Result<Option<RunSummary>, Error> {
        let stream = &self.names().events;
        let place = subject::event(self.namespace(), &ended_topic(None, None, Some(run)));
        let found = match self.reader().last_of_each(stream, &[place]).await {
            Ok(found) => found,
            Err(error) => return Err(self.explained(error, stream).await),
        };
        let Some(message) = found.last() else { return Ok(None) };
        let unreadable = |why: String| Error::new(ErrorKind::Unreadable, format!("the summary of run {run}: {why}"));
        let body = match message.headers.get(header::PAYLOAD_REF) {
            Some(object) => self.payload(object).await.map_err(|error| unreadable(error.to_string()))?,
            None => message.body.clone(),
        };
        serde_json::from_slice(&body).map(Some).map_err(|error| unreadable(error.to_string()))
    }

    /// The body of a fact, wherever it lives.
    ///
    /// # Errors
    /// `Unreadable` where it is in the object store no more.
    pub async fn whole_body(&self, fact: &LoggedFact) -> Result<Vec<u8>, Error> {
        let headers = fact.headers();
        let Some(object) = headers.get(header::PAYLOAD_REF) else { return Ok(fact.bytes()) };
        let body = self.payload(object).await;
        let body =
            body.map_err(|error| Error::new(ErrorKind::Unreadable, format!("fact {}: {error}", fact.sequence)))?;
        Ok(body.to_vec())
    }

    /// A value that a run holds in the object store; none where it is not there, or larger than this.
    ///
    /// # Errors
    /// What reading says.
    pub async fn held_value(&self, reference: &str, bytes_max: usize) -> Result<Option<Vec<u8>>, Error> {
        match self.payload_up_to(reference, bytes_max).await {
            Ok(body) => Ok(Some(body.to_vec())),
            Err(error) if matches!(error.kind(), Kind::NotFound | Kind::TooLarge) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}
