//! The words of Sortie: ids, subjects, headers, failures, outcomes, codecs and the topology table.
//!
//! Everything here is data and functions of data. This crate is the public contract of a fleet written down once:
//! what a message looks like, where it lives and what it means. It is not a client: it knows no tokio and no NATS
//! library, reads no environment and no clock but the one door in [`time`].
//!
//! ```text
//!   fleet.request.echo --> Request::read --> (handler) --> Outcome --> fleet.outcome.<id>
//!        subject             request            failure      outcome        subject
//! ```
//!
//! ```
//! use sortie_protocol::{Capability, Lane, Namespace, Subject};
//!
//! let fleet = Namespace::default();
//! let echo = Capability::parse("echo")?;
//! let subject = Subject::Request { lane: Lane::Normal, capability: echo };
//! assert_eq!(subject.render(&fleet), "fleet.request.echo");
//! assert_eq!(Subject::parse(&fleet, "fleet.request.echo"), Some(subject));
//! # Ok::<(), sortie_protocol::NameError>(())
//! ```

pub mod accepted;
pub mod audit;
pub mod breaker;
pub mod byte_size;
pub mod codec;
pub mod codes;
pub mod control;
pub mod cron;
pub mod dead_letter;
pub mod desired;
pub mod duration;
pub mod event;
pub mod failure;
pub mod header;
pub mod limits;
pub mod log_line;
pub mod mark;
pub mod name;
pub mod outcome;
pub mod redrive;
pub mod registry;
pub mod replay;
pub mod request;
pub mod retry;
pub mod run;
pub mod schema;
pub mod service;
pub mod settings;
pub mod subject;
pub mod time;
pub mod topology;
pub mod trigger;

pub use codec::ContentType;
pub use cron::CronSpec;
pub use dead_letter::DeadLetter;
pub use failure::{AttemptRecord, Category, Failure, Severity};
pub use header::Headers;
pub use name::{
    BreakerName, Capability, CronName, InstanceId, Kind, NameError, Namespace, Operator, Origin, RequestId, RunId,
    StepName, TriggerName, UniqueKey, WorkflowName,
};
pub use outcome::{Outcome, Status};
pub use redrive::{CodePattern, RedriveRule};
pub use replay::Replay;
pub use request::{Request, StepAddress, TraceContext};
pub use retry::{Backoff, RetryPolicy};
pub use run::{LoggedFact, RunFact, RunSummary, RunTimer};
pub use service::Service;
pub use subject::{Lane, Subject};
