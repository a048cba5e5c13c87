//! What a schedule fired that must not overlap with itself: it becomes unique work, or is skipped.
//!
//! The firing is acknowledged after the request, or the event that it was skipped, is stored. A coordinator that dies in
//! between leaves it to the next one, and the request is stored once all the same: its message id is the firing's
//! sequence, which the broker remembers for two minutes.

use std::time::Duration;

use broker::{Delivery, Disposition, Error, Kind, Outgoing};
use chrono::TimeDelta;
use protocol::{
    CronName, CronSpec, Subject,
    cron::{self, CronSkipped, CronTie, Overlap, SkipReason},
    event, header, time,
    topology::fires_consumer,
};
use tokio_util::sync::CancellationToken;

use crate::{duty::follow, post::Post};

/// How long a firing is put off that could not be handled.
const PUT_OFF: Duration = Duration::from_secs(1);

/// How often a firing is put off because its spec is not read yet.
const DELIVERIES_BEHIND_MAX: u64 = 5;

/// Lets firings through.
pub(crate) struct Fires {
    post: Post,
}

impl Fires {
    pub(crate) fn new(post: &Post) -> Self {
        Self { post: post.clone() }
    }

    /// Handles firings until `stop`.
    pub(crate) async fn keep(self, stop: CancellationToken) {
        let (post, consumer) = (self.post.clone(), fires_consumer(self.post.namespace()));
        follow::keep(self, post, consumer, stop).await;
    }

    async fn let_through(&self, name: &CronName, delivery: &Delivery) -> Result<(), Error> {
        // After a time without coordinators only the latest of many counts, as with the broker's own schedules.
        let latest = self.post.reader.last(&self.post.names.requests, &delivery.message.subject).await?;
        if latest.is_some_and(|latest| latest.sequence > delivery.sequence) {
            return self.skip(name, SkipReason::Overtaken, delivery).await;
        }
        let kept = self.post.configuration.get(&cron::key(name)).await?;
        // A replica may not have the spec yet that the schedule was made from.
        let made_from = CronTie::read(&delivery.message.headers).map_or(0, |tie| tie.revision);
        if kept.as_ref().map_or(0, |kept| kept.revision) < made_from && delivery.delivered < DELIVERIES_BEHIND_MAX {
            return Err(Error::new(Kind::TimedOut, "the spec that it was made from is not read yet"));
        }
        let spec = kept.and_then(|kept| Some((kept.revision, CronSpec::read(&kept.value?).ok()?)));
        let Some((revision, spec)) = spec.filter(|(_, spec)| !spec.paused && spec.overlap == Overlap::Skip) else {
            return self.skip(name, SkipReason::Withdrawn, delivery).await;
        };
        match self.publish(&CronTie { name: name.clone(), revision }, &spec, delivery).await {
            Ok(()) => {
                self.post.metrics.cron_fired.with_label_values(&["published"]).inc();
                Ok(())
            }
            Err(error) if error.kind() == Kind::SubjectFull => self.skip(name, SkipReason::Running, delivery).await,
            Err(error) => Err(error),
        }
    }

    async fn publish(&self, tie: &CronTie, spec: &CronSpec, delivery: &Delivery) -> Result<(), Error> {
        let mut headers = spec.request_headers(tie);
        if let Some(within) = spec.deadline.and_then(|within| TimeDelta::from_std(within).ok()) {
            headers.set(header::DEADLINE, time::format(delivery.published_at + within));
        }
        let subject = spec.unique(&tie.name).render(self.post.namespace());
        let outgoing = Outgoing::new(subject, spec.body.to_string()).with_headers(headers);
        // The id is looked at before the subject is found full, so its own first try skips no firing.
        self.post.recorder.record(&outgoing.with_message_id(format!("fire-{}", delivery.sequence))).await.map(|_| ())
    }

    async fn skip(&self, name: &CronName, reason: SkipReason, delivery: &Delivery) -> Result<(), Error> {
        let id = format!("fire-{}", delivery.sequence);
        let skipped = CronSkipped { name: name.clone(), reason, fired_at: delivery.published_at };
        let told = self.post.event(&format!("{}.{name}", event::CRON_SKIPPED), &id, &skipped).with_message_id(id);
        self.post.recorder.record(&told).await?;
        tracing::info!(cron = %name, ?reason, "firing skipped");
        self.post.metrics.cron_fired.with_label_values(&["skipped"]).inc();
        Ok(())
    }
}

impl follow::Handler for Fires {
    const NAME: &'static str = "fires";

    async fn handle(&self, delivery: &Delivery) {
        let Some(Subject::Fire(name)) = Subject::parse(self.post.namespace(), &delivery.message.subject) else {
            return delivery.ack(&self.post.connection).await;
        };
        if let Some(why) = delivery.unreadable() {
            // No schedule of ours fires such a one.
            tracing::error!(cron = %name, why, "firing leads to no request: its headers cannot be read");
            return delivery.ack(&self.post.connection).await;
        }
        match self.let_through(&name, delivery).await {
            Ok(()) => delivery.ack(&self.post.connection).await,
            // It would be refused again.
            Err(error) if error.disposition() == Disposition::Reject => {
                tracing::error!(cron = %name, %error, "firing leads to no request");
                delivery.ack(&self.post.connection).await;
            }
            Err(error) => {
                tracing::warn!(cron = %name, %error, "firing not handled yet");
                delivery.nak(&self.post.connection, PUT_OFF).await;
            }
        }
    }
}
