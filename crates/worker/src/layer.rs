//! Layers around handlers, a file each. Any `tower` layer over [`BoxService`] fits beside them.
//!
//! The order is written here once, outermost first: trace, metrics, the worker's layers in the order in which they
//! were added; then of the capability its retry rules (they see every failure), its schemas (what is no input costs no token), its
//! cache (what is found costs none, either), its rate limit, its circuit breaker (what is not let through must hold no trial),
//! the layers that were added, in their order; the panic catcher, the handler. The attempt's own timeout is not a
//! layer: it also holds against handlers that ignore it.

use protocol::{BreakerName, Capability, Failure};
use tower::{Layer, Service, util::BoxCloneSyncService};

use crate::{BoxService, Call, Metrics, Reply};

mod cache;
mod catch_panic;
mod circuit_breaker;
mod concurrency;
pub mod declared;
mod measure;
mod rate_limit;
mod retry_rules;
mod schema;
mod timeout;
mod trace;

pub use cache::Cache;
pub use catch_panic::CatchPanic;
pub(crate) use catch_panic::panicked;
pub use circuit_breaker::CircuitBreaker;
pub(crate) use circuit_breaker::Standing;
pub use concurrency::{Concurrency, WhenFull};
pub use declared::Layers;
pub(crate) use measure::Measure;
pub use rate_limit::RateLimit;
pub use retry_rules::{RetryRules, Then, When};
pub use schema::{FAULTS_MAX, Shapes};
pub use timeout::Timeout;
pub use trace::Trace;

/// A layer with its types taken away.
pub(crate) type AnyLayer = std::sync::Arc<dyn Fn(BoxService) -> BoxService + Send + Sync>;

/// Takes a layer's types away.
pub(crate) fn any<L>(layer: L) -> AnyLayer
where
    L: Layer<BoxService> + Send + Sync + 'static,
    L::Service: Service<Call, Response = Reply, Error = Failure> + Clone + Send + Sync + 'static,
    <L::Service as Service<Call>>::Future: Send + 'static,
{
    std::sync::Arc::new(move |inner| BoxCloneSyncService::new(layer.layer(inner)))
}

/// The layers of one capability: those that have a place of their own, and those that were added.
#[derive(Default)]
pub(crate) struct Stack {
    pub(crate) retry_rules: Option<RetryRules>,
    pub(crate) is_validated: bool,
    pub(crate) cache: Option<Cache>,
    pub(crate) rate_limit: Option<RateLimit>,
    pub(crate) circuit_breaker: Option<CircuitBreaker>,
    pub(crate) added: Vec<AnyLayer>,
}

impl Stack {
    /// The circuit breaker as it stands before this capability.
    ///
    /// # Errors
    /// Its name or its fallback is none.
    pub(crate) fn standing(&self, capability: &Capability) -> Result<Option<Standing>, String> {
        let Some(breaker) = &self.circuit_breaker else { return Ok(None) };
        let name = match &breaker.name {
            Some(name) => BreakerName::parse(name).map_err(|error| error.to_string())?,
            None => BreakerName::from(capability),
        };
        let fallback = match &breaker.fallback {
            Some(fallback) => Some(Capability::parse(fallback).map_err(|error| error.to_string())?),
            None => None,
        };
        Ok(Some(Standing { name, fallback }))
    }

    /// Wraps a handler, in the order that this module says in words.
    pub(crate) fn wrap(
        &self,
        capability: &Capability,
        handler: BoxService,
        standing: Option<Standing>,
        shapes: Option<Shapes>,
        of_worker: &[AnyLayer],
        metrics: &Metrics,
    ) -> BoxService {
        let mut service = any(CatchPanic)(handler);
        for wrapping in self.added.iter().rev() {
            service = wrapping(service);
        }
        if let Some(standing) = standing {
            service = any(standing)(service);
        }
        if let Some(limit) = &self.rate_limit {
            service = any(limit.clone())(service);
        }
        if let Some(cache) = &self.cache {
            service = any(cache.clone())(service);
        }
        if let Some(shapes) = shapes {
            service = any(shapes)(service);
        }
        if let Some(rules) = &self.retry_rules {
            let (rules, faults) = rules.compile();
            for fault in faults {
                tracing::warn!(%capability, fault, "a retry rule is left out");
            }
            service = any(rules)(service);
        }
        for wrapping in of_worker.iter().rev() {
            service = wrapping(service);
        }
        any(Trace)(any(Measure(metrics.clone()))(service))
    }
}
