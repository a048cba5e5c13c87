//! The agent of kind `files`: lists files, examines them, looks for secrets in them, and writes reports.
//!
//! `examine-file`, `list-files` and `find-secrets` only read, in bounded memory however large a file is, and with `--root`
//! only below that folder. With `--reports` there are `write-report` and `delete-report`, which touch nothing but reports
//! in that folder. It is no search index and no file server: contents never leave it, and secrets least of all.
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
pub mod reports;
mod scan;
pub mod secrets;
pub mod serve;
mod terms;
mod walk;

pub use args::{Args, EXAMPLES};
pub use examine::{ExamineFile, FileReport, examine};
pub use list::{FileList, ListFiles, list};
pub use place::Root;
pub use problem::{Problem, Result};
pub use reports::{DeleteReport, Deleted, Reports, WriteReport, Written};
pub use secrets::{FindSecrets, Secret, SecretList};
pub use serve::serve;
pub use terms::Term;
