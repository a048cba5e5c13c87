//! What waits for its time: retries and delayed requests.

use std::time::Duration;

use protocol::{Capability, Lane, Request, RequestId, Subject, header, subject::filter, time::Timestamp};
use serde::Serialize;

use crate::{Client, Error};

/// Messages that one read asks for: their bodies come along, so this is less than the server would give.
const PAGE: usize = 64;

/// A request that waits for its time.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Scheduled {
    /// The request.
    pub id: RequestId,
    /// When it is due, on the broker's clock.
    pub due: Option<Timestamp>,
    /// What is asked for; none where the schedule's target is no request subject.
    pub capability: Option<Capability>,
    /// The lane it goes to.
    pub lane: Lane,
    /// Which attempt comes then, from 1: above that it is a retry.
    pub attempt: u32,
    /// The code of its latest failure, where it is a retry.
    pub last_failure: Option<String>,
    /// The code of what it was put off for, where it is a snooze: `rate_limited`, `circuit_open`.
    pub snoozed_for: Option<String>,
    /// When it was put there.
    pub since: Timestamp,
}

impl Client {
    /// What waits for its time, the first due first; at most `count_max`, by when it was put there.
    ///
    /// # Errors
    /// `StreamsMissing`, and what reading says.
    pub async fn later(&self, count_max: usize) -> Result<Vec<Scheduled>, Error> {
        let stream = &self.names().requests;
        let filter = filter::later(self.namespace());
        let mut all = Vec::new();
        let mut from = Some(1);
        while let Some(sequence) = from
            && all.len() < count_max
        {
            let page = match self.reader().page(stream, &filter, sequence, PAGE.min(count_max - all.len())).await {
                Ok(page) => page,
                Err(error) => return Err(self.explained(error, stream).await),
            };
            all.extend(page.messages.iter().filter_map(|message| self.scheduled(message)));
            from = page.next;
        }
        all.sort_by(|one, other| (one.due, &one.id).cmp(&(other.due, &other.id)));
        Ok(all)
    }

    /// What should have been tried `late` ago or longer and still waits, among the first `read_max` schedules; at most
    /// `count_max`. No more than those are held, however many wait.
    ///
    /// # Errors
    /// `StreamsMissing`, and what reading says.
    pub async fn overdue(&self, late: Duration, read_max: usize, count_max: usize) -> Result<Vec<Scheduled>, Error> {
        let stream = &self.names().requests;
        let filter = filter::later(self.namespace());
        let (mut overdue, mut read, mut from) = (Vec::new(), 0, Some(1));
        while let Some(sequence) = from
            && read < read_max
            && overdue.len() < count_max
        {
            let page = match self.reader().page(stream, &filter, sequence, PAGE.min(read_max - read)).await {
                Ok(page) => page,
                Err(error) => return Err(self.explained(error, stream).await),
            };
            let now = self.now().await?;
            let is_late = |due: Timestamp| (now - due).to_std().is_ok_and(|by| by > late);
            read += page.messages.len();
            let schedules = page.messages.iter().filter_map(|message| self.scheduled(message));
            overdue.extend(schedules.filter(|schedule| schedule.due.is_some_and(is_late)));
            from = page.next;
        }
        overdue.truncate(count_max);
        Ok(overdue)
    }

    pub(crate) fn scheduled(&self, message: &broker::StoredMessage) -> Option<Scheduled> {
        let Some(Subject::Later(id)) = Subject::parse(self.namespace(), &message.subject) else { return None };
        let target = message.headers.get(header::NATS_SCHEDULE_TARGET);
        let (lane, capability) = match target.and_then(|target| Subject::parse(self.namespace(), target)) {
            Some(Subject::Request { lane, capability }) => (lane, Some(capability)),
            _ => (Lane::default(), None),
        };
        let request = Request::read(&message.headers, id.clone()).ok();
        Some(Scheduled {
            due: broker::due_time(&message.headers),
            capability,
            lane,
            attempt: request.as_ref().map_or(1, |request| request.attempt),
            snoozed_for: request.as_ref().and_then(|request| request.snoozed_for.clone()),
            last_failure: request.and_then(|request| Some(request.failures.last()?.code.clone())),
            since: message.time,
            id,
        })
    }
}
