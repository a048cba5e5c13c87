//! What the fleet as a whole looks like, as figures: what no single process of it can say of itself.

use prometheus::{Gauge, GaugeVec, IntGauge, IntGaugeVec, Opts, Registry, core::Collector};

/// Figures of the fleet, as the holder of the duty `gauges` saw it last; zero and without labels at every other
/// coordinator, so that a query takes the greatest of all. Labels are capabilities, lanes (`unique` is one of them) and
/// states.
#[derive(Clone, Debug)]
pub struct FleetGauges {
    /// Requests that wait to be delivered, by capability and lane.
    pub queue_pending: IntGaugeVec,
    /// Requests that are delivered and not acknowledged, by capability and lane.
    pub queue_in_flight: IntGaugeVec,
    /// How long the first of the waiting has lain in the queue, by capability and lane; 0 where none waits.
    pub queue_oldest: GaugeVec,
    /// 1 where a queue is paused, by capability and lane.
    pub queue_paused: IntGaugeVec,
    /// Retries, delays and recurring schedules that wait for their time.
    pub scheduled: IntGauge,
    /// Dead letters that are kept.
    pub dead_letters_kept: IntGauge,
    /// Agents in the registry, by state.
    pub agents: IntGaugeVec,
    /// Agents that serve a capability, by capability.
    pub agents_serving: IntGaugeVec,
    /// Bytes that everything stored takes.
    pub store_bytes: Gauge,
    /// Bytes that it may take; 0 where the account has no bound.
    pub store_bytes_max: Gauge,
}

impl FleetGauges {
    /// Registers them.
    ///
    /// # Errors
    /// They are there already.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        const QUEUE: &[&str] = &["capability", "lane"];
        let by = |name: &str, help: &str, labels: &[&str]| IntGaugeVec::new(opts(name, help), labels);
        let oldest = opts("queue_oldest_seconds", "How long the first of the waiting requests has lain there.");
        let gauges = Self {
            queue_pending: by("queue_pending", "Requests that wait to be delivered.", QUEUE)?,
            queue_in_flight: by("queue_in_flight", "Requests that are delivered and not acknowledged.", QUEUE)?,
            queue_oldest: GaugeVec::new(oldest, QUEUE)?,
            queue_paused: by("queue_paused", "1 where the queue is paused.", QUEUE)?,
            scheduled: IntGauge::with_opts(opts("scheduled", "Schedules that wait for their time."))?,
            dead_letters_kept: IntGauge::with_opts(opts("dead_letters_kept", "Dead letters that are kept."))?,
            agents: by("agents", "Agents in the registry.", &["state"])?,
            agents_serving: by("agents_serving", "Agents that serve the capability.", &["capability"])?,
            store_bytes: Gauge::with_opts(opts("store_bytes", "Bytes that everything stored takes."))?,
            store_bytes_max: Gauge::with_opts(opts("store_bytes_max", "Bytes that it may take; 0: no bound."))?,
        };
        for collector in gauges.collectors() {
            registry.register(collector)?;
        }
        Ok(gauges)
    }

    /// Forgets what was seen: another coordinator says it now.
    pub(crate) fn reset(&self) {
        for gauge in
            [&self.queue_pending, &self.queue_in_flight, &self.queue_paused, &self.agents, &self.agents_serving]
        {
            gauge.reset();
        }
        self.queue_oldest.reset();
        self.scheduled.set(0);
        self.dead_letters_kept.set(0);
        self.store_bytes.set(0.0);
        self.store_bytes_max.set(0.0);
    }

    fn collectors(&self) -> [Box<dyn Collector>; 10] {
        [
            Box::new(self.queue_pending.clone()),
            Box::new(self.queue_in_flight.clone()),
            Box::new(self.queue_oldest.clone()),
            Box::new(self.queue_paused.clone()),
            Box::new(self.scheduled.clone()),
            Box::new(self.dead_letters_kept.clone()),
            Box::new(self.agents.clone()),
            Box::new(self.agents_serving.clone()),
            Box::new(self.store_bytes.clone()),
            Box::new(self.store_bytes_max.clone()),
        ]
    }
}

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(format!("sortie_coordinator_{name}"), help)
}
