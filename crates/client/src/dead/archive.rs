//! Letters carried out of a fleet and into one: a line of JSON each, with the whole body, wherever that lives.

use base64::{Engine, prelude::BASE64_STANDARD};
use broker::{Outgoing, Settled};
use bytes::Bytes;
use protocol::{DeadLetter, Headers, Replay, Subject, dead_letter, header, subject::filter as subjects};
use serde::{Deserialize, Serialize};

use super::{Filter, Listed, StoredLetter, stored_letter};
use crate::{Client, Error, ErrorKind};

/// How long storing one letter is tried.
const STORE_WITHIN: std::time::Duration = std::time::Duration::from_secs(20);

/// A letter on its way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Archived {
    /// Its story.
    pub letter: DeadLetter,
    /// The headers beside the story, in order.
    #[serde(default)]
    pub headers: Vec<(String, String)>,
    /// The request's body.
    pub body: ArchivedBody,
    /// The replays of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replays: Vec<Replay>,
}

/// A body on its way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ArchivedBody {
    /// Text, byte by byte as it is.
    Text(String),
    /// Anything else.
    Base64(String),
    /// It lived in this object, which was not there any more.
    Missing(String),
}

/// What became of a letter that was brought in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Imported {
    /// It is there now.
    Stored,
    /// It was there already, and stays as it was.
    Present,
}

impl ArchivedBody {
    fn of(body: &[u8]) -> Self {
        match std::str::from_utf8(body) {
            Ok(text) => Self::Text(text.to_owned()),
            Err(_) => Self::Base64(BASE64_STANDARD.encode(body)),
        }
    }

    /// None where it is missing.
    fn bytes(&self) -> Result<Option<Bytes>, Error> {
        match self {
            Self::Text(text) => Ok(Some(Bytes::copy_from_slice(text.as_bytes()))),
            Self::Base64(text) => {
                let decoded = BASE64_STANDARD.decode(text);
                decoded.map(|body| Some(body.into())).map_err(|error| Error::invalid(format!("its body: {error}")))
            }
            Self::Missing(_) => Ok(None),
        }
    }
}

impl Client {
    /// Hands over every letter that a filter means, oldest first, with its whole body, until an error.
    ///
    /// # Errors
    /// `StreamsMissing`, what reading says, and whatever `each` says.
    pub async fn export_dead<E: From<Error>>(
        &self,
        filter: &Filter,
        mut each: impl FnMut(Archived) -> Result<(), E>,
    ) -> Result<(), E> {
        // Page by page, for all bodies together may be more than memory holds.
        let mut marks = self.marks(filter.capability.as_ref()).await?;
        let stream = &self.names().dead;
        let all = subjects::dead(self.namespace(), filter.capability.as_ref());
        let mut from = Some(1);
        while let Some(sequence) = from {
            let page = match self.reader().page(stream, &all, sequence, PAGE).await {
                Ok(page) => page,
                Err(error) => return Err(self.explained(error, stream).await.into()),
            };
            for message in page.messages {
                let Some(letter) = DeadLetter::read(&message.headers) else { continue };
                let replays = marks.remove(&letter.id).unwrap_or_default();
                if filter.matches(&letter, &replays, &message)
                    && let Some(stored) = stored_letter(message)
                {
                    each(archived(self.with_letter_body(stored).await, Listed { letter, replays }))?;
                }
            }
            from = page.next;
        }
        Ok(())
    }

    /// Brings a letter in, unless there is one of its request: never a second one. Its time begins anew.
    ///
    /// # Errors
    /// `Invalid` for a line that no letter can be made of, `TooLarge`; else what storing says. After an error it may be
    /// there: bring it in again.
    pub async fn import_dead(&self, archived: &Archived) -> Result<Imported, Error> {
        let Archived { letter, headers, body, replays } = archived;
        let at = Subject::Dead { capability: letter.capability.clone(), id: letter.id.clone() };
        let body = body.bytes()?;
        // Before the body is stored: it might leave an object that nothing refers to.
        let imported = if self.stored_letter(&letter.id).await?.is_some() {
            Imported::Present
        } else {
            let original: Headers = headers.iter().cloned().collect();
            let mut headers = letter.headers(&original);
            if body.is_some() {
                headers.remove(header::PAYLOAD_REF);
            }
            let outgoing = Outgoing::new(at.render(self.namespace()), body.unwrap_or_default()).with_headers(headers);
            self.store_once(self.payloads().lighten(outgoing).await?).await?
        };
        for replay in replays.iter().filter(|replay| replay.of == letter.id) {
            self.mark(replay).await?;
        }
        Ok(imported)
    }

    async fn store_once(&self, outgoing: Outgoing) -> Result<Imported, Error> {
        let outgoing = outgoing.expecting(0);
        match tokio::time::timeout(STORE_WITHIN, self.publisher().settle(&outgoing)).await {
            Ok(Ok(Settled::Stored(_))) => Ok(Imported::Stored),
            Ok(Ok(Settled::Superseded)) => Ok(Imported::Present),
            Ok(Err(error)) => Err(self.explained(error, &self.names().dead).await),
            Err(_) => Err(Error::new(ErrorKind::TimedOut, "the broker did not say in time whether it is stored")),
        }
    }
}

/// Letters that one read asks for; the broker answers with 8 MiB at most.
const PAGE: usize = 64;

fn archived(stored: StoredLetter, listed: Listed) -> Archived {
    let is_missing = stored.body_fault.is_some();
    let object = stored.headers.get(header::PAYLOAD_REF).unwrap_or_default().to_owned();
    let is_its_own = |name: &str| {
        let told = [dead_letter::STORY, header::REQUEST_ID, header::CAPABILITY];
        // What refers to the body is no use elsewhere: the body itself comes along.
        let is_told = told.iter().any(|other| other.eq_ignore_ascii_case(name));
        !is_told && (is_missing || !name.eq_ignore_ascii_case(header::PAYLOAD_REF))
    };
    let own = stored.headers.iter().filter(|(name, _)| is_its_own(name));
    Archived {
        headers: own.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        body: if is_missing { ArchivedBody::Missing(object) } else { ArchivedBody::of(&stored.body) },
        letter: listed.letter,
        replays: listed.replays,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_body_survives_its_line() {
        for body in [&b""[..], b"{\"hi\": 1}\n", b"\xff\x00\x01", "ä".as_bytes()] {
            let archived = ArchivedBody::of(body);
            let line = serde_json::to_string(&archived).unwrap();
            let read: ArchivedBody = serde_json::from_str(&line).unwrap();
            assert_eq!(read.bytes().unwrap().unwrap(), body, "{line}");
        }
        assert!(ArchivedBody::Base64("?".to_owned()).bytes().is_err());
        assert_eq!(ArchivedBody::Missing("body-1".to_owned()).bytes().unwrap(), None);
    }
}
