//! Agents in any language: a command per capability.
//!
//! A [`Definition`] file maps capabilities to commands. A request's body goes to the command's stdin, what it prints on
//! stdout is the result, and what it prints on stderr is progress, line by line. Nothing goes through a shell, the
//! environment is made anew, and everything that a command started is gone when its attempt ends.
//!
//! It is not a sandbox: a command may do what the agent's user may do, and a process that moves itself into another
//! process group (`setsid`) is out of reach.
//!
//! ```text
//!   body --> schema.input --> arguments, environment --> command --> exit code, stdout --> schema.output --> result
//!                                                          | stderr, line by line
//!                                                          v
//!                                                       progress
//! ```
//!
//! ```
//! use sortie_exec::Definition;
//!
//! let definition = Definition::parse("{kind: words, version: 1.0.0, capabilities: {count: {command: [wc, -w], output: text}}}");
//! assert_eq!(definition.unwrap().capabilities.len(), 1);
//! ```

pub mod agent;
pub mod command;
pub mod definition;
mod handler;

pub use command::{Call, Command};
pub use definition::Definition;
pub use handler::CommandHandler;
