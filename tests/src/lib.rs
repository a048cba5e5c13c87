//! What the tests of the whole share: a fleet on a server of its own, the real binaries, and one way to count.
//!
//! Every test starts its own nats-server (or three) on a free port with its own store, and ends it with the value.

pub mod binaries;
pub mod count;
pub mod fleet;
pub mod ground;
pub mod journal;
pub mod latch;
pub mod lives;
pub mod process;
pub mod program;
pub mod proxy;
pub mod raw;
pub mod stock;
pub mod until;
pub mod victim;

pub use count::Count;
pub use fleet::{Fleet, RunningWorker};
pub use journal::Journal;
pub use latch::Latch;
pub use until::{until, until_some};

/// How long a test waits for a fact that must come.
pub const PATIENCE: std::time::Duration = std::time::Duration::from_secs(20);
