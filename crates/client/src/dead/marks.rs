//! The marks that say which letters were sent again. They are found with few reads however many there are: all of them,
//! page by page, or those of one letter at once.

use std::{collections::HashMap, time::Duration};

use broker::{Outgoing, StoredMessage};
use protocol::{Capability, ContentType, Headers, Replay, RequestId, Subject, header, subject::filter as subjects};

use crate::{Client, Error, ErrorKind};

/// Marks that one read asks for.
const PAGE: usize = 500;

/// How long storing one is tried.
const MARK_WITHIN: Duration = Duration::from_secs(20);

impl Client {
    /// Every mark of a capability, or of all, by the request that was given up.
    pub(super) async fn marks(
        &self,
        capability: Option<&Capability>,
    ) -> Result<HashMap<RequestId, Vec<Replay>>, Error> {
        let mut marks: HashMap<RequestId, Vec<Replay>> = HashMap::new();
        for replay in self.marks_under(&subjects::replayed(self.namespace(), capability)).await? {
            marks.entry(replay.of.clone()).or_default().push(replay);
        }
        Ok(marks)
    }

    /// The replays of one letter, oldest first.
    pub(super) async fn marks_of(&self, id: &RequestId) -> Result<Vec<Replay>, Error> {
        self.marks_under(&subjects::replayed_of(self.namespace(), id)).await
    }

    async fn marks_under(&self, filter: &str) -> Result<Vec<Replay>, Error> {
        let stream = &self.names().dead;
        let mut marks = Vec::new();
        let mut from = Some(1);
        while let Some(sequence) = from {
            let page = match self.reader().page(stream, filter, sequence, PAGE).await {
                Ok(page) => page,
                Err(error) => return Err(self.explained(error, stream).await),
            };
            marks.extend(page.messages.iter().filter_map(|message| self.read_mark(message)));
            from = page.next;
        }
        Ok(marks)
    }

    /// A mark counts by its subject: one that somebody wrote by hand may say no more.
    fn read_mark(&self, message: &StoredMessage) -> Option<Replay> {
        let Some(Subject::Replayed { capability, id, request }) = Subject::parse(self.namespace(), &message.subject)
        else {
            return None;
        };
        let bare =
            Replay { request, of: id, capability, at: message.time, by: None, rule: None, due: None, edited: false };
        let read: Option<Replay> = serde_json::from_slice(&message.body).ok();
        let is_its_own = |mark: &Replay| mark.request == bare.request && mark.of == bare.of;
        Some(read.filter(is_its_own).unwrap_or(bare))
    }

    /// Stores a mark, once: expecting that there is none.
    pub(super) async fn mark(&self, replay: &Replay) -> Result<(), Error> {
        let Replay { capability, of, request, .. } = replay.clone();
        let subject = Subject::Replayed { capability, id: of, request }.render(self.namespace());
        let body = serde_json::to_vec(replay).map_err(|error| Error::invalid(error.to_string()))?;
        let mut headers = Headers::new();
        headers.push(header::CONTENT_TYPE, ContentType::Json.as_str());
        let outgoing = Outgoing::new(subject, body).with_headers(headers).expecting(0);
        match tokio::time::timeout(MARK_WITHIN, self.publisher().settle(&outgoing)).await {
            Ok(settled) => settled.map(|_| ()).map_err(Error::from),
            Err(_) => Err(Error::new(ErrorKind::TimedOut, "the broker did not say in time whether it is stored")),
        }
    }
}
