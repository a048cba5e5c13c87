//! What only an operating system has: file systems that fill up, turn read-only, slow down or lose their power, and networks
//! that come apart. Making them takes root on Linux; where they cannot be had, [`Missing`] says why, and what asked for
//! them says that it did nothing. Each is removed with its value, also when a test fails.

mod disk;
mod files;
mod network;
mod throttle;

use std::{
    ffi::OsStr,
    fmt, process,
    sync::atomic::{AtomicU32, Ordering},
};

pub use self::disk::{Ballast, Disk};
pub use self::files::Files;
pub use self::network::Network;
pub use self::throttle::Throttle;

/// What is not to be had here, and why.
#[derive(Clone, Debug)]
pub struct Missing(pub String);

impl fmt::Display for Missing {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(&self.0)
    }
}

impl std::error::Error for Missing {}

/// Runs a program of the system to its end, which comes within milliseconds, and gives what it wrote.
fn run(program: &str, arguments: &[&dyn AsRef<OsStr>]) -> Result<String, Missing> {
    let told = || {
        let words = arguments.iter().map(|word| word.as_ref().to_string_lossy().into_owned());
        std::iter::once(program.to_owned()).chain(words).collect::<Vec<_>>().join(" ")
    };
    let output = process::Command::new(program).args(arguments.iter().map(AsRef::as_ref)).output();
    let output = output.map_err(|error| Missing(format!("`{}`: {error}", told())))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    Err(Missing(format!("`{}` ended with {}: {}", told(), output.status, words.trim())))
}

/// A number that nothing else of this machine has at this time, together with this process's id.
fn number() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
