//! Steering a consumer while it works: pausing it, and how much of it may be in hand at once.

use chrono::TimeDelta;
use protocol::{
    time::{self, Timestamp},
    topology::Consumer,
};
use serde_json::{Value, json};

use super::{ConsumerInfo, consumer_state};
use crate::{
    Connection, api,
    error::{Error, Kind},
};

/// How far ahead of the broker's clock a pause is ended. Measured on 2.15.1: a pause that is ended at once wakes no pull
/// that waits, so that what is there stays there until a new message comes or a pull's heartbeat is due; one that runs out
/// wakes them all.
const RESUMED_AFTER: TimeDelta = TimeDelta::milliseconds(200);

/// Lets a consumer deliver nothing until then, on the broker's clock. What is in hand is not touched: it can be extended
/// and acknowledged, but what nobody acknowledges is delivered again only afterwards. A pull that waits goes on waiting, and
/// one that does not want to wait is told that there is nothing.
///
/// # Errors
/// `NotFound`, or what the API says.
pub async fn pause_consumer(connection: &Connection, stream: &str, name: &str, until: Timestamp) -> Result<(), Error> {
    let question = json!({ "pause_until": time::format(until) });
    api::ask::<_, Value>(connection, &format!("CONSUMER.PAUSE.{stream}.{name}"), &question).await.map(|_| ())
}

/// Lets a consumer deliver again, a fifth of a second from now: pulls that wait are given what is there.
///
/// # Errors
/// `NotFound`, or what the API says.
pub async fn resume_consumer(connection: &Connection, stream: &str, name: &str) -> Result<(), Error> {
    let state = consumer_state(connection, stream, name).await?;
    pause_consumer(connection, stream, name, state.at + RESUMED_AFTER).await
}

/// Lets whoever asks next be pinned. Nobody is told: the one who was learns it from the end of his next pull.
///
/// # Errors
/// `Invalid` for a consumer that pins nobody; `NotFound`, or what the API says.
pub async fn unpin_consumer(connection: &Connection, consumer: &Consumer) -> Result<(), Error> {
    let Some(pinned) = &consumer.pinned else {
        return Err(Error::new(Kind::Invalid, format!("consumer {} pins nobody", consumer.name)));
    };
    let what = format!("CONSUMER.UNPIN.{}.{}", consumer.stream, consumer.name);
    api::ask::<_, Value>(connection, &what, &json!({ "group": pinned.group })).await.map(|_| ())
}

/// Changes how much of a consumer may be in hand at once, and nothing else of it. Pulls that wait are given what is there.
/// An update leaves a pause as it is, whatever it says of one.
///
/// # Errors
/// `NotFound`, or what the API says.
pub async fn limit_consumer(
    connection: &Connection,
    stream: &str,
    name: &str,
    max_ack_pending: i64,
) -> Result<(), Error> {
    if max_ack_pending < 1 {
        // The broker takes 0 for its own default, and -1 for no bound at all.
        return Err(Error::new(Kind::Invalid, "a limit is 1 at least"));
    }
    let info: ConsumerInfo = api::ask_empty(connection, &format!("CONSUMER.INFO.{stream}.{name}")).await?;
    let mut config = info.config;
    config["max_ack_pending"] = max_ack_pending.into();
    let filter = config["filter_subject"].as_str().unwrap_or_default().to_owned();
    let question = json!({ "stream_name": stream, "action": "update", "config": config });
    let what = format!("CONSUMER.CREATE.{stream}.{name}.{filter}");
    api::ask::<_, Value>(connection, &what, &question).await.map(|_| ())
}
