//! Puts every attempt into a span, with the caller's trace context.

use std::task::{Context, Poll};

use protocol::Failure;
use tower::{Layer, Service};
use tracing::{Instrument, instrument::Instrumented};

use crate::{BoxService, Call, Reply};

/// Opens a span `process <capability>` around the handler, named and attributed as OpenTelemetry's messaging
/// conventions say; whatever the handler logs carries request id, capability and attempt.
#[derive(Clone, Copy, Debug, Default)]
pub struct Trace;

/// What [`Trace`] makes of a handler.
#[derive(Clone, Debug)]
pub struct Traced(BoxService);

impl Layer<BoxService> for Trace {
    type Service = Traced;
    fn layer(&self, inner: BoxService) -> Traced {
        Traced(inner)
    }
}

impl Service<Call> for Traced {
    type Response = Reply;
    type Error = Failure;
    type Future = Instrumented<<BoxService as Service<Call>>::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, call: Call) -> Self::Future {
        let context = &call.context;
        let span = tracing::info_span!(
            "attempt",
            otel.name = %format_args!("process {}", context.capability()),
            messaging.system = "nats",
            messaging.message.id = %context.id(),
            request.id = %context.id(),
            capability = %context.capability(),
            attempt = context.attempt(),
            traceparent = context.trace().parent.as_deref().unwrap_or_default(),
        );
        self.0.call(call).instrument(span)
    }
}
