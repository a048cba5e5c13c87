//! One line: asked, waited for, told.

use std::time::Duration;

use client::{AcceptedFile, Client, Disposition, ErrorKind};
use protocol::{Capability, ContentType, Failure, Outcome, RequestId, Status, codes};
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use super::{input::Line, job::Job};
use crate::commands::submit::options::RequestOptions;

/// How often a line is tried whose request the broker did not take: each try lasts as long as an election, so that
/// together they outlast a restart of everything.
const TRIES_MAX: u32 = 10;
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(2);

/// Asks for line after line.
#[derive(Debug)]
pub(super) struct Asker {
    pub(super) client: Client,
    pub(super) capability: Capability,
    pub(super) is_text: bool,
    pub(super) is_json: bool,
    pub(super) job: Option<Job>,
    pub(super) within: Duration,
    pub(super) noted_in: Option<AcceptedFile>,
    pub(super) options: RequestOptions,
}

/// How one line ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Done,
    Failed,
    Pending,
}

/// The result line of one line.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) text: String,
    pub(super) end: End,
}

impl Asker {
    /// Asks until there is an outcome, or the time is over.
    ///
    /// # Errors
    /// What no further line would get past either.
    pub(super) async fn ask(&self, line: Line) -> Result<Answer, client::Error> {
        let (content_type, body) = match self.body(&line) {
            Ok(encoded) => encoded,
            Err(failure) => return Ok(refused(line.number, None, &failure)),
        };
        let mut id = self.job.as_ref().zip(line.bytes.as_ref()).and_then(|(job, bytes)| job.id(line.number, bytes));
        let mut tried = 0;
        loop {
            let request = self.client.request_encoded(&self.capability, content_type.clone(), body.clone());
            let mut request = self.options.apply(request);
            if let Some(id) = &id {
                request = request.id(id.clone());
            }
            if let Some(file) = &self.noted_in {
                request = request.noted_in(file);
            }
            tried += 1;
            match request.call(self.within).await {
                Ok(outcome) => return Ok(self.answer(line.number, &outcome)),
                Err(error) => match error.kind() {
                    ErrorKind::Pending => return Ok(pending(line.number, error.request())),
                    ErrorKind::TooLarge => {
                        let failure = Failure::new(codes::PAYLOAD_TOO_LARGE, error.to_string());
                        return Ok(refused(line.number, error.request(), &failure));
                    }
                    ErrorKind::Unreadable => {
                        let failure = Failure::new(codes::PAYLOAD_MISSING, error.to_string());
                        return Ok(refused(line.number, error.request(), &failure));
                    }
                    _ if error.disposition() == Disposition::Retry && tried < TRIES_MAX => {
                        // It may be stored all the same: under its id it is the same request.
                        id = id.or_else(|| error.request().cloned());
                        tracing::warn!(line = line.number, %error, "not submitted, trying again");
                        tokio::time::sleep(TRY_AGAIN_AFTER).await;
                    }
                    _ => return Err(error),
                },
            }
        }
    }

    fn body(&self, line: &Line) -> Result<(ContentType, Vec<u8>), Failure> {
        let invalid = |message: String| Failure::new(codes::INVALID_INPUT, message);
        let bytes = line
            .bytes
            .as_ref()
            .ok_or_else(|| Failure::new(codes::PAYLOAD_TOO_LARGE, "the line is longer than a body may be"))?;
        let json = if self.is_text {
            let text =
                std::str::from_utf8(bytes).map_err(|error| invalid(format!("the line is not UTF-8: {error}")))?;
            Value::from(text).to_string().into_bytes()
        } else {
            serde_json::from_slice::<IgnoredAny>(bytes)
                .map_err(|error| invalid(format!("the line is not JSON: {error}; --lines sends plain text")))?;
            bytes.clone()
        };
        if !self.options.msgpack {
            return Ok((ContentType::Json, json));
        }
        let value: Value = ContentType::Json.decode(&json)?;
        Ok((ContentType::MessagePack, ContentType::MessagePack.encode(&value)?))
    }

    fn answer(&self, number: u64, outcome: &Outcome) -> Answer {
        let is_done = outcome.status == Status::Completed;
        let end = if is_done { End::Done } else { End::Failed };
        if is_done && !self.is_json {
            return Answer { text: one_line(outcome), end };
        }
        let mut document = outcome.document();
        document["line"] = json!(number);
        Answer { text: document.to_string(), end }
    }
}

/// A result as one line of JSON: as it was sent, where it is one.
fn one_line(outcome: &Outcome) -> String {
    let body = std::str::from_utf8(&outcome.body).ok().filter(|body| !body.contains('\n'));
    match (&outcome.content_type, body) {
        (ContentType::Json, Some(body)) if serde_json::from_str::<IgnoredAny>(body).is_ok() => body.to_owned(),
        (content_type, _) => content_type.show(&outcome.body).to_string(),
    }
}

fn refused(number: u64, id: Option<&RequestId>, failure: &Failure) -> Answer {
    let text = json!({ "line": number, "id": id, "status": "refused", "failure": failure }).to_string();
    Answer { text, end: End::Failed }
}

fn pending(number: u64, id: Option<&RequestId>) -> Answer {
    Answer { text: json!({ "line": number, "id": id, "status": "pending" }).to_string(), end: End::Pending }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_is_one_line_and_stays_as_it_was_where_it_can() {
        let line = |content_type: ContentType, body: &[u8]| {
            one_line(&Outcome::completed(RequestId::generate(), content_type, body.to_vec()))
        };
        let packed = ContentType::MessagePack.encode(&json!({ "n": 1 })).unwrap();
        assert_eq!(line(ContentType::Json, b"{\"z\":1.50, \"a\":2}"), "{\"z\":1.50, \"a\":2}");
        assert_eq!(line(ContentType::Json, b"{\n\"z\":1\n}"), "{\"z\":1}");
        assert_eq!(line(ContentType::Json, b""), "null");
        assert_eq!(line(ContentType::Json, b"no json"), "\"no json\"");
        assert_eq!(line(ContentType::MessagePack, &packed), "{\"n\":1}");
        assert_eq!(line(ContentType::Other("text/plain".to_owned()), b"a\nb"), "\"a\\nb\"");
    }
}
