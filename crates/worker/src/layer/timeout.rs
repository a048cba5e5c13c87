//! Ends what it wraps after a while: for a part of an attempt, inside the attempt's own timeout.

use std::{
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{FutureExt, future::BoxFuture};
use protocol::Failure;
use tower::{Layer, Service, ServiceExt};

use crate::{BoxService, Call, Reply, attempt_end};

/// Drops what it wraps after this long and fails with `timeout`, which is retried by policy.
#[derive(Clone, Copy, Debug)]
pub struct Timeout(Duration);

/// What [`Timeout`] makes of a handler.
#[derive(Clone, Debug)]
pub struct Timed {
    inner: BoxService,
    after: Duration,
}

impl Timeout {
    /// After this long.
    pub fn new(after: Duration) -> Self {
        Self(after)
    }
}

impl Layer<BoxService> for Timeout {
    type Service = Timed;
    fn layer(&self, inner: BoxService) -> Timed {
        Timed { inner, after: self.0 }
    }
}

impl Service<Call> for Timed {
    type Response = Reply;
    type Error = Failure;
    type Future = BoxFuture<'static, Result<Reply, Failure>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: Call) -> Self::Future {
        let (inner, after) = (self.inner.clone(), self.after);
        async move {
            let ended = tokio::time::timeout(after, inner.oneshot(call)).await;
            ended.unwrap_or_else(|_| Err(attempt_end::timed_out(after, true)))
        }
        .boxed()
    }
}
