//! A disk that takes few writes a second.

use std::{fs, os::unix::fs::MetadataExt, path::PathBuf};

use nix::sys::stat::{major, minor};

use super::{Disk, Missing};

/// Where control groups for block devices are, of the first kind: their bounds hold for what a process itself flushes.
const GROUPS: &str = "/sys/fs/cgroup/blkio";

/// A process whose writes to a disk are so many a second at most, until this is dropped.
#[derive(Debug)]
pub struct Throttle {
    pid: u32,
    group: PathBuf,
}

impl Throttle {
    /// Slows what a process flushes to a disk.
    ///
    /// # Errors
    /// Where there are no control groups for it.
    pub fn on(pid: u32, disk: &Disk, writes_per_second: u32) -> Result<Self, Missing> {
        let group = PathBuf::from(GROUPS).join(format!("sortie-{}-{}", std::process::id(), super::number()));
        let missing = |what: &str| {
            let what = what.to_owned();
            move |error: std::io::Error| Missing(format!("{what}: {error}"))
        };
        let device = fs::metadata(disk.device()?).map_err(missing("the disk's device"))?.rdev();
        fs::create_dir(&group).map_err(missing("no control group for block devices (cgroup v1, blkio)"))?;
        let throttle = Self { pid, group };
        let bound = format!("{}:{} {writes_per_second}", major(device), minor(device));
        let bounds = throttle.group.join("blkio.throttle.write_iops_device");
        fs::write(bounds, bound).map_err(missing("blkio.throttle.write_iops_device"))?;
        fs::write(throttle.group.join("cgroup.procs"), pid.to_string()).map_err(missing("cgroup.procs"))?;
        Ok(throttle)
    }
}

impl Drop for Throttle {
    fn drop(&mut self) {
        // The process may have ended. What it wrote last may hold the group for a moment, and then it stays, empty.
        let _ = fs::write(PathBuf::from(GROUPS).join("cgroup.procs"), self.pid.to_string());
        if let Err(error) = fs::remove_dir(&self.group) {
            eprintln!("{} is left behind: {error}", self.group.display());
        }
    }
}
