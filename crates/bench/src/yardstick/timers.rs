//! Schedules of the broker that are due at one moment, each fired into the work queue of the requests.

use async_nats::HeaderMap;
use broker::Options;
use bytes::Bytes;
use chrono::SecondsFormat;
use futures_util::{TryStreamExt, stream};
use protocol::time::Timestamp;

use super::{ID, Yardstick, publish, requests::next_batch};
use crate::Error;

impl Yardstick {
    /// Streams for schedules and requests, and somebody who answers them.
    pub(crate) async fn timers(options: &Options, replicas: usize) -> Result<Self, Error> {
        Self::answering(options, replicas, &["bare.request", "bare.later.*"]).await
    }

    /// So many schedules, all due then.
    pub(crate) async fn schedule(
        &self,
        number: usize,
        in_flight: usize,
        due: Timestamp,
        body: &Bytes,
    ) -> Result<(), Error> {
        let batch = next_batch();
        let at = &format!("@at {}", due.to_rfc3339_opts(SecondsFormat::Millis, true));
        stream::iter((0..number).map(Ok::<_, Error>))
            .try_for_each_concurrent(in_flight, |index| async move {
                let id = format!("t{batch}-{index}");
                let mut headers = HeaderMap::new();
                headers.insert(ID, id.as_str());
                headers.insert("Nats-Schedule", at.as_str());
                headers.insert("Nats-Schedule-Target", "bare.request");
                publish(&self.context, format!("bare.later.{id}"), headers, body.clone()).await
            })
            .await
    }
}
