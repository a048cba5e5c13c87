//! One letter sent again.
//!
//! The request is published first, then marked, and nothing is deleted. Its id follows from the letter and the number of
//! the replay, so who does it again because the mark could not be stored does the same request again.

use broker::Outgoing;
use bytes::Bytes;
use protocol::{Operator, Replay, RequestId, header, limits, replay};

use super::StoredLetter;
use crate::{Client, Error, ErrorKind};

/// How a letter is sent again.
#[derive(Clone, Debug, Default)]
pub struct Again {
    /// Also one that was sent again before. Defaults to no.
    pub repeated: bool,
    /// Another body, encoded as the letter's was. Defaults to the letter's own.
    pub body: Option<Bytes>,
    /// Who does it, for the mark.
    pub by: Option<Operator>,
}

/// What became of a letter that was to be sent again.
#[derive(Clone, Debug, PartialEq)]
pub struct Replayed {
    /// The replay, as it is marked.
    pub replay: Replay,
    /// What was done for it.
    pub how: How,
}

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// It is a new request.
    Sent,
    /// An earlier try had sent this very request and could not mark it; it is marked now.
    Finished,
    /// Nothing: this was sent again before.
    Before,
}

impl Client {
    /// Sends the request of a dead letter again, as a new request with a new id that names the old one: its first
    /// attempt, in the lane it came by, with its body, its headers and its policy, without its deadline. The dead letter
    /// stays, and is marked. The start of a run is sent to its workflow. What was unique has lost its key and comes back as an ordinary request.
    ///
    /// # Errors
    /// `NotFound` when there is no such dead letter; else what storing says. After an error the request may be stored:
    /// do the same again, and it is the same request.
    pub async fn replay(&self, id: &RequestId, again: &Again) -> Result<Replayed, Error> {
        let missing = || Error::new(ErrorKind::NotFound, format!("there is no dead letter of request {id}")).about(id);
        let stored = self.stored_letter(id).await?.ok_or_else(missing)?;
        let marks = self.marks_of(id).await?;
        if let Some(latest) = marks.last().filter(|_| !again.repeated) {
            return Ok(Replayed { replay: latest.clone(), how: How::Before });
        }
        let number = replay::next_number(marks.iter().map(|mark| &mark.request));
        let request = replay::replay_id(id, number, again.body.as_deref());
        let how = match self.send_again(stored.clone(), &request, again).await {
            Ok(how) => how,
            Err(error) => return Err(error.during(&format!("request {id} is not sent again for certain")).about(id)),
        };
        let replay = Replay {
            request,
            of: id.clone(),
            capability: stored.letter.capability,
            at: self.now().await?,
            by: again.by.clone(),
            rule: None,
            due: None,
            edited: again.body.is_some(),
        };
        self.mark(&replay).await.map_err(|error| {
            let what =
                format!("request {id} is sent again as {}, but not marked; replay it again to mark it", replay.request);
            error.during(&what).about(id)
        })?;
        Ok(Replayed { replay, how })
    }

    async fn send_again(&self, stored: StoredLetter, id: &RequestId, again: &Again) -> Result<How, Error> {
        // An earlier try may have got as far, and have been done since.
        if self.stored_outcome(id).await?.is_some() {
            return Ok(How::Finished);
        }
        let mut headers = stored.letter.headers_again(&stored.headers, id.clone());
        let mut body = stored.body;
        if let Some(other) = &again.body {
            if other.len() > limits::BODY_BYTES_MAX {
                let message = format!("the body has {} bytes; {} are allowed", other.len(), limits::BODY_BYTES_MAX);
                return Err(Error::new(ErrorKind::TooLarge, message));
            }
            headers.remove(header::PAYLOAD_REF);
            body = other.clone();
        }
        let subject = stored.letter.sent_again_to(&stored.headers);
        let outgoing = Outgoing::new(subject.render(self.namespace()), body).with_headers(headers);
        let outgoing = self.payloads().lighten(outgoing).await?.with_message_id(id.as_str());
        let stream = &self.names().requests;
        match self.store(outgoing, id, stream).await {
            Ok(stored) if stored.duplicate => Ok(How::Finished),
            Ok(_) => Ok(How::Sent),
            Err(error) => Err(self.explained(error, stream).await),
        }
    }
}
