//! The agent of kind `files`: examines files, and lists them.
//!
//! Two capabilities, `examine-file` and `list-files`. It only reads, in bounded memory however large a file is, and
//! with `--root` only below that folder. It is no search index and no file server: contents never leave it.
//!
//! ```text
//! request ─ Place: which file, is it allowed? ─ Scan: one pass, 64 KiB at a time ─ FileReport
//! ```

mod args;
mod background;
pub mod examine;
mod language;
pub mod list;
pub mod place;
mod problem;
mod scan;
pub mod serve;
mod terms;

pub use args::{Args, EXAMPLES};
pub use examine::{ExamineFile, FileReport, examine};
pub use list::{FileList, ListFiles, list};
pub use place::Root;
pub use problem::{Problem, Result};
pub use serve::serve;
pub use terms::Term;
