//! Workflows: what a definition says, whether it is right, and what a run does next.
//!
//! Pure: it knows no broker, no clock and no IO. The run's log is its state; what happens is a function of it.
//!
//! ```text
//!   text ──► Definition ──► Plan ─────────────┐
//!                                             ▼
//!   facts of a run's log, in order ──► fold ──► State ──► decide ──► Command … (carried out by the coordinator)
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
pub use validate::validate;
