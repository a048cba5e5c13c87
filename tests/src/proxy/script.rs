//! What a proxy waits for, and what it does then.

use nix::sys::signal::Signal;

use super::{Direction, Flow, frame::Frame};

/// A message that passes. Subjects are named by how they begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// The worker publishes.
    Publish(&'static str),
    /// The broker answers what the worker published.
    Answer(&'static str),
    /// The worker says `+ACK`, `-NAK` or `+WPI` of a delivery.
    Says(&'static str),
    /// The broker delivers work.
    Delivery(&'static str),
}

/// On which side of the message's passing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// It does not pass before the action, nor, if that kills, after it.
    Before,
    /// It has passed, and nothing after it.
    After,
}

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// SIGKILL; nothing passes any more.
    Kill,
    /// Another signal; everything goes on.
    Signal(Signal),
    /// Every connection ends, and nobody gets in until the proxy is mended.
    Cut,
    /// Frames in one direction pass, wait or vanish from now on.
    Flow(Direction, Flow),
}

/// One line of a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trigger {
    /// What it waits for.
    pub seen: Seen,
    /// The how-manieth of them, from 1.
    pub nth: u32,
    /// On which side of it.
    pub moment: Moment,
    /// What it does then.
    pub action: Action,
}

/// Kills before this passes for the first time.
pub fn before(seen: Seen) -> Trigger {
    Trigger { seen, nth: 1, moment: Moment::Before, action: Action::Kill }
}

/// Kills when this has passed for the first time.
pub fn after(seen: Seen) -> Trigger {
    Trigger { seen, nth: 1, moment: Moment::After, action: Action::Kill }
}

impl Trigger {
    /// The same, for another one than the first.
    #[must_use]
    pub fn nth(self, nth: u32) -> Self {
        Self { nth, ..self }
    }

    /// The same, with something else than a kill.
    #[must_use]
    pub fn then(self, action: Action) -> Self {
        Self { action, ..self }
    }

    /// Whether a frame is one of those that it counts. `asked` is the subject of what the frame answers.
    pub(super) fn counts(&self, frame: &Frame, asked: Option<&str>) -> bool {
        match self.seen {
            Seen::Publish(subject) => frame.is_publish() && frame.subject.starts_with(subject),
            Seen::Answer(subject) => frame.is_message() && asked.is_some_and(|asked| asked.starts_with(subject)),
            Seen::Says(word) => {
                frame.is_publish()
                    && frame.subject.starts_with("$JS.ACK.")
                    && frame.payload().starts_with(word.as_bytes())
            }
            Seen::Delivery(subject) => {
                frame.is_message()
                    && frame.subject.starts_with(subject)
                    && frame.reply.as_deref().is_some_and(|reply| reply.starts_with("$JS.ACK."))
            }
        }
    }
}
