//! Messages as a stranger's client sends them: nothing of ours checks them first.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use broker::{Reader, StoredMessage};
use bytes::Bytes;
use protocol::{Headers, RequestId, header};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

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

/// Publishes a block of headers byte by byte as it is, over a connection of its own.
///
/// # Errors
/// When the broker refuses it.
pub async fn publish_bytes(fleet: &Fleet, subject: &str, headers: &[u8], body: &[u8]) -> Result<()> {
    let mut stream = TcpStream::connect(fleet.url().trim_start_matches("nats://")).await?;
    let mut message = b"CONNECT {\"verbose\":false,\"headers\":true}\r\n".to_vec();
    message.extend(format!("HPUB {subject} {} {}\r\n", headers.len(), headers.len() + body.len()).bytes());
    message.extend(headers.iter().chain(body).chain(b"\r\nPING\r\n"));
    stream.write_all(&message).await?;
    let mut answers = String::new();
    let mut some = [0; 4_096];
    while !answers.contains("PONG") {
        let count = tokio::time::timeout(Duration::from_secs(5), stream.read(&mut some)).await??;
        answers += &String::from_utf8_lossy(&some[..count]);
        if count == 0 || answers.contains("-ERR") {
            bail!("{subject}: {answers}");
        }
    }
    Ok(())
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
