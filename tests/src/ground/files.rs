//! How many files a process may have open.

use std::{collections::BTreeSet, fs};

use anyhow::{Context, Result};

use super::{Missing, run};

/// A process that can open no more files than these, until this is dropped.
#[derive(Debug)]
pub struct Files {
    pid: u32,
    before: String,
}

impl Files {
    /// Allows a process so many more than it has open now.
    ///
    /// # Errors
    /// Where there is no `prlimit`, or the process is another's.
    pub fn exhaust(pid: u32, more: usize) -> Result<Self, Missing> {
        let of = format!("--pid={pid}");
        let before = run("prlimit", &[&of, &"--nofile", &"--raw", &"--noheadings", &"--output=SOFT"])?;
        let free = Self::free(pid).map_err(|error| Missing(format!("{error:#}")))?;
        // Only the soft bound, so that a process that is not root's may have it back.
        run("prlimit", &[&of, &format!("--nofile={}:", free + more)])?;
        Ok(Self { pid, before: before.trim().to_owned() })
    }

    /// The lowest number that is free: a new file gets no other, and those with higher ones stay open.
    fn free(pid: u32) -> Result<usize> {
        let folder = format!("/proc/{pid}/fd");
        let names = fs::read_dir(&folder).with_context(|| folder.clone())?.flatten();
        let numbers: BTreeSet<usize> = names.filter_map(|name| name.file_name().to_str()?.parse().ok()).collect();
        (0..).find(|number| !numbers.contains(number)).with_context(|| folder)
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        // The process may have ended, which is no fault of its own.
        let _ = run("prlimit", &[&format!("--pid={}", self.pid), &format!("--nofile={}:", self.before)]);
    }
}
