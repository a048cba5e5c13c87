//! The file of what was accepted, from which [`Client::prove`](crate::Client::prove) proves that nothing was lost.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    path::Path,
    sync::Arc,
};

use protocol::accepted::Accepted;

use crate::{Error, ErrorKind};

/// A file to which a line is appended for each acknowledgement. Clones append to the same file, and so may other processes:
/// a line is one write. It is in the system's hands when [`note`](Self::note) returns, so that what the process was killed
/// after is there; a line that it was killed in is torn, and readers pass it over.
#[derive(Clone, Debug)]
pub struct AcceptedFile {
    file: Arc<File>,
    path: Arc<Path>,
}

impl AcceptedFile {
    /// Opens it, and makes it where it is not there. What stands in it stays.
    ///
    /// # Errors
    /// `Invalid` where it cannot be opened or written.
    pub fn append_to(path: &Path) -> Result<Self, Error> {
        let opened = Self::open(path);
        let refused =
            |error| Error::invalid(format!("what is accepted cannot be noted in {}: {error}", path.display()));
        Ok(Self { file: Arc::new(opened.map_err(refused)?), path: path.into() })
    }

    fn open(path: &Path) -> io::Result<File> {
        let mut file = OpenOptions::new().create(true).read(true).append(true).open(path)?;
        // Whoever wrote it before may have been killed within a line: that one must not tear the next.
        if file.metadata()?.len() > 0 && file.seek(SeekFrom::End(-1)).is_ok() {
            let mut last = [0];
            file.read_exact(&mut last)?;
            if last != *b"\n" {
                file.write_all(b"\n")?;
            }
        }
        Ok(file)
    }

    /// Notes what the broker has acknowledged.
    ///
    /// # Errors
    /// `NotNoted`: it is accepted all the same.
    pub fn note(&self, accepted: &Accepted) -> Result<(), Error> {
        self.write(accepted.line()).map_err(|error| error.about(&accepted.id))
    }

    /// The same for many at once, with one write.
    ///
    /// # Errors
    /// `NotNoted`: they are accepted all the same.
    pub fn note_all<'a>(&self, accepted: impl IntoIterator<Item = &'a Accepted>) -> Result<(), Error> {
        self.write(accepted.into_iter().map(Accepted::line).collect())
    }

    /// It is a write into the system's cache, of microseconds: a task that waited for a thread would take longer.
    fn write(&self, lines: String) -> Result<(), Error> {
        (&*self.file).write_all(lines.as_bytes()).map_err(|error| {
            let path = self.path.display();
            Error::new(ErrorKind::NotNoted, format!("it is accepted, but cannot be noted in {path}: {error}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use protocol::{Capability, RequestId, accepted::Asked, time};

    use super::*;

    fn accepted(id: &str) -> Accepted {
        Accepted {
            id: RequestId::parse(id).unwrap(),
            asked: Asked::Request(Capability::parse("echo").unwrap()),
            stream: "FLEET_REQUESTS".to_owned(),
            sequence: Some(1),
            at: time::parse("2030-01-01T00:00:00Z").unwrap(),
        }
    }

    #[test]
    fn a_torn_line_tears_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("accepted.jsonl");
        AcceptedFile::append_to(&path).unwrap().note(&accepted("a")).unwrap();
        let torn = &accepted("b").line()[..20];
        OpenOptions::new().append(true).open(&path).unwrap().write_all(torn.as_bytes()).unwrap();
        let file = AcceptedFile::append_to(&path).unwrap();
        file.clone().note_all(&[accepted("c"), accepted("d")]).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let ids: Vec<_> =
            text.lines().map(|line| Accepted::read(line.as_bytes()).map(|read| read.id.to_string())).collect();
        let id = |id: &str| Ok(id.to_owned());
        assert_eq!(ids, [id("a"), Err(protocol::accepted::Unread::Torn), id("c"), id("d")]);
    }

    #[test]
    fn a_file_that_cannot_be_written_is_told_at_once() {
        let refused = AcceptedFile::append_to(Path::new("/nowhere/at-all")).unwrap_err();
        assert_eq!(refused.kind(), &ErrorKind::Invalid);
        assert!(refused.to_string().contains("/nowhere/at-all"), "{refused}");
    }
}
