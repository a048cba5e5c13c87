//! What all parts of a running worker share.

use std::{sync::Arc, time::Duration};

use broker::{BrokerClock, Connection, Delivery, PayloadStore, Publisher, task};
use protocol::{
    Capability, Lane, RequestId,
    topology::{Consumer, Names, Source},
};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::{
    BoxService, CapabilityConfig, Config, Metrics, Shutdown, cancels::Cancels, context::Surroundings, gate::Gate,
    hold::Holds, in_hand::Hands, lookup::Lookup, marks::Marks, pause::Pause, refused::Refused, slots::Slots,
};

/// How often, and how far apart, the proof of a cancellation is looked for.
const PROOF_LOOKS: u32 = 5;
const PROOF_WAIT: Duration = Duration::from_millis(200);

/// One capability as it is served.
#[derive(Debug)]
pub(crate) struct Served {
    pub(crate) capability: Capability,
    pub(crate) config: CapabilityConfig,
    pub(crate) service: BoxService,
}

/// One consumer that is pulled from.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    pub(crate) consumer: Consumer,
    pub(crate) source: Source,
    /// Index into what is served.
    pub(crate) served: usize,
}

/// What all parts of a running worker share.
#[derive(Debug)]
pub(crate) struct Machinery {
    pub(crate) config: Config,
    pub(crate) names: Names,
    pub(crate) connection: Connection,
    pub(crate) publisher: Publisher,
    pub(crate) payloads: PayloadStore,
    pub(crate) clock: BrokerClock,
    pub(crate) lookup: Lookup,
    pub(crate) marks: Marks,
    pub(crate) holds: Arc<Holds>,
    pub(crate) hands: Arc<Hands>,
    pub(crate) refused: Refused,
    pub(crate) cancels: Cancels,
    pub(crate) gate: Gate,
    pub(crate) slots: Arc<Slots>,
    pub(crate) pause: Pause,
    pub(crate) logs: process::Logs,
    pub(crate) metrics: Metrics,
    pub(crate) surroundings: Arc<Surroundings>,
    pub(crate) served: Vec<Served>,
    pub(crate) routes: Vec<Route>,
    /// Where handlers run: the caller's runtime.
    pub(crate) handlers: Handle,
    pub(crate) shutdown: Shutdown,
    /// Cancelled when the grace of a drain is over.
    pub(crate) grace_over: CancellationToken,
}

impl Machinery {
    /// The id of a message that names none.
    pub(crate) fn fallback_id(route: &Route, delivery: &Delivery) -> RequestId {
        match route.source {
            Source::Unique => RequestId::of_unique_sequence(delivery.sequence),
            Source::Lane(_) => RequestId::of_sequence(delivery.sequence),
        }
    }

    /// Looks whether the outcome is there that proves a cancellation which was heard, and then tells what runs. A replica
    /// may be behind, so it looks some times.
    pub(crate) fn prove_cancelled(self: &Arc<Self>, id: &RequestId) {
        let (machinery, id) = (Arc::clone(self), id.clone());
        let proving = task::spawn("proof of a cancellation", async move {
            for _ in 0..PROOF_LOOKS {
                if let Ok(Some(_)) = machinery.lookup.outcome(&id).await {
                    return machinery.cancels.prove(&id);
                }
                tokio::time::sleep(PROOF_WAIT).await;
            }
            machinery.cancels.forget(&id);
        });
        proving.detach();
    }

    /// How long ago the broker stored a message, on its own clock.
    pub(crate) fn age(&self, delivery: &Delivery) -> Duration {
        (self.clock.now() - delivery.published_at).to_std().unwrap_or(Duration::ZERO)
    }
}

impl Route {
    /// The lane that a dead letter or a retry names.
    pub(crate) fn lane(&self) -> Lane {
        match self.source {
            Source::Lane(lane) => lane,
            Source::Unique => Lane::Normal,
        }
    }
}
