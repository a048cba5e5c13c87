//! Starts that came back. What is acknowledged leaves the queue, but the broker writes that to its disk apart from the
//! consumer's state, and later, also where every message is flushed. So after a loss of power a start may be in the queue that
//! lies at or below its consumer's floor: it is delivered to nobody, and a single server never removes it (seen on 2.15.1).
//!
//! It is taken once more, which does nothing to a run that has begun, and is deleted then.

use std::{collections::BTreeSet, sync::Arc};

use broker::{Error, Kind, topology};
use protocol::{Subject, topology::starts_consumer};
use tokio_util::sync::CancellationToken;

use super::{
    arrival::Arrival,
    begin::{Begin, Taken},
};
use crate::duty::dead_letters::given_up_through;

/// Starts that one look reads.
const READ_MAX: usize = 100;

/// Looks for them until `stop`. Every coordinator does, for two may do so at once.
pub(super) async fn keep(begin: Arc<Begin>, stop: CancellationToken) {
    let every = begin.means.post.config.dead_letters_every;
    // What is just being acknowledged is there once, and not twice.
    let mut before = BTreeSet::new();
    loop {
        tokio::select! { () = tokio::time::sleep(every) => {}, () = stop.cancelled() => return }
        before = tokio::select! {
            found = look(&begin, &before) => found.unwrap_or_else(|error| {
                tracing::warn!(%error, "starts that came back are not looked for");
                BTreeSet::new()
            }),
            () = stop.cancelled() => return,
        };
    }
}

/// Works off what the look before found as well; gives what this one found.
async fn look(begin: &Begin, before: &BTreeSet<u64>) -> Result<BTreeSet<u64>, Error> {
    let post = &begin.means.post;
    let consumer = starts_consumer(post.namespace());
    let state = match topology::consumer_state(&post.connection, &consumer.stream, &consumer.name).await {
        Ok(state) => state,
        Err(error) if error.kind() == Kind::NotFound => return Ok(BTreeSet::new()),
        Err(error) => return Err(error),
    };
    let through = given_up_through(&state);
    let mut found = BTreeSet::new();
    if through == 0 {
        return Ok(found);
    }
    let page = post.reader.page(&consumer.stream, &consumer.filter, 1, READ_MAX).await?;
    for message in page.messages.into_iter().take_while(|message| message.sequence <= through) {
        let sequence = message.sequence;
        // A replica may still show what is gone.
        if !before.contains(&sequence) || !post.reader.is_at_leader(&consumer.stream, sequence).await? {
            found.insert(sequence);
            continue;
        }
        let Some(Subject::Start(workflow)) = Subject::parse(post.namespace(), &message.subject) else { continue };
        let Some(arrival) = Arrival::of_stored(post.namespace(), &workflow, message) else { continue };
        if begin.take(&arrival).await? == Taken::Done {
            topology::delete_message(&post.connection, &consumer.stream, sequence).await?;
            tracing::warn!(sequence, %workflow, "took a start out of the queue that had been acknowledged");
        } else {
            found.insert(sequence);
        }
    }
    Ok(found)
}
