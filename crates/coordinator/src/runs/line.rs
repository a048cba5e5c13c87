//! Begins the run that is first in line where a place was given back, without waiting until it asks again.

use std::sync::Arc;

use broker::Error;
use futures_util::{StreamExt, stream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{
    arrival::Arrival,
    begin::{Begin, Taken},
    holders,
    means::Vacant,
};

/// Places that are dealt with at once, and that wait for that: the rest is found by who asks again.
const AT_ONCE: usize = 16;
pub(super) const VACANT_MAX: usize = 1_000;

/// Begins whoever is first, for each place that was given back, until `stop`.
pub(super) async fn keep(begin: Arc<Begin>, mut vacant: mpsc::Receiver<Vacant>, stop: CancellationToken) {
    let called = stream::poll_fn(move |context| vacant.poll_recv(context)).for_each_concurrent(AT_ONCE, |vacant| {
        let begin = Arc::clone(&begin);
        async move {
            if let Err(error) = call_up(&begin, &vacant).await {
                tracing::debug!(workflow = %vacant.workflow, %error, "the first in line is not called up; it asks again");
            }
        }
    });
    tokio::select! { () = called => {}, () = stop.cancelled() => {} }
}

async fn call_up(begin: &Begin, vacant: &Vacant) -> Result<(), Error> {
    let means = &begin.means;
    while let Some(first) = holders::first_in_line(means, &vacant.key).await? {
        let Some(message) = means.post.reader.by_sequence(holders::stream(means, &first), first.sequence).await? else {
            return Ok(());
        };
        let Some(arrival) = Arrival::of_stored(means.post.namespace(), &vacant.workflow, message) else {
            return Ok(());
        };
        // Its message stays, and is acknowledged when it is delivered again.
        let has_place = begin.take(&arrival).await? != Taken::Waits;
        let is_still_first = holders::first_in_line(means, &vacant.key).await?.is_some_and(|now| now == first);
        if !has_place || is_still_first {
            return Ok(());
        }
    }
    Ok(())
}
