//! Turns a panic of what it wraps into a failure, so that the layers outside of it see an end.

use std::{
    any::Any,
    panic::AssertUnwindSafe,
    task::{Context, Poll},
};

use futures_util::{FutureExt, future::BoxFuture};
use protocol::{Failure, codes};
use tower::{Layer, Service};

use crate::{BoxService, Call, Reply};

/// Turns a panic into a failure `handler_panicked`, which is retried by policy.
#[derive(Clone, Copy, Debug, Default)]
pub struct CatchPanic;

/// What [`CatchPanic`] makes of a handler.
#[derive(Clone, Debug)]
pub struct Catching(BoxService);

impl Layer<BoxService> for CatchPanic {
    type Service = Catching;
    fn layer(&self, inner: BoxService) -> Catching {
        Catching(inner)
    }
}

impl Service<Call> for Catching {
    type Response = Reply;
    type Error = Failure;
    type Future = BoxFuture<'static, Result<Reply, Failure>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, call: Call) -> Self::Future {
        // A handler may panic before its first await, while its future is being made.
        let made = std::panic::catch_unwind(AssertUnwindSafe(|| self.0.call(call)));
        async move {
            let ended = match made {
                Ok(future) => AssertUnwindSafe(future).catch_unwind().await,
                Err(panic) => Err(panic),
            };
            ended.unwrap_or_else(|panic| Err(panicked(panic.as_ref())))
        }
        .boxed()
    }
}

/// The failure of a panic, with its message.
pub(crate) fn panicked(panic: &(dyn Any + Send)) -> Failure {
    let message = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    Failure::new(codes::HANDLER_PANICKED, message.unwrap_or("the handler panicked"))
}
