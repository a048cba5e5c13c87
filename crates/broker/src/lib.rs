//! What Sortie asks of JetStream, and nothing more: connect, apply the topology, publish until it is settled, read,
//! pull, schedule, lease.
//!
//! It is not an abstraction over brokers. It hides one client library and the traps of one server, each told in a
//! comment at the code that minds it. No other crate of the project names `async_nats`, but for the yardsticks of
//! `bench`, which must hold none of our code.
//!
//! ```text
//!   worker, client, coordinator
//!      | Publisher  Reader  Bucket  PullInbox  Topology  ...
//!      v
//!   Connection --- async_nats ---> nats-server
//! ```
//!
//! ```no_run
//! use sortie_broker::{Connection, Options, Outgoing, Publisher};
//!
//! # async fn example() -> Result<(), sortie_broker::Error> {
//! let connection = Connection::open(Options::default()).await?;
//! let publisher = Publisher::new(&connection);
//! let stored = publisher.publish(&Outgoing::new("fleet.request.echo", &b"{}"[..])).await?;
//! println!("stored as {}", stored.sequence);
//! # Ok(())
//! # }
//! ```

mod api;
mod bucket;
mod clock;
mod connection;
mod delivery;
mod error;
mod lease;
mod message;
mod payload;
mod publisher;
mod pull;
mod read;
mod refusals;
mod retry;
mod schedule;
mod service;
mod side;
pub mod task;
pub mod topology;

pub use bucket::{Bucket, Entry};
pub use clock::BrokerClock;
pub use connection::{Connection, Link, Options, REFUSED, SERVER_VERSION_MIN, Subscription};
pub use delivery::Delivery;
pub use error::{Disposition, Error, Kind};
pub use lease::Lease;
pub use message::{Message, Outgoing};
pub use payload::PayloadStore;
pub use publisher::{Publisher, Settled, Stored};
pub use pull::{PinnedPull, PullEnd, PullEvent, PullInbox, PullRequest};
pub use read::{Page, Reader, StoredMessage};
pub use schedule::{ScheduleVerdict, check_schedule, due_time, is_schedule, once_more, scheduled_at};
pub use service::{Service, ServiceInfo};
pub use side::SideConnection;
