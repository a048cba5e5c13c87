//! Why a request has not been done: one answer.

use std::time::Duration;

use protocol::{
    BreakerName, Capability, InstanceId, Kind, Operator, RequestId, Status, breaker, codes, time::Timestamp,
    topology::Source,
};
use serde::Serialize;

use crate::Queue;

mod decide;
mod find;

/// How far it is looked for a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WhyAsk {
    /// What it asks for, where that is known: only those queues and agents are looked at. Defaults to all.
    pub capability: Option<Capability>,
    /// Messages of each lane that are read for it at most. Defaults to 10,000.
    pub scan_max: usize,
    /// How long queues are read at most. Defaults to 10 s.
    pub scan_within: Duration,
}

impl Default for WhyAsk {
    fn default() -> Self {
        Self { capability: None, scan_max: 10_000, scan_within: Duration::from_secs(10) }
    }
}

/// Why a request has not been done, or how it ended.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Why {
    /// The request.
    pub id: RequestId,
    /// What it asks for, where that was found.
    pub capability: Option<Capability>,
    /// The lane it lies in, or comes to.
    pub lane: Option<Source>,
    /// The one answer.
    pub answer: Answer,
    /// What keeps it back besides.
    pub besides: Vec<Answer>,
}

/// One answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "why", rename_all = "snake_case")]
pub enum Answer {
    /// It is done: it has a result.
    Completed,
    /// It failed, and left no dead letter.
    Failed {
        /// The failure's code.
        code: String,
        /// The failure's message.
        message: String,
    },
    /// It was given up: a dead letter tells the story.
    Dead {
        /// The failure's code.
        code: String,
        /// The failure's message.
        message: String,
        /// The attempt that was the last.
        attempt: u32,
        /// How it was sent again, last.
        sent_again: Option<SentAgain>,
    },
    /// It was cancelled.
    Cancelled,
    /// Its deadline passed before it was done.
    Expired,
    /// It waits for its time: a delay, a retry, or because a handler put it off.
    Scheduled {
        /// When it is due, on the broker's clock.
        due: Option<Timestamp>,
        /// Which attempt comes then.
        attempt: u32,
        /// The code of its latest failure, where it is a retry.
        after: Option<String>,
        /// The code for which it was put off, where it was.
        put_off_for: Option<String>,
    },
    /// A rate limit put it off.
    RateLimited {
        /// When it is tried again; none where only the broker knows.
        due: Option<Timestamp>,
    },
    /// An agent has it in its hands.
    Running {
        /// The agent.
        instance: InstanceId,
        /// What it is an instance of.
        kind: Kind,
        /// Where it runs.
        host: String,
        /// Which attempt it is.
        attempt: u32,
        /// Since when, on the broker's clock.
        since: Timestamp,
    },
    /// A unique request waits for its retry, its key kept: only the broker knows until when.
    Retrying {
        /// Which attempt comes next.
        attempt: u32,
        /// The code of its latest failure.
        after: Option<String>,
        /// The code for which it was put off, where it was.
        put_off_for: Option<String>,
    },
    /// It was delivered, and no agent that can be asked has it: an agent that cannot be asked runs it, or the one that had
    /// it is gone, and then it is delivered again once its deadline for acknowledging is over.
    Taken {
        /// Agents that serve it and are connected, and do not answer: one of them hangs with it, where there are any.
        silent: Vec<SilentAgent>,
    },
    /// The broker gave it up: it was delivered as often as its consumer allows.
    GivenUp,
    /// Somebody paused the queue.
    Paused {
        /// Who; none where it was done by hand, past Sortie.
        by: Option<Operator>,
        /// Why.
        reason: Option<String>,
        /// Since when.
        since: Option<Timestamp>,
        /// Until when; none means until somebody resumes it.
        until: Option<Timestamp>,
    },
    /// A circuit breaker lets nothing, or only trials, through.
    BreakerOpen {
        /// Which.
        name: BreakerName,
        /// Open or half open.
        state: breaker::State,
        /// Until when it is open.
        until: Option<Timestamp>,
        /// The code of the failure that opened it.
        after: Option<String>,
    },
    /// Nobody serves the capability.
    Unserved {
        /// Whether it was delivered: then it is in the hands of an agent that is gone.
        was_delivered: bool,
    },
    /// Those who serve it are paused.
    AgentsPaused,
    /// As many as may be are in hand.
    LimitReached {
        /// How many may be.
        max: i64,
        /// How many are.
        running: u64,
    },
    /// Those who serve it have no free slot.
    AllBusy {
        /// How many they are.
        agents: usize,
        /// Their slots.
        slots: usize,
    },
    /// Workers died with it in their hands: some more, and it is set aside as poison.
    Suspected {
        /// How many, as far as is certain.
        deaths: usize,
        /// At how many it is set aside.
        set_aside_at: u32,
    },
    /// Others of its lane come first.
    Behind {
        /// How many.
        others: u64,
    },
    /// It is the next one, and nothing keeps it back.
    Next,
    /// Its message is gone and so is its outcome: it was done longer ago than outcomes are kept, or purged by hand.
    Forgotten,
    /// It was not found.
    NotFound {
        /// Messages that were looked at.
        looked_at: u64,
        /// Whether that was all there is.
        was_all: bool,
    },
}

/// A dead letter's replay.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SentAgain {
    /// The new request.
    pub id: RequestId,
    /// When it was sent, on the broker's clock.
    pub at: Timestamp,
    /// How it ended; none where it has not yet, or where that is no longer kept.
    pub status: Option<Status>,
}

/// An agent that does not answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SilentAgent {
    /// The agent.
    pub instance: InstanceId,
    /// What it is an instance of.
    pub kind: Kind,
    /// Where it runs.
    pub host: String,
    /// Its process there.
    pub pid: u32,
}

/// Where a request lies in a queue.
#[derive(Clone, Debug, PartialEq)]
struct Place {
    queue: Queue,
    /// Its message was delivered at least once.
    was_delivered: bool,
    /// What of its lane waits and was published before it.
    ahead: u64,
    /// Of a unique request that was tried: the next attempt, the latest failure's code, the code for which it was put off.
    tries: Option<(u32, Option<String>, Option<String>)>,
}

impl Answer {
    /// Of one that waits for its time.
    fn scheduled(due: Option<Timestamp>, attempt: u32, after: Option<String>, put_off_for: Option<String>) -> Self {
        match put_off_for.as_deref() {
            Some(codes::RATE_LIMITED) => Self::RateLimited { due },
            _ => Self::Scheduled { due, attempt, after, put_off_for },
        }
    }

    /// Whether there is an answer at all.
    pub fn is_found(&self) -> bool {
        !matches!(self, Self::NotFound { .. })
    }
}
