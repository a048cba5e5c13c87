//! Messages as a stranger's client sends them: nothing of ours checks them first.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use broker::{Reader, StoredMessage};
use bytes::Bytes;
use protocol::{Headers, RequestId, header};
use serde_json::Value;

use crate::Fleet;

/// Publishes with these headers, and gives the sequence that the broker answers with.
///
/// # Errors
/// When the broker refuses it.
pub async fn publish(
    fleet: &Fleet,
    subject: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes> + Send,
) -> Result<u64> {
    let headers: Headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let answer = fleet.connection.request(subject.to_owned(), Some(&headers), body.into(), Duration::from_secs(5));
    let answer: Value = serde_json::from_slice(&answer.await?.body)?;
    if let Some(error) = answer.get("error") {
        bail!("{subject}: {error}");
    }
    answer["seq"].as_u64().context("no sequence")
}

/// The same to `fleet.request.<capability>`, and gives the id that such a message has by its sequence.
///
/// # Errors
/// When the broker refuses it.
pub async fn request(
    fleet: &Fleet,
    capability: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes> + Send,
) -> Result<RequestId> {
    let sequence = publish(fleet, &format!("{}.request.{capability}", fleet.namespace), headers, body).await?;
    Ok(RequestId::of_sequence(sequence))
}

/// Asks the broker's API.
///
/// # Errors
/// When it does not answer, or with an error.
pub async fn api(fleet: &Fleet, what: &str, question: &Value) -> Result<Value> {
    let body = if question.is_null() { Bytes::new() } else { question.to_string().into() };
    let answer = fleet.connection.request(format!("$JS.API.{what}"), None, body, Duration::from_secs(5)).await?;
    let answer: Value = serde_json::from_slice(&answer.body)?;
    if let Some(error) = answer.get("error") {
        bail!("{what}: {error}");
    }
    Ok(answer)
}

/// The last message that a stream holds of a subject.
///
/// # Errors
/// When it cannot be read.
pub async fn last(fleet: &Fleet, stream: &str, subject: &str) -> Result<Option<StoredMessage>> {
    Ok(Reader::new(&fleet.connection).last(stream, subject).await?)
}

/// The names of a stored message's headers that are the broker's own, in lower case.
pub fn broker_headers(message: &StoredMessage) -> Vec<String> {
    let names = message.headers.iter().map(|(name, _)| name.to_ascii_lowercase());
    names.filter(|name| name.starts_with(&header::NATS_PREFIX.to_ascii_lowercase())).collect()
}
