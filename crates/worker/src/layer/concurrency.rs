//! Bounds how many attempts of what it wraps run at once in this process, across capabilities if it is shared.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::{FutureExt, future::BoxFuture};
use protocol::{Failure, codes};
use tokio::sync::Semaphore;
use tower::{Layer, Service, ServiceExt};

use crate::{BoxService, Call, Reply};

/// What happens to an attempt that finds no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// It waits, in its slot, until its timeout.
    Wait,
    /// It fails with `overloaded` and is retried by policy.
    Refuse,
}

/// Bounds how many run at once. Clones share the bound: give one to several capabilities that share a resource.
#[derive(Clone, Debug)]
pub struct Concurrency {
    room: Arc<Semaphore>,
    when_full: WhenFull,
}

/// What [`Concurrency`] makes of a handler.
#[derive(Clone, Debug)]
pub struct Bounded {
    inner: BoxService,
    bound: Concurrency,
}

impl Concurrency {
    /// At most `at_once`, which waits when full.
    pub fn new(at_once: usize) -> Self {
        Self { room: Arc::new(Semaphore::new(at_once)), when_full: WhenFull::Wait }
    }

    /// With another answer to being full.
    #[must_use]
    pub fn when_full(mut self, when_full: WhenFull) -> Self {
        self.when_full = when_full;
        self
    }
}

impl Layer<BoxService> for Concurrency {
    type Service = Bounded;
    fn layer(&self, inner: BoxService) -> Bounded {
        Bounded { inner, bound: self.clone() }
    }
}

impl Service<Call> for Bounded {
    type Response = Reply;
    type Error = Failure;
    type Future = BoxFuture<'static, Result<Reply, Failure>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: Call) -> Self::Future {
        let (inner, bound) = (self.inner.clone(), self.bound.clone());
        async move {
            let full = || Failure::new(codes::OVERLOADED, "too many attempts run at once in this agent");
            let _permit = match bound.when_full {
                WhenFull::Wait => bound.room.acquire().await.map_err(|_| full())?,
                WhenFull::Refuse => bound.room.try_acquire().map_err(|_| full())?,
            };
            inner.oneshot(call).await
        }
        .boxed()
    }
}
