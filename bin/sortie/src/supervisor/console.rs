//! Where children's lines go, each with the name of who said it in front.

use std::{
    fs::File,
    io::{self, IsTerminal, Write},
    sync::atomic::{AtomicUsize, Ordering},
};

use owo_colors::{AnsiColors, OwoColorize};
use process::settings::{Environment, environment as variable};

/// Who speaks where the supervisor does.
const OURSELVES: &str = "sortie";

const COLOURS: [AnsiColors; 6] = [
    AnsiColors::Cyan,
    AnsiColors::Yellow,
    AnsiColors::Green,
    AnsiColors::Magenta,
    AnsiColors::Blue,
    AnsiColors::BrightRed,
];

/// Which of a child's streams a line came by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stream {
    Out,
    Err,
}

/// The one place where lines of many children meet. A line is written whole.
#[derive(Debug)]
pub(crate) struct Console {
    place: Place,
    /// Names are padded to the longest, so that lines stand below each other.
    width: AtomicUsize,
    speakers: AtomicUsize,
}

#[derive(Debug)]
enum Place {
    /// A child's streams go to ours of the same name, or all to standard error, where standard output is a document.
    Terminal { all_to_err: bool, colour: bool },
    /// Everything goes to a file.
    File(File),
}

/// A name, its colour, and what it says.
#[derive(Debug, Clone)]
pub(crate) struct Speaker {
    name: String,
    colour: AnsiColors,
}

impl Console {
    /// Our own standard streams; coloured on a terminal, unless NO_COLOR is set.
    pub(crate) fn terminal(all_to_err: bool, environment: &Environment) -> Self {
        let colour = io::stderr().is_terminal()
            && (all_to_err || io::stdout().is_terminal())
            && environment.get(variable::NO_COLOR).is_none();
        Self::new(Place::Terminal { all_to_err, colour })
    }

    /// A file that lines are appended to.
    pub(crate) fn file(file: File) -> Self {
        Self::new(Place::File(file))
    }

    fn new(place: Place) -> Self {
        Self { place, width: AtomicUsize::new(OURSELVES.len()), speakers: AtomicUsize::new(0) }
    }

    /// A name to speak under.
    pub(super) fn speaker(&self, name: &str) -> Speaker {
        self.width.fetch_max(name.chars().count(), Ordering::Relaxed);
        let turn = self.speakers.fetch_add(1, Ordering::Relaxed);
        Speaker { name: name.to_owned(), colour: COLOURS[turn % COLOURS.len()] }
    }

    /// A line of a child.
    pub(super) fn line(&self, speaker: &Speaker, stream: Stream, text: &[u8]) {
        let mut line = self.prefix(&speaker.name, speaker.colour).into_bytes();
        line.extend_from_slice(text);
        line.push(b'\n');
        self.write(stream, &line);
    }

    /// A line of our own.
    pub(crate) fn say(&self, text: &str) {
        let line = format!("{}{text}\n", self.prefix(OURSELVES, AnsiColors::White));
        self.write(Stream::Err, line.as_bytes());
    }

    fn prefix(&self, name: &str, colour: AnsiColors) -> String {
        let prefix = format!("{name:<width$} |", width = self.width.load(Ordering::Relaxed));
        match &self.place {
            Place::Terminal { colour: true, .. } => format!("{} ", prefix.color(colour)),
            _ => format!("{prefix} "),
        }
    }

    fn write(&self, stream: Stream, line: &[u8]) {
        // Somebody who no longer reads, or a full disk, ends no fleet.
        let _ = match (&self.place, stream) {
            (Place::Terminal { all_to_err: false, .. }, Stream::Out) => whole(io::stdout().lock(), line),
            (Place::Terminal { .. }, _) => whole(io::stderr().lock(), line),
            (Place::File(file), _) => whole(file, line),
        };
    }
}

fn whole(mut place: impl Write, line: &[u8]) -> io::Result<()> {
    place.write_all(line)?;
    place.flush()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
    use super::*;

    #[test]
    fn lines_stand_below_each_other_with_who_said_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let console = Console::file(File::create(&path).unwrap());
        let (long, short) = (console.speaker("coordinator"), console.speaker("a.1"));
        console.line(&long, Stream::Err, b"up");
        console.line(&short, Stream::Out, b"\xff");
        console.say("ready");
        let text = std::fs::read(&path).unwrap();
        assert_eq!(text, b"coordinator | up\na.1         | \xff\nsortie      | ready\n");
    }
}
