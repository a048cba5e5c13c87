//! Measures how long handlers take and how they end.

use std::{
    task::{Context, Poll},
    time::Instant,
};

use futures_util::{FutureExt, future::BoxFuture};
use protocol::Failure;
use tower::{Layer, Service};

use crate::{BoxService, Call, Metrics, Reply};

/// Feeds the worker's metrics.
#[derive(Clone, Debug)]
pub(crate) struct Measure(pub(crate) Metrics);

/// What [`Measure`] makes of a handler.
#[derive(Clone, Debug)]
pub(crate) struct Measured {
    inner: BoxService,
    metrics: Metrics,
}

impl Layer<BoxService> for Measure {
    type Service = Measured;
    fn layer(&self, inner: BoxService) -> Measured {
        Measured { inner, metrics: self.0.clone() }
    }
}

impl Service<Call> for Measured {
    type Response = Reply;
    type Error = Failure;
    type Future = BoxFuture<'static, Result<Reply, Failure>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, call: Call) -> Self::Future {
        let capability = call.context.capability().clone();
        let (metrics, began) = (self.metrics.clone(), Instant::now());
        let ended = self.inner.call(call);
        async move {
            let ended = ended.await;
            metrics.handler_ended(capability.as_str(), ended.is_ok(), began.elapsed());
            ended
        }
        .boxed()
    }
}
