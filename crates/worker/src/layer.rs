//! Layers around handlers, a file each. Any `tower` layer over [`BoxService`] fits beside them.
//!
//! The order is written here once, outermost first: trace, metrics, the worker's layers in the order in which they
//! were added, the capability's layers likewise, the panic catcher, the handler. The attempt's own timeout is not a
//! layer: it also holds against handlers that ignore it.

use protocol::Failure;
use tower::{Layer, Service, util::BoxCloneSyncService};

use crate::{BoxService, Call, Reply};

mod catch_panic;
mod concurrency;
mod measure;
mod timeout;
mod trace;

pub use catch_panic::CatchPanic;
pub(crate) use catch_panic::panicked;
pub use concurrency::{Concurrency, WhenFull};
pub(crate) use measure::Measure;
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
