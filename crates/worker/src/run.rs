//! Running the handler: on the caller's runtime, under its timeout, until it ends or is known to ignore its end.

use std::{sync::Arc, time::Duration};

use broker::task;
use bytes::Bytes;
use protocol::{Failure, Request, codes, limits};
use tokio::task::{JoinError, JoinHandle};
use tower::ServiceExt;

use crate::{
    Call, Context, Reply,
    attempt_end::{AttemptEnd, timed_out},
    layer,
    pipeline::Job,
};

/// How long a dropped handler may take to be gone: more only if it blocks its thread.
const DROPPED_WITHIN: Duration = Duration::from_millis(200);

/// Why a handler was told to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    Timeout,
    Cancelled,
    Leaving,
}

type Ended = Result<Result<Reply, Failure>, JoinError>;

impl Job {
    /// Runs one attempt to its end.
    pub(crate) async fn attempt(&mut self, request: &Request, body: Bytes) -> AttemptEnd {
        let machinery = Arc::clone(&self.machinery);
        let timeout = request.timeout.unwrap_or(self.served().config.timeout);
        let (token, wants_proof) = machinery.cancels.begin(&request.id);
        if wants_proof {
            machinery.prove_cancelled(&request.id);
        }
        let surroundings = Arc::clone(&machinery.surroundings);
        let capability = self.served().capability.clone();
        let context = Context::new(request.clone(), capability, timeout, token.clone(), surroundings);
        let call = Call { context: context.clone(), body, content_type: request.content_type.clone() };
        let mut handler = machinery.handlers.spawn(self.served().service.clone().oneshot(call));
        let limit = self.limit(request, timeout);
        let why = tokio::select! {
            biased;
            ended = &mut handler => {
                machinery.cancels.end(&request.id);
                return in_time(ended);
            }
            () = token.cancelled() => Why::Cancelled,
            () = machinery.grace_over.cancelled() => Why::Leaving,
            () = tokio::time::sleep(limit) => Why::Timeout,
        };
        machinery.cancels.end(&request.id);
        // A deadline that came sooner says nothing about how long the work takes.
        if why == Why::Timeout && limit >= timeout {
            context.time_out();
        }
        token.cancel();
        if !context.is_watched() {
            handler.abort();
        }
        let ended = tokio::time::timeout(machinery.config.stop_grace, &mut handler).await;
        match ended {
            Ok(ended) => late(why, ended, limit),
            Err(_) => Box::pin(self.give_up_on(handler, why, limit)).await,
        }
    }

    /// What is left of the timeout, and no longer than the deadline.
    fn limit(&self, request: &Request, timeout: Duration) -> Duration {
        let left = request.deadline.map(|deadline| deadline - self.machinery.clock.now());
        left.map_or(timeout, |left| left.to_std().unwrap_or(Duration::ZERO).min(timeout))
    }

    /// The handler did not heed its cancellation: it is dropped, and if it blocks its thread it keeps its slot.
    async fn give_up_on(
        &mut self,
        mut handler: JoinHandle<Result<Reply, Failure>>,
        why: Why,
        limit: Duration,
    ) -> AttemptEnd {
        handler.abort();
        if let Ok(ended) = tokio::time::timeout(DROPPED_WITHIN, &mut handler).await {
            return late(why, ended, limit);
        }
        let held = self.slot.stuck();
        let capability = self.served().capability.clone();
        tracing::error!(%capability, slots = self.machinery.slots.total(), "a handler ignores its end and holds its slot");
        let waiting = task::spawn("stuck handler", async move {
            let _ = handler.await;
            drop(held);
        });
        waiting.detach();
        match why {
            Why::Timeout => AttemptEnd::Failed(timed_out(limit, false)),
            Why::Cancelled => AttemptEnd::Cancelled,
            Why::Leaving => AttemptEnd::HandedBack,
        }
    }
}

/// It ended before it was told to.
fn in_time(ended: Ended) -> AttemptEnd {
    match ended {
        Ok(Ok(reply)) if reply.body.len() > limits::BODY_BYTES_MAX => AttemptEnd::Failed(Failure::new(
            codes::RESULT_TOO_LARGE,
            format!("the result has {} bytes; {} are allowed", reply.body.len(), limits::BODY_BYTES_MAX),
        )),
        Ok(Ok(reply)) => AttemptEnd::Completed(reply),
        Ok(Err(failure)) => AttemptEnd::Failed(failure),
        Err(error) if error.is_panic() => AttemptEnd::Failed(layer::panicked(error.into_panic().as_ref())),
        // The caller's runtime is shutting down: somebody else does it.
        Err(_) => AttemptEnd::HandedBack,
    }
}

/// It ended after it was told to. A result counts all the same: the work is done.
fn late(why: Why, ended: Ended, limit: Duration) -> AttemptEnd {
    match (why, ended) {
        (Why::Cancelled, _) => AttemptEnd::Cancelled,
        (_, Ok(Ok(reply))) => in_time(Ok(Ok(reply))),
        (Why::Timeout, ended) => {
            let mut failure = timed_out(limit, true);
            // What it says of its end tells where it stood.
            failure.details = ended.ok().and_then(Result::err).and_then(|failure| failure.details);
            AttemptEnd::Failed(failure)
        }
        (Why::Leaving, _) => AttemptEnd::HandedBack,
    }
}
