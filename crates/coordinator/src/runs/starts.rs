//! Starts of runs: whoever is given one checks it and writes the run's first fact, which is all that a start needs.

use std::{sync::Arc, time::Duration};

use broker::{Delivery, Disposition, Error};
use futures_util::FutureExt;
use protocol::topology::starts_consumer;
use tokio_util::sync::CancellationToken;

use super::{
    arrival::Arrival,
    begin::{Begin, Taken},
    intake,
};

/// The wait before consumers are followed again, whatever ended it.
pub(super) const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// How long a start is put off that could not be handled.
const PUT_OFF: Duration = Duration::from_millis(500);

/// How soon a start asks again that waits because as many runs are alive as there may be: so long after each of its deliveries as
/// there were, up to a bound. Whoever gives a place back calls the first in line, so asking is for when that is lost.
const PLACE_ASKED_AFTER: Duration = Duration::from_secs(1);
const PLACE_ASKED_AFTER_MAX: u32 = 5;

/// How soon it is looked whether the run of a unique request is over, whose key is free then: this long after each of its first
/// deliveries in turn, and then always the last.
const OVER_ASKED_AFTER: [Duration; 4] =
    [Duration::from_millis(250), Duration::from_millis(500), Duration::from_secs(1), Duration::from_secs(2)];

/// Takes starts.
pub(super) struct Starts {
    begin: Arc<Begin>,
}

impl Starts {
    pub(super) fn new(begin: &Arc<Begin>) -> Self {
        Self { begin: Arc::clone(begin) }
    }

    /// Takes starts until `stop`.
    pub(super) async fn keep(self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            tokio::select! {
                ended = self.follow() => {
                    if let Err(error) = ended {
                        tracing::warn!(%error, "starts not followed");
                    }
                    tokio::select! { () = tokio::time::sleep(AGAIN_AFTER) => {}, () = stop.cancelled() => {} }
                }
                // What is in hand is delivered again.
                () = stop.cancelled() => {}
            }
        }
    }

    async fn follow(&self) -> Result<(), Error> {
        let post = &self.begin.means.post;
        intake::follow(post, &[starts_consumer(post.namespace())], |delivery| {
            let begin = Arc::clone(&self.begin);
            async move {
                let arrival = Arrival::of_start(begin.means.post.namespace(), &delivery);
                handle(&begin, arrival, &delivery).await;
            }
            .boxed()
        })
        .await
    }
}

/// Handles what begins a run, and answers for its delivery.
pub(super) async fn handle(begin: &Begin, arrival: Option<Arrival>, delivery: &Delivery) {
    let connection = &begin.means.post.connection;
    let Some(arrival) = arrival else { return delivery.ack(connection).await };
    match begin.take(&arrival).await {
        Ok(Taken::Done) => delivery.ack(connection).await,
        Ok(Taken::Waits) => {
            let times = u32::try_from(delivery.delivered).unwrap_or(u32::MAX);
            delivery.nak(connection, PLACE_ASKED_AFTER * times.clamp(1, PLACE_ASKED_AFTER_MAX)).await;
        }
        Ok(Taken::Lasts) => {
            let times = usize::try_from(delivery.delivered).unwrap_or(usize::MAX);
            let after = OVER_ASKED_AFTER[times.clamp(1, OVER_ASKED_AFTER.len()) - 1];
            delivery.nak(connection, after).await;
        }
        Err(error) => {
            let is_final = error.disposition() == Disposition::Reject;
            tracing::warn!(sequence = delivery.sequence, %error, is_final, "start not handled yet");
            delivery.nak(connection, if is_final { 20 * PUT_OFF } else { PUT_OFF }).await;
        }
    }
}
