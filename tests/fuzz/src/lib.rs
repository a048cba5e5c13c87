//! What is fed to every parser of what comes from outside, and what has to hold whatever that is.
//!
//! Each feed takes any bytes. It panics where a promise is broken: beside "no panic, and an end", that what was read is
//! written in a way that reads as the same. `targets/` gives these feeds to libFuzzer, `tests/twin.rs` to proptest, both with
//! the files in `seeds/` to begin from. How they are run by hand, and what came of it, is in `tests/FUZZING.md`.
//!
//! ```text
//!   seeds/<target>/*, examples of the project ──► changed here and there ──► feed ──► parser ──► the promise
//! ```
#![allow(clippy::expect_used, clippy::panic, reason = "a feed tells a broken promise by panicking")]

#[cfg(feature = "agents")]
mod agents;
mod cel;
mod codec;
mod control;
mod documents;
mod headers;
mod log;
mod message;
mod policies;
mod subjects;
mod words;
mod workflow_files;

#[cfg(feature = "agents")]
pub use self::agents::agents;
pub use self::{
    cel::cel, codec::codec, control::control, documents::documents, headers::headers, log::log, policies::policies,
    subjects::subjects, words::words, workflow_files::workflow,
};

/// What some bytes are fed to, and where inputs to begin from are.
#[derive(Clone, Copy)]
pub struct Target {
    /// The name, also of its folder of seeds and of its file in `targets/`.
    pub name: &'static str,
    /// What takes the bytes.
    pub feed: fn(&[u8]),
    /// What an input is.
    pub form: Form,
    /// Files of the project that are inputs too: a folder, and how their names end.
    pub examples: &'static [(&'static str, &'static str)],
}

/// What an input is, so that it can be changed in ways that get past the first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Lines of text, each by itself.
    Lines,
    /// A subject, headers, an empty line, and a body; more of them behind lines of `%%`.
    Messages,
    /// A JSON or YAML document.
    Document,
    /// An expression, a line of `---`, and a JSON document.
    Expression,
    /// Any bytes.
    Bytes,
}

/// Every target.
pub const TARGETS: &[Target] = &[
    Target { name: "subjects", feed: subjects, form: Form::Lines, examples: &[] },
    Target { name: "words", feed: words, form: Form::Lines, examples: &[] },
    Target { name: "headers", feed: headers, form: Form::Messages, examples: &[] },
    Target { name: "codec", feed: codec, form: Form::Bytes, examples: &[] },
    Target { name: "documents", feed: documents, form: Form::Document, examples: &[] },
    Target { name: "control", feed: control, form: Form::Document, examples: &[] },
    Target { name: "policies", feed: policies, form: Form::Document, examples: &[] },
    Target {
        name: "workflow",
        feed: workflow,
        form: Form::Document,
        examples: &[("bin/sortie/workflows", ".yaml"), ("crates/workflow/tests", ".yaml")],
    },
    Target { name: "cel", feed: cel, form: Form::Expression, examples: &[] },
    Target { name: "log", feed: log, form: Form::Messages, examples: &[] },
    #[cfg(feature = "agents")]
    Target { name: "agents", feed: agents, form: Form::Document, examples: &[("bin/sortie/workflows", ".agent.yaml")] },
];

/// Inputs are cut here: what is longer is refused by size before it is read.
pub const INPUT_BYTES_MAX: usize = 64 * 1024;

fn text_of(data: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(&data[..data.len().min(INPUT_BYTES_MAX)])
}

/// What was read is written in a way that reads as the same.
fn reads_back<T>(data: &[u8])
where
    T: serde::Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug,
{
    let Ok(read) = serde_json::from_slice::<T>(data) else { return };
    let written = serde_json::to_vec(&read).expect("what was read can be written");
    let again: T = serde_json::from_slice(&written)
        .unwrap_or_else(|error| panic!("{}: {error}", String::from_utf8_lossy(&written)));
    assert_eq!(read, again, "{}", String::from_utf8_lossy(&written));
}
