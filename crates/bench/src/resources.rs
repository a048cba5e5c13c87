//! What processes used while something was measured, as the kernel tells it under `/proc`.

use std::{collections::BTreeMap, fs, time::Instant};

use serde::{Deserialize, Serialize};

/// Ticks a second in `/proc/<pid>/stat`: `USER_HZ`, which is 100 on every Linux.
const TICKS: f64 = 100.0;

/// What one process used.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Used {
    /// What it is called.
    pub name: String,
    /// Processor time while the fleet was measured, in seconds.
    pub cpu_seconds: f64,
    /// That, over the time that went by: 1 is a whole core.
    pub cores: f64,
    /// Memory in the end, in bytes: resident set.
    pub resident_bytes: u64,
    /// The most memory that it ever had, in bytes.
    pub peak_bytes: u64,
}

/// Adds up what processes use between [`begin`](Meter::begin) and [`pause`](Meter::pause).
#[derive(Debug, Default)]
pub(crate) struct Meter {
    pids: BTreeMap<String, u32>,
    before: BTreeMap<String, f64>,
    began: Option<Instant>,
    used: BTreeMap<String, f64>,
    seconds: f64,
}

impl Meter {
    pub(crate) fn begin(&mut self, pids: BTreeMap<String, u32>) {
        self.pids = pids;
        self.before = self.cpu();
        self.began = Some(Instant::now());
    }

    pub(crate) fn pause(&mut self) {
        let Some(began) = self.began.take() else { return };
        self.seconds += began.elapsed().as_secs_f64();
        for (name, seconds) in self.cpu() {
            // Who was not there before began since then.
            *self.used.entry(name.clone()).or_default() += seconds - self.before.get(&name).copied().unwrap_or(0.0);
        }
    }

    /// What each used.
    pub(crate) fn used(&self) -> Vec<Used> {
        let of = |(name, pid): (&String, &u32)| {
            let cpu_seconds = self.used.get(name).copied().unwrap_or_default();
            Used {
                name: name.clone(),
                cpu_seconds,
                cores: if self.seconds > 0.0 { cpu_seconds / self.seconds } else { 0.0 },
                resident_bytes: status_bytes(*pid, "VmRSS:"),
                peak_bytes: status_bytes(*pid, "VmHWM:"),
            }
        };
        self.pids.iter().map(of).collect()
    }

    fn cpu(&self) -> BTreeMap<String, f64> {
        self.pids.iter().filter_map(|(name, pid)| Some((name.clone(), cpu_seconds(*pid)?))).collect()
    }
}

/// Processor time of a process so far, in seconds: user and system, of all its threads.
fn cpu_seconds(pid: u32) -> Option<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in brackets, may hold anything.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|text| text.parse::<f64>().ok());
    Some((ticks(11)? + ticks(12)?) / TICKS)
}

/// A size of `/proc/<pid>/status`, in bytes; 0 where there is none.
pub(crate) fn status_bytes(pid: u32, key: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(key));
    let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_works_is_seen_to_work() {
        let mut meter = Meter::default();
        meter.begin(BTreeMap::from([("this".to_owned(), std::process::id())]));
        let mut sum = 0_u64;
        // Until the kernel has counted something, at most a billion turns.
        for turn in 0..1_000_000_000_u64 {
            sum = sum.wrapping_add(std::hint::black_box(turn));
            if turn % 1_000_000 == 0
                && cpu_seconds(std::process::id()).is_some_and(|now| now > meter.before["this"] + 0.05)
            {
                break;
            }
        }
        std::hint::black_box(sum);
        meter.pause();
        let used = meter.used();
        assert!(used[0].cpu_seconds > 0.0 && used[0].cores > 0.0, "{used:?}");
        assert!(used[0].resident_bytes > 1_000_000 && used[0].peak_bytes >= used[0].resident_bytes, "{used:?}");
    }
}
