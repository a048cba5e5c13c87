//! What the tests of the whole share: a fleet on a server of its own, the real binaries, and one way to count.
//!
//! Every test starts its own nats-server (or three) on a free port with its own store, and ends it with the value.

pub mod binaries;
pub mod count;
pub mod fleet;
pub mod until;

pub use count::Count;
pub use fleet::{Fleet, RunningWorker};
pub use until::until;
