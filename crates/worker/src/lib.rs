//! Turns async functions into Sortie agents.
//!
//! An agent is a plain `async fn(Context, Input) -> Result<Output, Failure>`. The worker pulls what it has free slots
//! for, runs the function, records exactly one outcome and only then acknowledges the request. It is no framework for
//! the work itself: state, clients and configuration are the handler's own.
//!
//! ```text
//!   pull --> outcome there? --> poison? --> decode --> expired? --> run --> outcome | retry | dead letter --> ack
//!                                                                    ^ on the caller's runtime; all else on another
//! ```
//!
//! ```no_run
//! use serde::{Deserialize, Serialize};
//! use sortie_worker::{Context, Failure, JsonSchema, Worker};
//!
//! #[derive(Deserialize, JsonSchema)]
//! struct Document { text: String }
//!
//! #[derive(Serialize, JsonSchema)]
//! struct Summary { first_line: String }
//!
//! async fn summarize(_ctx: Context, doc: Document) -> Result<Summary, Failure> {
//!     Ok(Summary { first_line: doc.text.lines().next().unwrap_or_default().to_owned() })
//! }
//!
//! #[tokio::main]
//! async fn main() -> Result<(), sortie_worker::Error> {
//!     Worker::builder("summarizer").capability("summarize", summarize).run().await
//! }
//! ```
//!
//! What a handler takes and gives derives `JsonSchema`, so that the registry can show it. A crate that does not depend on
//! `schemars` itself says `#[schemars(crate = "sortie_worker::schemars")]` beside the derive.

mod attempt_end;
mod breakers;
mod builder;
mod cancels;
mod conclude;
mod config;
mod configured;
mod context;
mod control;
mod error;
mod gate;
mod handler;
mod hold;
mod in_hand;
mod intake;
pub mod layer;
mod lookup;
mod machinery;
mod marks;
mod metrics;
mod pause;
mod pipeline;
mod presence;
mod refused;
mod run;
mod slots;
mod watchdog;

pub use builder::{Builder, Worker};
pub use config::{CapabilityConfig, Config};
pub use configured::CustomSettings;
pub use context::{Context, StateStore};
pub use error::{Error, Kind};
pub use handler::{BoxService, Call, Handler, Reply};
pub use metrics::Metrics;
pub use process::{Health, Shutdown};
pub use protocol::{Backoff, Category, Failure, RetryPolicy, codes};
pub use schemars::{self, JsonSchema};
