//! Workflows: what a definition says, whether it is right, and what a run does next.
//!
//! Pure: it knows no broker, no clock and no IO. The run's log is its state; what happens is a function of it.
//!
//! ```text
//!   text ──► Definition ──► Plan ─────────────┐
//!                                             ▼
//!   facts of a run's log, in order ──► fold ──► State ──► commands ──► Command … (carried out by the coordinator)
//! ```
//!
//! ```
//! use std::sync::Arc;
//!
//! use protocol::{Headers, RunId, time};
//! use serde_json::json;
//! use sortie_workflow::{Fact, Plan, State, command::Order};
//!
//! let text = "{ workflow: greet, version: 1.0.0, steps: { say: { call: say, with: { to: '${ input }' } } } }";
//! let (_, definition) = Plan::parse(text).map_err(|faults| format!("{faults:?}"))?;
//!
//! let mut state = State::new(RunId::parse("run-1")?);
//! let started = json!({ "definition": definition, "input": { "value": "ann" } }).to_string();
//! state.fold(&Fact::read("started", 1, time::parse("2027-01-15T08:00:00Z")?, &Headers::new(), started.as_bytes()));
//! assert!(matches!(&state.commands_since(0)[0].order, Order::Ask { step, .. } if step.as_str() == "say"));
//!
//! let outcome = ("step.say.0.outcome", br#""hello ann""#);
//! state.fold(&Fact::read(outcome.0, 2, time::parse("2027-01-15T08:00:01Z")?, &Headers::new(), outcome.1));
//! assert!(matches!(&state.commands_since(1)[0].order, Order::End(_)));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod command;
pub mod definition;
pub mod expression;
pub mod fact;
pub mod graph;
mod payload;
pub mod plan;
mod program;
pub mod simulate;
pub mod state;
pub mod template;
pub mod trigger;
pub mod validate;

#[cfg(test)]
mod tests;

pub use command::Command;
pub use definition::Definition;
pub use expression::{Expression, Scope, StepInScope};
pub use fact::Fact;
pub use payload::Payload;
pub use plan::Plan;
pub use program::Program;
pub use simulate::simulate;
pub use state::{Folded, State, StepStatus, View, Why};
pub use template::Template;
pub use trigger::Trigger;
pub use validate::validate;
