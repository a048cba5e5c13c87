//! Asks a fleet: submit, await, follow and cancel requests, and look at what waits, died and lives.
//!
//! It is a convenience, not the contract: a request is a message on a subject, and any NATS client can publish it and
//! read its outcome. What it adds is what is easy to get wrong by hand: an id, so that a repeated publish is the same
//! request; bodies larger than a message; delays on the broker's clock; and waits that survive lost messages and
//! reconnects. It does no work itself: that is a worker's.
//!
//! ```text
//!   request(...) --submit--> fleet.request.echo --> (an agent) --> fleet.outcome.<id>
//!        |                                                             | republished
//!        +------- call: listen, publish, wait -------- fleet.told.<id> +
//! ```
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use protocol::{Capability, Namespace};
//! use serde_json::{Value, json};
//! use sortie_client::Client;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::connect(broker::Options::default(), Namespace::default()).await?;
//! let echo = Capability::parse("echo")?;
//!
//! let receipt = client.request(&echo, &json!({ "hi": 1 })).urgent().attempts(5).submit().await?;
//! println!("{} is stored: whatever happens, it will have one outcome", receipt.id());
//! let outcome = receipt.outcome(Duration::from_secs(30)).await?;
//! match outcome.result::<Value>() {
//!     Ok(result) => println!("{result}"),
//!     Err(failure) => println!("{failure}"),
//! }
//!
//! // The same in one go, which costs the broker less.
//! let outcome = client.request(&echo, "hello").call(Duration::from_secs(30)).await?;
//! # Ok(())
//! # }
//! ```

mod accepted;
mod agents;
mod audit;
mod breakers;
mod cancel;
mod client;
mod config;
mod control;
mod cron;
pub mod dead;
mod error;
mod forward;
mod keep;
mod later;
mod logs;
mod progress;
mod proof;
mod queues;
mod receipt;
mod request;
mod runs;
mod submit;
mod suspects;
mod triggers;
mod wait;
mod watch;
mod why;
mod workflows;

pub use broker::Disposition;
pub use regex::Regex;

pub use self::accepted::AcceptedFile;
pub use self::agents::{AgentFilter, rank_agents};
pub use self::breakers::NamedBreaker;
pub use self::cancel::{CancelFilter, CancelTally, Cancellation};
pub use self::client::Client;
pub use self::config::{SettingsRevision, StoredSettings};
pub use self::control::Steering;
pub use self::cron::{CronEntry, CronState};
pub use self::dead::StoredLetter;
pub use self::error::{Error, ErrorKind};
pub use self::forward::BroughtForward;
pub use self::later::Scheduled;
pub use self::logs::{LogFollower, LogLines, LogQuery};
pub use self::progress::Follower;
pub use self::proof::{Fault, Faults, Proof, Sight, Tally, WANTED_MAX};
pub use self::queues::{BreakerNow, Fulfilment, Limit, Pause, Peeked, Queue, Queues, QueuesAsk};
pub use self::receipt::{Acceptance, Receipt};
pub use self::request::RequestBuilder;
pub use self::runs::{EndedRun, Heard, LiveRun, PastRun, RunFilter, RunRecord, StartBuilder, StartedRun};
pub use self::suspects::Suspect;
pub use self::triggers::StoredTrigger;
pub use self::watch::{Happening, Watcher};
pub use self::why::{Answer, SentAgain, SilentAgent, Why, WhyAsk};
pub use self::workflows::{Applied, StoredWorkflow};
