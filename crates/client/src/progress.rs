//! What a running request says of itself meanwhile. It is a hint: none of it is stored, and losing it loses nothing.

use std::{future::Future, pin::pin, time::Duration};

use broker::Subscription;
use protocol::{Outcome, RequestId, Subject, control::Progress};

use crate::{Client, Error};

/// The progress of one request, from when this was made.
#[derive(Debug)]
pub struct Follower {
    subscription: Subscription,
}

impl Client {
    /// Follows the progress of a request. It does not end by itself: see [`Client::follow`].
    ///
    /// # Errors
    /// What subscribing says.
    pub async fn progress(&self, id: &RequestId) -> Result<Follower, Error> {
        let subject = Subject::Progress(id.clone()).render(self.namespace());
        Ok(Follower { subscription: self.connection().subscribe(subject).await? })
    }

    /// Waits for the outcome of a request, and hands over what it says of its progress meanwhile.
    ///
    /// # Errors
    /// Those of [`Client::wait`].
    pub async fn follow(
        &self,
        id: &RequestId,
        within: Duration,
        on_progress: impl FnMut(Progress) + Send,
    ) -> Result<Outcome, Error> {
        self.progress(id).await?.until(self.wait(id, within), on_progress).await
    }
}

impl Follower {
    /// What it says next; none when the connection is closed for good. What is not progress is passed over.
    pub async fn next(&mut self) -> Option<Progress> {
        loop {
            let message = self.subscription.next().await?;
            if let Ok(progress) = serde_json::from_slice(&message.body) {
                return Some(progress);
            }
        }
    }

    pub(crate) async fn until<T>(mut self, end: impl Future<Output = T>, mut on_progress: impl FnMut(Progress)) -> T {
        let mut end = pin!(end);
        let ended = loop {
            tokio::select! {
                Some(progress) = self.next() => on_progress(progress),
                ended = &mut end => break ended,
            }
        };
        // What was said before the end came in before it, and is heard before it.
        loop {
            tokio::select! {
                biased;
                Some(progress) = self.next() => on_progress(progress),
                () = std::future::ready(()) => return ended,
            }
        }
    }
}
