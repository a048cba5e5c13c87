use std::time::{Duration, Instant};

use broker::topology;
use futures_util::{TryStreamExt, stream};
use protocol::topology::Names;

use super::{Rounds, capability, requests::ask};
use crate::{Basis, Error, Report, Round, Side, Stage, agent::Load, measure::Tape, resources::Meter};

/// How often it is looked how much is done.
const LOOK: Duration = Duration::from_millis(50);

/// Without anything done for this long, the measurement is given up.
const STUCK: Duration = Duration::from_secs(60);

/// So many requests are queued before any agent is there; then one starts, and drains them. What it is held against is no bare
/// loop but the fleet itself with an empty queue, asked by the same number at once as the agent has slots.
#[derive(Clone, Debug)]
pub struct Backlog {
    /// How many. Defaults to 100,000.
    pub number: usize,
    /// The size of an input, in bytes. Defaults to 256.
    pub bytes: usize,
}

impl Default for Backlog {
    fn default() -> Self {
        Self { number: 100_000, bytes: 256 }
    }
}

impl Backlog {
    pub(super) async fn measure(&self, stage: &mut Stage<'_>, rounds: Rounds) -> Result<Report, Error> {
        const AT_ONCE: usize = 256;
        let load = Load::of_bytes(self.bytes, 0);
        let mut meter = Meter::default();
        let (mut taken, mut filled) = (Vec::new(), Vec::new());
        for _ in 0..rounds.count {
            stage.crew.hire(AT_ONCE, 1).await?;
            (stage.tell)("an empty queue");
            let empty = match rounds.with_yardstick {
                true => Some(ask(stage, (self.number / 5).clamp(1_000, 20_000), AT_ONCE, 1, &load).await?),
                false => None,
            };
            stage.crew.dismiss().await?;
            (stage.tell)("filling the queue");
            let filling = Tape::start();
            self.fill(stage, &load, AT_ONCE, &filling).await?;
            filled.push(filling.end().rate);
            (stage.tell)("draining it");
            let before = self.done(stage).await?;
            stage.crew.hire(AT_ONCE, 1).await?;
            meter.begin(stage.processes());
            let drained = self.drain(stage, before).await?;
            meter.pause();
            stage.crew.dismiss().await?;
            taken.push(Round { sortie: drained, yardstick: empty });
        }
        let parameters = [("number", self.number.into()), ("bytes", self.bytes.into())];
        let mut report = Report::new("backlog", parameters).with_rounds(taken, Basis::Rate);
        let filled = crate::report::median(filled.into_iter()).unwrap_or_default();
        report.figures.insert("submitted_per_second".to_owned(), filled);
        report.resources = meter.used();
        Ok(report)
    }

    async fn fill(&self, stage: &Stage<'_>, load: &Load, at_once: usize, tape: &Tape) -> Result<(), Error> {
        let capability = &capability(1)?;
        stream::iter((0..self.number).map(Ok::<_, Error>))
            .try_for_each_concurrent(at_once, |_| async move {
                let began = Instant::now();
                stage.request(capability, load).submit().await?;
                tape.note(began.elapsed());
                Ok(())
            })
            .await
    }

    /// From the moment when the agent is ready, which has begun by then, to the last outcome. Latencies are not told.
    async fn drain(&self, stage: &Stage<'_>, before: u64) -> Result<Side, Error> {
        let (began, goal) = (Instant::now(), self.number as u64);
        let first = self.done(stage).await? - before;
        let (mut done, mut moved) = (first, began);
        let mut marks = vec![(0.0, first)];
        while done < goal {
            tokio::time::sleep(LOOK).await;
            let now = self.done(stage).await? - before;
            if now > done {
                (done, moved) = (now, Instant::now());
                marks.push((began.elapsed().as_secs_f64(), done));
            } else if moved.elapsed() > STUCK {
                return Err(Error::Wrong(format!("nothing more is done, {done} of {goal} were")));
            }
        }
        let seconds = began.elapsed().as_secs_f64();
        let operations = goal - first;
        let between = |pair: &[(f64, u64)]| (pair[1].1 - pair[0].1) as f64 / (pair[1].0 - pair[0].0);
        let together = marks.len().div_ceil(60).max(1);
        let marks: Vec<_> = marks.into_iter().step_by(together).collect();
        Ok(Side {
            operations,
            seconds,
            rate: operations as f64 / seconds,
            rates: marks.windows(2).map(between).collect(),
            slice_seconds: LOOK.as_secs_f64() * together as f64,
            ..Side::default()
        })
    }

    /// How many outcomes were ever stored.
    async fn done(&self, stage: &Stage<'_>) -> Result<u64, Error> {
        let names = Names::of(stage.client.namespace());
        Ok(topology::stream_state(stage.client.connection(), &names.outcomes).await?.last_sequence)
    }
}
