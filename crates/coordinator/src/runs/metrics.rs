use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

/// What a coordinator measures of the runs that it keeps.
#[derive(Clone, Debug)]
pub struct RunMetrics {
    /// Partitions of the runs' logs that this coordinator has.
    pub partitions_held: IntGauge,
    /// Starts by what became of them: `started`, `refused`, `repeated`.
    pub starts: IntCounterVec,
    /// Runs that ended, by status.
    pub ended: IntCounterVec,
    /// Facts that were folded.
    pub facts: IntCounter,
    /// Logs that were read because their runs were not in memory.
    pub loads: IntCounter,
    /// Runs in memory.
    pub in_memory: IntGauge,
}

impl RunMetrics {
    /// Registers them.
    ///
    /// # Errors
    /// They are there already.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let by = |name: &str, help: &str, label: &str| IntCounterVec::new(Opts::new(name, help), &[label]);
        let metrics = Self {
            partitions_held: IntGauge::new(
                "sortie_coordinator_run_partitions_held",
                "Partitions of the runs' logs that this coordinator has, of 16.",
            )?,
            starts: by("sortie_coordinator_run_starts_total", "Starts of runs that were taken.", "end")?,
            ended: by("sortie_coordinator_runs_ended_total", "Runs that ended.", "status")?,
            facts: IntCounter::new("sortie_coordinator_run_facts_total", "Facts of runs that were folded.")?,
            loads: IntCounter::new(
                "sortie_coordinator_run_loads_total",
                "Logs that were read because their runs were not in memory.",
            )?,
            in_memory: IntGauge::new("sortie_coordinator_runs_in_memory", "Runs that are in memory.")?,
        };
        registry.register(Box::new(metrics.partitions_held.clone()))?;
        registry.register(Box::new(metrics.starts.clone()))?;
        registry.register(Box::new(metrics.ended.clone()))?;
        registry.register(Box::new(metrics.facts.clone()))?;
        registry.register(Box::new(metrics.loads.clone()))?;
        registry.register(Box::new(metrics.in_memory.clone()))?;
        Ok(metrics)
    }
}
