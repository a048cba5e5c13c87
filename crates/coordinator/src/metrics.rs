use prometheus::{Gauge, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

use crate::{gauges::FleetGauges, runs::RunMetrics};

/// What a coordinator measures. Labels are the names of duties.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// 1 where this coordinator holds a duty's lease.
    pub lease_held: IntGaugeVec,
    /// Looks that ended, by duty.
    pub looks: IntCounterVec,
    /// Looks that ended with an error, by duty.
    pub looks_failed: IntCounterVec,
    /// Messages that the broker had given up and that were worked off.
    pub dead_letters: IntCounter,
    /// Schedules that were published again.
    pub overdue: IntCounter,
    /// Schedules of recurring requests that were published or purged because they were not what their specs say.
    pub cron_mended: IntCounter,
    /// Firings of recurring requests that must not overlap, by what became of them: `published`, `skipped`.
    pub cron_fired: IntCounterVec,
    /// What triggers did for events, by what became of it: `done`, `failed`.
    pub triggers: IntCounterVec,
    /// Specs of recurring requests that cannot be read, or that the broker refuses.
    pub cron_invalid: IntGauge,
    /// Requests that expired unattended.
    pub expired: IntCounter,
    /// Capabilities that have work and nobody who serves them, as the holder of the duty sees it.
    pub capabilities_unserved: IntGauge,
    /// Agents whose going was told.
    pub agents_gone: IntCounter,
    /// Dead letters that a rule has sent again.
    pub redriven: IntCounter,
    /// Redrive rules that are broken and do nothing, as the holder of the duty sees it.
    pub redrive_rules_broken: IntGauge,
    /// 1 while the broker refuses to store anything more.
    pub store_refused: Gauge,
    /// The runs that this coordinator keeps.
    pub runs: RunMetrics,
    /// What the fleet as a whole looks like.
    pub fleet: FleetGauges,
}

impl Metrics {
    /// Registers them.
    ///
    /// # Errors
    /// They are there already.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let by_duty = |name: &str, help: &str| IntCounterVec::new(Opts::new(name, help), &["duty"]);
        let held = Opts::new("sortie_coordinator_lease_held", "1 where this coordinator holds the duty's lease.");
        let metrics = Self {
            lease_held: IntGaugeVec::new(held, &["duty"])?,
            looks: by_duty("sortie_coordinator_looks_total", "Looks that ended.")?,
            looks_failed: by_duty("sortie_coordinator_looks_failed_total", "Looks that ended with an error.")?,
            dead_letters: IntCounter::new(
                "sortie_coordinator_dead_letters_total",
                "Messages that the broker had given up and that were worked off.",
            )?,
            overdue: IntCounter::new(
                "sortie_coordinator_overdue_total",
                "Schedules that did not fire and were published again.",
            )?,
            cron_mended: IntCounter::new(
                "sortie_coordinator_cron_mended_total",
                "Schedules that were made to be what their specs say.",
            )?,
            cron_fired: IntCounterVec::new(
                Opts::new("sortie_coordinator_cron_fired_total", "Firings that must not overlap."),
                &["end"],
            )?,
            triggers: IntCounterVec::new(
                Opts::new("sortie_coordinator_triggers_total", "What triggers did for events."),
                &["end"],
            )?,
            cron_invalid: IntGauge::new(
                "sortie_coordinator_cron_invalid",
                "Specs of recurring requests that cannot be read, or that the broker refuses.",
            )?,
            expired: IntCounter::new("sortie_coordinator_expired_total", "Requests that expired unattended.")?,
            capabilities_unserved: IntGauge::new(
                "sortie_coordinator_capabilities_unserved",
                "Capabilities that have work and nobody who serves them.",
            )?,
            agents_gone: IntCounter::new("sortie_coordinator_agents_gone_total", "Agents whose going was told.")?,
            redriven: IntCounter::new("sortie_coordinator_redriven_total", "Dead letters that a rule has sent again.")?,
            redrive_rules_broken: IntGauge::new(
                "sortie_coordinator_redrive_rules_broken",
                "Redrive rules that are broken and do nothing.",
            )?,
            store_refused: Gauge::new(
                "sortie_coordinator_store_refused",
                "1 while the broker refuses to store anything more.",
            )?,
            runs: RunMetrics::new(registry)?,
            fleet: FleetGauges::new(registry)?,
        };
        registry.register(Box::new(metrics.lease_held.clone()))?;
        registry.register(Box::new(metrics.looks.clone()))?;
        registry.register(Box::new(metrics.looks_failed.clone()))?;
        registry.register(Box::new(metrics.dead_letters.clone()))?;
        registry.register(Box::new(metrics.overdue.clone()))?;
        registry.register(Box::new(metrics.cron_mended.clone()))?;
        registry.register(Box::new(metrics.cron_fired.clone()))?;
        registry.register(Box::new(metrics.triggers.clone()))?;
        registry.register(Box::new(metrics.cron_invalid.clone()))?;
        registry.register(Box::new(metrics.expired.clone()))?;
        registry.register(Box::new(metrics.capabilities_unserved.clone()))?;
        registry.register(Box::new(metrics.agents_gone.clone()))?;
        registry.register(Box::new(metrics.redriven.clone()))?;
        registry.register(Box::new(metrics.redrive_rules_broken.clone()))?;
        registry.register(Box::new(metrics.store_refused.clone()))?;
        Ok(metrics)
    }
}
