//! Facts whose headers nobody can read. Delivered, such a fact breaks the connection that it comes over, whoever has the
//! partition, so it cannot ring at its run's door. Another fact does, which says where it lies, and then it is
//! acknowledged: the run's log is read again, and the log is read in a way that such a fact does not break.
//!
//! Neither needs the partition. Who was given the fact first may not even know his pin: that would have come with it.

use std::time::Duration;

use broker::{Delivery, Error, Outgoing};
use protocol::{RunFact, Subject, limits, run::StoredFact};
use tokio::sync::mpsc;

use super::means::Means;

/// How long one is put off that cannot be told of. It breaks a connection again when it comes.
const PUT_OFF: Duration = Duration::from_secs(30);

/// Tells the runs of what is found, for as long as anybody finds.
pub(super) async fn keep(means: std::sync::Arc<Means>, mut found: mpsc::Receiver<Delivery>) {
    while let Some(delivery) = found.recv().await {
        let connection = &means.post.connection;
        match tell(&means, &delivery).await {
            Ok(()) => delivery.ack(connection).await,
            Err(error) => {
                tracing::warn!(sequence = delivery.sequence, %error, "a run is not told yet of what it cannot read");
                delivery.nak(connection, PUT_OFF).await;
            }
        }
    }
}

async fn tell(means: &Means, delivery: &Delivery) -> Result<(), Error> {
    let namespace = means.post.namespace();
    // Else it is no fact that anybody could fold.
    let Some(stored) = StoredFact::parse(namespace, &delivery.message.subject) else { return Ok(()) };
    let subject = Subject::Run { run: stored.run.clone(), fact: RunFact::Unreadable(delivery.sequence) };
    let why = delivery.unreadable().unwrap_or_default();
    let text = limits::truncate(&format!("{}: {why}", stored.name), limits::FAILURE_MESSAGE_BYTES_MAX);
    // Who finds it again within two minutes tells of it no second time.
    let id = format!("{}~unreadable~{}", stored.run, delivery.sequence);
    let outgoing = Outgoing::new(subject.render(namespace), text).with_message_id(id);
    means.post.recorder.record(&outgoing).await.map(|_| ())
}
