//! Requests of the JetStream API, with their answers as JSON.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    Connection,
    error::{Error, Kind},
};

/// How long an answer of the API is waited for.
const API_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Deserialize)]
struct Refusal {
    error: Option<ApiError>,
}

#[derive(Deserialize)]
struct ApiError {
    #[serde(default)]
    code: u64,
    #[serde(default)]
    err_code: u64,
    #[serde(default)]
    description: String,
}

/// Asks the API at `$JS.API.<what>`.
pub(crate) async fn ask<Q, A>(connection: &Connection, what: &str, question: &Q) -> Result<A, Error>
where
    Q: Serialize + Sync + ?Sized,
    A: DeserializeOwned,
{
    let body = serde_json::to_vec(question).map_err(|error| Error::new(Kind::Invalid, error.to_string()))?;
    let answer = connection.request(format!("$JS.API.{what}"), None, body.into(), API_TIMEOUT).await;
    let answer = answer.map_err(|error| match error.kind() {
        Kind::NoResponders => Error::new(Kind::NoResponders, "the server has JetStream switched off, or is starting"),
        _ => error.during(what),
    })?;
    parse(&answer.body)
}

/// Asks without a body.
pub(crate) async fn ask_empty<A: DeserializeOwned>(connection: &Connection, what: &str) -> Result<A, Error> {
    ask(connection, what, &Value::Object(serde_json::Map::new())).await
}

/// Reads an answer, or the error that it holds.
pub(crate) fn parse<A: DeserializeOwned>(body: &Bytes) -> Result<A, Error> {
    let unread =
        |error: serde_json::Error| Error::new(Kind::Invalid, format!("an answer that cannot be read: {error}"));
    let refusal: Refusal = serde_json::from_slice(body).map_err(unread)?;
    if let Some(error) = refusal.error {
        return Err(Error::of_api(error.code, error.err_code, &error.description));
    }
    serde_json::from_slice(body).map_err(unread)
}
