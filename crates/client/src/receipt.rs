//! What is known of a request that was handed over.

use std::time::Duration;

use protocol::{Outcome, RequestId, control::Progress};

use crate::{Cancellation, Client, Error, Follower};

/// The proof that a request is stored, and a handle on it.
#[derive(Clone, Debug)]
pub struct Receipt {
    client: Client,
    id: RequestId,
    acceptance: Acceptance,
}

/// How the broker took a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Acceptance {
    /// It is new.
    Stored {
        /// Its sequence in the stream.
        sequence: u64,
    },
    /// It was submitted under this id before and is known; it has no outcome yet, as far as could be seen.
    Repeated,
    /// It was submitted under this id before and has its outcome.
    Done(Outcome),
}

impl Receipt {
    pub(crate) fn new(client: &Client, id: RequestId, acceptance: Acceptance) -> Self {
        Self { client: client.clone(), id, acceptance }
    }

    /// The request's id.
    pub fn id(&self) -> &RequestId {
        &self.id
    }

    /// How the broker took it.
    pub fn acceptance(&self) -> &Acceptance {
        &self.acceptance
    }

    pub(crate) fn into_acceptance(self) -> Acceptance {
        self.acceptance
    }

    /// Waits for its outcome, at most this long.
    ///
    /// # Errors
    /// `Pending` when there is none in time: the request goes on. Else those of [`Client::wait`].
    pub async fn outcome(&self, within: Duration) -> Result<Outcome, Error> {
        match &self.acceptance {
            Acceptance::Done(outcome) => Ok(outcome.clone()),
            _ => self.client.wait(&self.id, within).await,
        }
    }

    /// Its progress from now on.
    ///
    /// # Errors
    /// What subscribing says.
    pub async fn progress(&self) -> Result<Follower, Error> {
        self.client.progress(&self.id).await
    }

    /// Waits for its outcome and hands over what it says of its progress meanwhile.
    ///
    /// # Errors
    /// Those of [`Receipt::outcome`].
    pub async fn follow(&self, within: Duration, on_progress: impl FnMut(Progress) + Send) -> Result<Outcome, Error> {
        match &self.acceptance {
            Acceptance::Done(outcome) => Ok(outcome.clone()),
            _ => self.client.follow(&self.id, within, on_progress).await,
        }
    }

    /// Cancels it.
    ///
    /// # Errors
    /// Those of [`Client::cancel`].
    pub async fn cancel(&self) -> Result<Cancellation, Error> {
        self.client.cancel(&self.id).await
    }
}
