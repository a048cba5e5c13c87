//! Shipping log lines to the fleet's log.

use std::{sync::atomic::Ordering, time::Duration};

use broker::{Connection, Link, Outgoing, Publisher, task};
use protocol::{
    ContentType, Headers, InstanceId, Kind, Namespace, Subject, header,
    log_line::{Level, LogLine},
    time,
};
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{collect::Collected, logs::Counters};

/// A batch leaves when it has this many lines, or its first one is this old, or its last one is an error.
const BATCH_MAX: usize = 100;
const BATCH_AGE_MAX: Duration = Duration::from_secs(1);

/// How long the storing of a batch is tried.
const STORED_WITHIN: Duration = Duration::from_secs(3);

/// How long nothing is shipped after a batch that was not stored; twice as long each time, because where it is not
/// allowed every try makes the broker complain.
const REFUSED_PAUSE: Duration = Duration::from_secs(5);
const REFUSED_PAUSE_MAX: Duration = Duration::from_secs(300);

/// How long a process that ends waits until its last lines are stored.
const FINISHED_WITHIN: Duration = Duration::from_secs(2);

/// Who ships.
#[derive(Clone, Debug)]
pub struct Sender {
    /// The fleet.
    pub namespace: Namespace,
    /// What it is an instance of.
    pub kind: Kind,
    /// The process.
    pub instance: InstanceId,
}

/// Shipping that goes on until this is finished or dropped.
#[derive(Debug)]
pub struct Shipping {
    task: task::Owned<()>,
    end: CancellationToken,
}

impl Shipping {
    /// Ships what was logged until now, and ends. Waits two seconds at most.
    pub async fn finish(self) {
        self.end.cancel();
        // What is not stored by then stood on standard error.
        let _ = tokio::time::timeout(FINISHED_WITHIN, self.task.join()).await;
    }
}

pub(super) struct Shipper {
    link: watch::Receiver<Link>,
    connection: Connection,
    publisher: Publisher,
    subject: String,
    sender: Sender,
    waiting: mpsc::Receiver<Collected>,
    counters: Counters,
    /// Dropped lines that were told.
    told: u64,
    end: CancellationToken,
}

impl Shipper {
    pub(super) fn start(
        connection: &Connection,
        sender: Sender,
        waiting: mpsc::Receiver<Collected>,
        counters: Counters,
    ) -> Shipping {
        let end = CancellationToken::new();
        let place = Subject::Log { kind: sender.kind.clone(), instance: sender.instance.clone() };
        let shipper = Self {
            link: connection.link(),
            publisher: Publisher::new(connection),
            connection: connection.clone(),
            subject: place.render(&sender.namespace),
            sender,
            waiting,
            counters,
            told: 0,
            end: end.clone(),
        };
        Shipping { task: task::spawn("log shipper", shipper.run()), end }
    }

    async fn run(mut self) {
        let mut pause = REFUSED_PAUSE;
        while let Some(batch) = self.gather().await {
            let (lines, told) = (batch.len() as u64, self.told);
            let batch = self.gap().into_iter().chain(batch).collect();
            let stored = self.store(batch).await;
            self.counters.waiting.fetch_sub(lines, Ordering::AcqRel);
            match stored {
                Ok(()) => {
                    self.counters.shipped.inc_by(lines);
                    pause = REFUSED_PAUSE;
                }
                Err(error) => {
                    self.counters.dropped.inc_by(lines);
                    self.told = told;
                    tracing::debug!(%error, lines, "log lines not stored");
                    tokio::select! {
                        () = tokio::time::sleep(pause) => {}
                        () = self.end.cancelled() => {}
                    }
                    pause = (pause * 2).min(REFUSED_PAUSE_MAX);
                }
            }
        }
    }

    /// The lines that leave together; none when it is over and nothing is left.
    async fn gather(&mut self) -> Option<Vec<LogLine>> {
        let first = tokio::select! {
            biased;
            line = self.waiting.recv() => line?,
            () = self.end.cancelled() => return None,
        };
        let until = Instant::now() + BATCH_AGE_MAX;
        let mut is_urgent = first.level == Level::Error;
        let mut batch = vec![first];
        while batch.len() < BATCH_MAX && !is_urgent {
            let next = tokio::select! {
                biased;
                line = self.waiting.recv() => line,
                () = self.end.cancelled() => None,
                () = tokio::time::sleep_until(until) => None,
            };
            let Some(next) = next else { break };
            is_urgent = next.level == Level::Error;
            batch.push(next);
        }
        // While there is no connection lines wait in the channel, and past its bound they are dropped and counted there: the
        // client library would keep what it is given without telling how much it lost.
        tokio::select! {
            is_up = is_up(&mut self.link) => is_up.then_some(())?,
            () = self.end.cancelled() => {}
        }
        Some(batch.into_iter().map(|line| self.line(line)).collect())
    }

    /// A line in place of those that were dropped since the last batch.
    fn gap(&mut self) -> Option<LogLine> {
        let dropped = self.counters.dropped.get();
        let count = dropped - std::mem::replace(&mut self.told, dropped);
        let Sender { kind, instance, .. } = self.sender.clone();
        let message = format!("{count} log lines before this one were dropped: they stand on standard error only");
        (count > 0).then(|| {
            let mut line = LogLine::new(time::now(), Level::Warn, message, kind, instance);
            line.target = module_path!().to_owned();
            line.fields.insert("dropped".to_owned(), count.into());
            line
        })
    }

    fn line(&self, Collected { time, level, target, said }: Collected) -> LogLine {
        let Sender { kind, instance, .. } = self.sender.clone();
        let line = LogLine {
            time,
            level,
            message: said.message,
            target,
            kind,
            instance,
            request: said.request,
            capability: said.capability,
            attempt: said.attempt,
            trace_id: said.trace_id,
            fields: said.fields,
        };
        line.bounded()
    }

    /// All but the last line go without an acknowledgement: they come before it on the same connection, so its
    /// acknowledgement says that they were taken too, unless the stream refused just them.
    async fn store(&self, lines: Vec<LogLine>) -> Result<(), broker::Error> {
        let mut headers = Headers::new();
        headers.push(header::CONTENT_TYPE, ContentType::Json.as_str());
        let outgoing = |line: &LogLine| {
            let body = serde_json::to_vec(line).unwrap_or_default();
            Outgoing::new(self.subject.clone(), body).with_headers(headers.clone())
        };
        let Some((last, others)) = lines.split_last() else { return Ok(()) };
        for line in others {
            self.connection.publish_core(outgoing(line)).await?;
        }
        self.publisher.publish_within(&outgoing(last), STORED_WITHIN).await.map(|_| ())
    }
}

/// False when the connection has ended for good.
async fn is_up(link: &mut watch::Receiver<Link>) -> bool {
    link.wait_for(|link| link.is_up).await.is_ok()
}
