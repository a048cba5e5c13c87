//! What one frame shows, asked for at once. Nothing of it makes a consumer: buckets and streams are read by batched direct
//! gets, so a thousand agents cost two requests.

use std::time::{Duration, Instant};

use client::{Client, Error, Queues, QueuesAsk};
use protocol::{DeadLetter, registry::AgentEntry, topology::Names};
use serde::Serialize;

/// How long counters are watched for rates; with it, a frame is as old as that at most.
const RATES_OVER: Duration = Duration::from_secs(1);

/// Schedules that are read to tell them by queue: their bodies come along.
const SCHEDULES_MAX: usize = 256;

/// The latest dead letters.
const LETTERS: u64 = 20;

/// What one frame shows.
#[derive(Debug, Serialize)]
pub(super) struct Snapshot {
    /// Every lane of every capability.
    #[serde(flatten)]
    pub(super) queues: Queues,
    /// Who is there.
    pub(super) agents: Vec<AgentEntry>,
    /// The latest dead letters, oldest first.
    pub(super) last_failures: Vec<DeadLetter>,
    /// Dead letters that are kept.
    pub(super) dead: u64,
    /// Outcomes a second, since the frame before; none in the first.
    pub(super) outcomes_per_second: Option<f64>,
    /// Dead letters a second, since the frame before; none in the first.
    pub(super) dead_per_second: Option<f64>,
    /// How long asking took, in milliseconds, without the second in which counters are watched.
    pub(super) asked_in_ms: u64,
}

/// Sequences of what ends, at one moment.
#[derive(Clone, Copy)]
struct Totals {
    at: Instant,
    outcomes: u64,
    dead: u64,
    dead_kept: u64,
}

/// Looks again and again.
pub(super) struct Looker {
    client: Client,
    names: Names,
    before: Option<Totals>,
}

impl Looker {
    pub(super) fn new(client: Client) -> Self {
        Self { names: Names::of(client.namespace()), client, before: None }
    }

    /// Takes about a second, in which counters are watched.
    pub(super) async fn look(&mut self) -> Result<Snapshot, Error> {
        if self.before.is_none() {
            self.before = Some(self.totals().await?);
        }
        let began = Instant::now();
        let ask = QueuesAsk { capability: None, rates_over: Some(RATES_OVER), schedules_max: SCHEDULES_MAX };
        let (queues, rest) = tokio::join!(self.client.queues(&ask), self.rest());
        let (queues, (agents, last_failures, asked_in)) = (queues?, rest?);
        let asked_in = began.elapsed().saturating_sub(RATES_OVER).max(asked_in);
        let now = self.totals().await?;
        let before = self.before.replace(now);
        let rate = |of: fn(&Totals) -> u64| {
            let before = before.as_ref()?;
            #[allow(clippy::cast_precision_loss, reason = "a rate for people")]
            let count = of(&now).saturating_sub(of(before)) as f64;
            Some(count / now.at.duration_since(before.at).as_secs_f64().max(0.001))
        };
        Ok(Snapshot {
            queues,
            agents,
            last_failures,
            dead: now.dead_kept,
            outcomes_per_second: rate(|totals| totals.outcomes),
            dead_per_second: rate(|totals| totals.dead),
            asked_in_ms: u64::try_from(asked_in.as_millis()).unwrap_or(u64::MAX),
        })
    }

    async fn rest(&self) -> Result<(Vec<AgentEntry>, Vec<DeadLetter>, Duration), Error> {
        let began = Instant::now();
        let agents = self.client.agents().await?;
        // The failures are a help to the eye: without them a frame is worth showing.
        let letters = doctor::latest_letters(&self.client, None, LETTERS).await.unwrap_or_default();
        Ok((agents, letters, began.elapsed()))
    }

    async fn totals(&self) -> Result<Totals, Error> {
        let state = |stream| broker::topology::stream_state(self.client.connection(), stream);
        let (outcomes, dead, kept) =
            tokio::join!(state(&self.names.outcomes), state(&self.names.dead), self.client.dead_count());
        let (outcomes, dead, dead_kept) = (outcomes?, dead?, kept?);
        // What the stream holds besides letters are the marks of replays.
        let marks = dead.messages.saturating_sub(dead_kept);
        Ok(Totals {
            at: Instant::now(),
            outcomes: outcomes.last_sequence,
            dead: dead.last_sequence.saturating_sub(marks),
            dead_kept,
        })
    }
}
