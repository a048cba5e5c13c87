//! HTTP endpoints as agents: a call per capability.
//!
//! A [`Definition`] file maps capabilities to calls. Fields of a request's input fill the templates of a call's URL, query,
//! headers and body; what the service answers is the result. It is no HTTP client for programs, and no proxy: only
//! declared calls are made, to hosts that the file names.
//!
//! ```text
//!   input --> schema.input --> templates --> address allowed? --> call --> status --> body --> schema.output --> result
//!                                            (of what is really connected to)  |
//!                                                         429, 5xx: another attempt, when Retry-After says
//! ```
//!
//! ```
//! use sortie_http::Definition;
//!
//! let definition = Definition::parse(
//!     "{kind: shop, version: 1.0.0, capabilities: {get-order: {url: 'https://shop.example/orders/{order}'}}}",
//! );
//! assert_eq!(definition.unwrap().capabilities.len(), 1);
//! ```

mod address;
pub mod agent;
mod answer;
mod call;
mod client;
pub mod definition;
mod template;

pub use call::Caller;
pub use definition::Definition;
