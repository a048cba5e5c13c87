//! Stops calling what fails all the time, and finds out by few calls when it may be called again.

use std::{
    task::{Context as TaskContext, Poll},
    time::Duration,
};

use futures_util::{FutureExt, future::BoxFuture};
use protocol::{
    BreakerName, Capability, Failure, Origin, RequestId,
    breaker::{Admission, Settings},
    codes, limits,
};
use tower::{Layer, Service, ServiceExt};

use crate::{BoxService, Call, Context, Reply, breakers::Ending};

/// How much longer than its timeout a trial may take before it is given up: its worker stops it, and says so.
const TRIAL_GRACE: Duration = Duration::from_secs(15);

/// A breaker before a capability. It opens after so many failures in a row in one instance, and then the whole fleet knows:
/// no request of the capability is begun, and none fails; they wait, or go to a fallback. Half open, a few are let through.
/// Failures count that another attempt may mend, and those of other services; what the caller did wrong does not.
#[derive(Clone, Debug, Default)]
pub struct CircuitBreaker {
    pub(crate) name: Option<String>,
    pub(crate) settings: Settings,
    pub(crate) fallback: Option<String>,
}

/// A breaker whose names were checked.
#[derive(Clone, Debug)]
pub(crate) struct Standing {
    pub(crate) name: BreakerName,
    pub(crate) fallback: Option<Capability>,
}

/// What [`Standing`] makes of a handler.
#[derive(Clone, Debug)]
pub(crate) struct Guarded {
    inner: BoxService,
    standing: Standing,
}

/// Tells how an attempt ended, also where it is dropped.
struct Watch<'a> {
    context: &'a Context,
    name: &'a BreakerName,
    is_trial: bool,
    is_told: bool,
}

impl CircuitBreaker {
    /// Named like its capability: opens at 5 failures in a row, for 30 s, then lets 3 through.
    pub fn new() -> Self {
        Self::default()
    }

    /// With a name of its own: capabilities that call the same thing share a breaker, in this program and in others.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Opens after so many failures in a row. Defaults to 5.
    #[must_use]
    pub fn failures(mut self, failures: u32) -> Self {
        self.settings.failures = failures;
        self
    }

    /// Stays open for so long. Defaults to 30 s.
    #[must_use]
    pub fn open_for(mut self, open_for: Duration) -> Self {
        self.settings.open_for = open_for;
        self
    }

    /// Lets so many through, half open; as many successes close it. Defaults to 3.
    #[must_use]
    pub fn trials(mut self, trials: u32) -> Self {
        self.settings.trials = trials;
        self
    }

    /// While it is open, another capability does the requests, under the same ids. Unique work waits all the same: it
    /// cannot leave its key. So does what already came from that capability. Defaults to none: requests wait.
    #[must_use]
    pub fn fallback(mut self, capability: impl Into<String>) -> Self {
        self.fallback = Some(capability.into());
        self
    }
}

impl Layer<BoxService> for Standing {
    type Service = Guarded;
    fn layer(&self, inner: BoxService) -> Guarded {
        Guarded { inner, standing: self.clone() }
    }
}

impl Service<Call> for Guarded {
    type Response = Reply;
    type Error = Failure;
    type Future = BoxFuture<'static, Result<Reply, Failure>>;

    fn poll_ready(&mut self, _context: &mut TaskContext<'_>) -> Poll<Result<(), Failure>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: Call) -> Self::Future {
        let (inner, Standing { name, fallback }) = (self.inner.clone(), self.standing.clone());
        async move {
            let context = call.context.clone();
            let patience = context.timeout().saturating_add(TRIAL_GRACE);
            let is_trial = match context.breakers().admit(&name, context.id(), patience).await {
                Admission::Pass => false,
                Admission::Trial => true,
                Admission::Wait(left) => return Err(turned_away(&context, &name, fallback.as_ref(), left)),
            };
            let mut watch = Watch { context: &context, name: &name, is_trial, is_told: false };
            let ended = inner.oneshot(call).await;
            watch.tell(Ending::of(&ended));
            ended
        }
        .boxed()
    }
}

fn turned_away(context: &Context, name: &BreakerName, fallback: Option<&Capability>, left: Duration) -> Failure {
    match fallback {
        Some(fallback) if may_go(context.id(), context.came_from(), fallback) => Failure::hand_over(fallback.clone()),
        _ => Failure::new(codes::CIRCUIT_OPEN, format!("the circuit breaker {name} is open")).snoozing(left),
    }
}

/// Unique work cannot leave its key; and where every fallback is broken, too, a request would go round for ever.
fn may_go(id: &RequestId, came_from: &[Capability], fallback: &Capability) -> bool {
    !matches!(id.origin(), Origin::UniqueSequence(_))
        && !came_from.contains(fallback)
        && came_from.len() < limits::FALLBACKS_MAX
}

impl Watch<'_> {
    fn tell(&mut self, ending: Ending) {
        self.is_told = true;
        self.context.breakers().ended(self.name, self.context.id(), self.is_trial, ending);
    }
}

impl Drop for Watch<'_> {
    /// The attempt was stopped: by its own timeout, which counts like any other, or by a cancellation or a drain.
    fn drop(&mut self) {
        if self.is_told {
            return;
        }
        self.tell(if self.context.is_timed_out() {
            Ending::Failed { code: codes::TIMEOUT.to_owned(), message: "the attempt took too long".to_owned() }
        } else {
            Ending::Nothing
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_go_to_a_fallback() {
        let name = |text: &str| Capability::parse(text).unwrap();
        let id = |text: &str| RequestId::parse(text).unwrap();
        assert!(may_go(&id("req_1"), &[], &name("b")));
        assert!(may_go(&id("seq-7"), &[name("a")], &name("b")));
        assert!(!may_go(&id("req_1"), &[name("a"), name("b")], &name("b")), "round for ever");
        assert!(!may_go(&id("useq-7"), &[], &name("b")), "it would leave its key");
        let long: Vec<Capability> = (0..limits::FALLBACKS_MAX).map(|number| name(&format!("a{number}"))).collect();
        assert!(!may_go(&id("req_1"), &long, &name("b")));
    }

    #[test]
    fn what_counts_against_a_breaker() {
        let counts = |failure: Failure| matches!(Ending::of::<()>(&Err(failure)), Ending::Failed { .. });
        assert!(counts(Failure::new("busy", "x")));
        assert!(counts(Failure::new("busy", "x").category(protocol::Category::ExternalService).give_up()));
        assert!(counts(Failure::new(codes::TIMEOUT, "x")));
        assert!(!counts(Failure::new(codes::INVALID_INPUT, "x")));
        assert!(!counts(Failure::new(codes::INVALID_INPUT, "x").retry()));
        assert!(!counts(Failure::new("gone", "x").give_up()));
        assert!(!counts(Failure::new(codes::OVERLOADED, "x")));
        assert!(!counts(Failure::snooze(Duration::from_secs(1))));
        assert!(matches!(Ending::of(&Ok(())), Ending::Succeeded));
    }
}
