//! Whether a process is alive and whether it takes work, as whoever runs it sees it.

use tokio::sync::watch;

/// What a process says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// Why starting it again would be right, if it would.
    pub unhealthy: Option<String>,
    /// Why it takes no work, if it takes none.
    pub unready: Option<String>,
}

/// The handle by which the parts of a process say so. Clones speak about the same process.
///
/// At first a process is healthy and not ready: it is `starting`.
#[derive(Debug, Clone)]
pub struct Health(watch::Sender<Condition>);

impl Default for Health {
    fn default() -> Self {
        Self::new()
    }
}

impl Health {
    /// A process that is starting.
    pub fn new() -> Self {
        let unready = Some("starting".to_owned());
        Self(watch::Sender::new(Condition { unhealthy: None, unready }))
    }

    /// It takes work.
    pub fn ready(&self) {
        self.0.send_modify(|condition| condition.unready = None);
    }

    /// It takes no work, for this reason.
    pub fn unready(&self, reason: impl Into<String>) {
        let reason = Some(reason.into());
        self.0.send_modify(|condition| condition.unready = reason);
    }

    /// It works as it should.
    pub fn healthy(&self) {
        self.0.send_modify(|condition| condition.unhealthy = None);
    }

    /// It should be started again, for this reason.
    pub fn unhealthy(&self, reason: impl Into<String>) {
        let reason = Some(reason.into());
        self.0.send_modify(|condition| condition.unhealthy = reason);
    }

    /// What was said last.
    pub fn condition(&self) -> Condition {
        self.0.borrow().clone()
    }
}
