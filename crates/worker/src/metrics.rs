//! What a worker counts. Labels are closed sets: capabilities of this worker and ends.

use std::{sync::Arc, time::Duration};

use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, IntGauge, Opts, Registry};
use protocol::registry::Counts;

/// What a worker counts; clones count the same.
#[derive(Clone, Debug)]
pub struct Metrics {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    ends: IntCounterVec,
    handler: HistogramVec,
    waited: HistogramVec,
    slots: IntGauge,
    slots_busy: IntGauge,
    redelivered: IntCounterVec,
    held_back: IntCounterVec,
}

/// Ends that are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Completed,
    Retried,
    Snoozed,
    HandedOver,
    GivenUp,
    Expired,
    Superseded,
    Cancelled,
    HandedBack,
    Lost,
}

impl End {
    const ALL: [Self; 10] = [
        Self::Completed,
        Self::Retried,
        Self::Snoozed,
        Self::HandedOver,
        Self::GivenUp,
        Self::Expired,
        Self::Superseded,
        Self::Cancelled,
        Self::HandedBack,
        Self::Lost,
    ];

    fn label(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Retried => "retried",
            Self::Snoozed => "snoozed",
            Self::HandedOver => "handed_over",
            Self::GivenUp => "given_up",
            Self::Expired => "expired",
            Self::Superseded => "superseded",
            Self::Cancelled => "cancelled",
            Self::HandedBack => "handed_back",
            Self::Lost => "lost",
        }
    }
}

impl Metrics {
    /// Registers them.
    ///
    /// # Errors
    /// When the registry has metrics of these names already: one worker per registry.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counter = |name: &str, help: &str, labels: &[&str]| IntCounterVec::new(Opts::new(name, help), labels);
        let inner = Inner {
            ends: counter("sortie_worker_attempts_total", "Attempts by how they ended", &["capability", "end"])?,
            handler: HistogramVec::new(
                HistogramOpts::new("sortie_worker_handler_seconds", "How long handlers took")
                    .buckets(vec![0.001, 0.005, 0.025, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 1_800.0]),
                &["capability", "end"],
            )?,
            waited: HistogramVec::new(
                HistogramOpts::new("sortie_worker_queue_wait_seconds", "From stored to begun, on the broker's clock")
                    .buckets(vec![0.001, 0.005, 0.025, 0.1, 0.5, 1.0, 5.0, 30.0, 300.0, 3_600.0]),
                &["capability"],
            )?,
            slots: IntGauge::new("sortie_worker_slots", "Slots")?,
            slots_busy: IntGauge::new("sortie_worker_slots_busy", "Slots in use")?,
            redelivered: counter(
                "sortie_worker_redelivered_total",
                "Messages that had been delivered before",
                &["capability"],
            )?,
            held_back: counter(
                "sortie_worker_crossed_total",
                "Messages that came when no slot was free",
                &["capability"],
            )?,
        };
        registry.register(Box::new(inner.ends.clone()))?;
        registry.register(Box::new(inner.handler.clone()))?;
        registry.register(Box::new(inner.waited.clone()))?;
        registry.register(Box::new(inner.slots.clone()))?;
        registry.register(Box::new(inner.slots_busy.clone()))?;
        registry.register(Box::new(inner.redelivered.clone()))?;
        registry.register(Box::new(inner.held_back.clone()))?;
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Begins to count a capability. A counter that is not there before it counts its first has no increase then.
    pub(crate) fn begin(&self, capability: &str) {
        for end in End::ALL {
            self.inner.ends.with_label_values(&[capability, end.label()]);
        }
        self.inner.redelivered.with_label_values(&[capability]);
        self.inner.held_back.with_label_values(&[capability]);
    }

    pub(crate) fn ended(&self, capability: &str, end: End) {
        self.inner.ends.with_label_values(&[capability, end.label()]).inc();
    }

    pub(crate) fn handler_ended(&self, capability: &str, is_ok: bool, took: Duration) {
        let end = if is_ok { "ok" } else { "failed" };
        self.inner.handler.with_label_values(&[capability, end]).observe(took.as_secs_f64());
    }

    pub(crate) fn begun(&self, capability: &str, waited: Duration) {
        self.inner.waited.with_label_values(&[capability]).observe(waited.as_secs_f64());
    }

    pub(crate) fn redelivered(&self, capability: &str) {
        self.inner.redelivered.with_label_values(&[capability]).inc();
    }

    pub(crate) fn crossed(&self, capability: &str) {
        self.inner.held_back.with_label_values(&[capability]).inc();
    }

    pub(crate) fn slots(&self, total: usize, busy: usize) {
        self.inner.slots.set(i64::try_from(total).unwrap_or(i64::MAX));
        self.inner.slots_busy.set(i64::try_from(busy).unwrap_or(i64::MAX));
    }

    /// The counts that the registry entry shows.
    pub(crate) fn counts<'a>(&self, capabilities: impl Iterator<Item = &'a str> + Clone) -> Counts {
        let of = |wanted: &[End]| {
            let ends = End::ALL.iter().filter(|end| wanted.contains(end));
            ends.flat_map(|end| capabilities.clone().map(move |capability| [capability, end.label()]))
                .map(|labels| self.inner.ends.with_label_values(&labels).get())
                .sum()
        };
        Counts {
            completed: of(&[End::Completed]),
            failed: of(&[End::GivenUp]),
            retried: of(&[End::Retried]),
            superseded: of(&[End::Superseded]),
        }
    }
}
