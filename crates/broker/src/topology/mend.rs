//! Giving a consumer that differs the settings that the table says: in place where the broker lets it, else anew.

use protocol::{time, topology::Consumer};
use serde_json::{Value, json};

use super::{ConsumerInfo, config, consumer_state, limit_consumer, pause_consumer, persist};
use crate::{
    Connection, api,
    error::{Error, Kind},
};

/// Changes what differs of a consumer that is there; what operators steer (`max_ack_pending`, a pause) stays as it is.
///
/// Measured on 2.15.1: `ack_wait`, `max_deliver` and the filter are changed in place, and what is in hand stays in hand. The
/// time of a pin is sent along; that was not tried.
/// `max_waiting` is not (10012). A message whose deliveries are exhausted does not come back by a higher `max_deliver`.
///
/// # Errors
/// `NotFound`, or what the API says.
pub async fn update_consumer(connection: &Connection, expected: &Consumer) -> Result<(), Error> {
    let (stream, name) = (&expected.stream, &expected.name);
    let info: ConsumerInfo = api::ask_empty(connection, &format!("CONSUMER.INFO.{stream}.{name}")).await?;
    let wanted = config::of_consumer(expected);
    let mut settings = info.config;
    for field in ["ack_wait", "max_deliver", "filter_subject"] {
        settings[field] = wanted["config"][field].clone();
    }
    if expected.pinned.is_some() {
        for field in ["priority_policy", "priority_groups", "priority_timeout"] {
            settings[field] = wanted["config"][field].clone();
        }
    }
    if let Some(settings) = settings.as_object_mut() {
        // The first step of a backoff overrules the deadline, and several filters exclude the one.
        settings.remove("backoff");
        settings.remove("filter_subjects");
    }
    let question = json!({ "stream_name": stream, "action": "update", "config": settings });
    create(connection, expected, &question).await
}

/// Deletes a consumer and makes it anew, with the `max_ack_pending` and the pause that it had.
///
/// No message is lost by it: it stays in the stream until it is acknowledged. What is in hand is delivered again at once,
/// so attempts that run now may run twice; a retry that waits in hand (unique work) does not wait any longer; and what the
/// broker had given up is delivered again.
///
/// # Errors
/// `NotFound`, or what the API says.
pub async fn recreate_consumer(connection: &Connection, expected: &Consumer) -> Result<(), Error> {
    let (stream, name) = (&expected.stream, &expected.name);
    let before = consumer_state(connection, stream, name).await?;
    let kept = Consumer { max_ack_pending: before.consumer.max_ack_pending, ..expected.clone() };
    let mut question = config::of_consumer(&kept);
    if let Some(until) = before.paused_until {
        question["config"]["pause_until"] = time::format(until).into();
    }
    // A stream without a leader answers nobody for a while, and a delete that was carried out unheard is `NotFound`.
    match persist::<Value>(connection, &format!("CONSUMER.DELETE.{stream}.{name}"), &json!({})).await {
        Err(error) if error.kind() != Kind::NotFound => return Err(error.during(&format!("consumer {name}"))),
        _ => {}
    }
    match create(connection, expected, &question).await {
        // A worker made it first, as workers do: only what operators steer is missing.
        Err(error) if error.kind() == Kind::Exists => {
            if kept.max_ack_pending > 0 {
                limit_consumer(connection, stream, name, kept.max_ack_pending).await?;
            }
            match before.paused_until {
                Some(until) => pause_consumer(connection, stream, name, until).await,
                None => Ok(()),
            }
        }
        made => made,
    }
}

async fn create(connection: &Connection, consumer: &Consumer, question: &Value) -> Result<(), Error> {
    let what = format!("CONSUMER.CREATE.{}.{}.{}", consumer.stream, consumer.name, consumer.filter);
    let made: Result<Value, Error> = persist(connection, &what, question).await;
    made.map(|_| ()).map_err(|error| error.during(&format!("consumer {}", consumer.name)))
}
