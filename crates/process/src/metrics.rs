//! What every process measures about itself.

use nix::sys::{
    resource::{UsageWho, getrusage},
    time::TimeValLike,
};
use prometheus::{
    Counter, Gauge, GaugeVec, Opts, Registry,
    core::{Collector, Desc},
    proto::MetricFamily,
};

/// Puts `sortie_build_info{binary, version}` and the usual `process_*` metrics on a registry.
///
/// # Errors
/// They are there already.
pub fn register(registry: &Registry, binary: &str, version: &str) -> Result<(), prometheus::Error> {
    let build = Opts::new("sortie_build_info", "Which build this is; always 1.");
    let build = GaugeVec::new(build, &["binary", "version"])?;
    build.with_label_values(&[binary, version]).set(1.0);
    registry.register(Box::new(build))?;
    registry.register(Box::new(ProcessMetrics::new()?))
}

/// Read when they are asked for, so that they cost nothing in between.
struct ProcessMetrics {
    start_time: Gauge,
    cpu: Counter,
    memory: Gauge,
    open_files: Gauge,
}

impl ProcessMetrics {
    fn new() -> Result<Self, prometheus::Error> {
        let start_time = Gauge::new("process_start_time_seconds", "When the process started, in Unix time.")?;
        start_time.set(protocol::time::now().timestamp_millis() as f64 / 1e3);
        Ok(Self {
            start_time,
            cpu: Counter::new("process_cpu_seconds_total", "Time on processors, user and system.")?,
            memory: Gauge::new("process_resident_memory_bytes", "Memory in use; 0 where it cannot be read.")?,
            open_files: Gauge::new("process_open_fds", "Open file descriptors; 0 where they cannot be counted.")?,
        })
    }

    fn read(&self) {
        if let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) {
            let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
            let more = micros as f64 / 1e6 - self.cpu.get();
            if more > 0.0 {
                self.cpu.inc_by(more);
            }
        }
        if let Ok(status) = std::fs::read_to_string("/proc/self/status") {
            self.memory.set(resident_bytes(&status).unwrap_or_default() as f64);
        }
        if let Ok(files) = std::fs::read_dir("/proc/self/fd") {
            self.open_files.set(files.count() as f64);
        }
    }

    fn collectors(&self) -> [&dyn Collector; 4] {
        [&self.start_time, &self.cpu, &self.memory, &self.open_files]
    }
}

impl Collector for ProcessMetrics {
    fn desc(&self) -> Vec<&Desc> {
        self.collectors().into_iter().flat_map(Collector::desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.read();
        self.collectors().into_iter().flat_map(Collector::collect).collect()
    }
}

fn resident_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
    use super::*;

    #[test]
    fn resident_memory_is_read_in_bytes() {
        assert_eq!(resident_bytes("VmHWM:\t  9 kB\nVmRSS:\t    12 kB\n"), Some(12 * 1024));
        assert_eq!(resident_bytes("Name:\tx\n"), None);
    }

    #[test]
    fn a_process_measures_itself_and_once_only() {
        let registry = Registry::new();
        register(&registry, "agent", "1.2.3").unwrap();
        let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        for line in [
            "sortie_build_info{binary=\"agent\",version=\"1.2.3\"} 1",
            "process_start_time_seconds ",
            "process_cpu_seconds_total ",
            "process_resident_memory_bytes ",
            "process_open_fds ",
        ] {
            assert!(text.lines().any(|have| have.starts_with(line)), "{line} in {text}");
        }
        assert!(register(&registry, "agent", "1.2.3").is_err());
    }
}
