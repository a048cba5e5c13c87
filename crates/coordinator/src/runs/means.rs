//! What the keepers of all partitions work with.

use std::time::Duration;

use broker::{Error, Kind, Outgoing, Publisher, Settled};
use bytes::Bytes;
use protocol::WorkflowName;
use tokio::sync::{Semaphore, mpsc};

use super::{fence::Term, programs::Programs, removal::Crowd};
use crate::post::Post;

/// How often, and how far apart, an object is asked for that a replica may not have yet.
const OBJECT_TRIES: u32 = 5;
const OBJECT_WAIT: Duration = Duration::from_millis(100);

/// Turns of runs that are taken at once. Beyond some thousands of questions that wait the server answers none of them in time, and
/// each is asked again: 20,000 runs that woke at one moment did not end for that.
const TURNS_AT_ONCE: usize = 256;

/// Logs that are read at once: whoever takes partitions over reads many.
const LOADS_AT_ONCE: usize = 32;

/// What the keepers of all partitions work with.
#[derive(Debug)]
pub(super) struct Means {
    pub(super) post: Post,
    pub(super) publisher: Publisher,
    pub(super) loads: Semaphore,
    pub(super) turns: Semaphore,
    pub(super) programs: Programs,
    pub(super) crowd: Crowd,
    /// Places that were given back while somebody waits.
    pub(super) vacant: mpsc::Sender<Vacant>,
}

/// A place that was given back while somebody waits.
#[derive(Debug)]
pub(super) struct Vacant {
    /// The key of the limit.
    pub(super) key: String,
    pub(super) workflow: WorkflowName,
}

impl Means {
    pub(super) fn new(post: &Post, vacant: mpsc::Sender<Vacant>) -> Self {
        Self {
            post: post.clone(),
            publisher: Publisher::new(&post.connection),
            loads: Semaphore::new(LOADS_AT_ONCE),
            turns: Semaphore::new(TURNS_AT_ONCE),
            programs: Programs::default(),
            crowd: Crowd::default(),
            vacant,
        }
    }

    /// Has the first in line at a limit begin. Where that is too much at once, it finds the place when it asks again.
    pub(super) fn call_up(&self, key: &str, workflow: Option<WorkflowName>) {
        if let Some(workflow) = workflow {
            let _ = self.vacant.try_send(Vacant { key: key.to_owned(), workflow });
        }
    }

    /// Publishes until it is settled, while the term lasts.
    ///
    /// # Errors
    /// `Fenced` when the partition is another's; what would be refused again.
    pub(super) async fn settle(&self, term: &Term, outgoing: &Outgoing) -> Result<Settled, Error> {
        self.publisher.settle_while(outgoing, &|| term.lasts()).await
    }

    /// A body from the object store; none where it is certainly not there, or larger than this.
    ///
    /// # Errors
    /// What passes by itself.
    pub(super) async fn object(&self, name: &str, bytes_max: usize) -> Result<Option<Bytes>, Error> {
        for _ in 0..OBJECT_TRIES {
            match self.post.payloads.get_up_to(name, bytes_max).await {
                Ok(body) => return Ok(Some(body)),
                Err(error) if error.kind() == Kind::NotFound => tokio::time::sleep(OBJECT_WAIT).await,
                Err(error) if error.disposition() == broker::Disposition::Reject => break,
                Err(error) => return Err(error),
            }
        }
        tracing::warn!(object = name, "a body in the object store cannot be used");
        Ok(None)
    }
}
