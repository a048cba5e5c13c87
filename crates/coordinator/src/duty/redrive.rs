//! Dead letters that a rule sends again.
//!
//! Rules are keys of the configuration bucket. The letters are read from where the last look ended; whenever a rule is
//! another one than before, from the beginning, so that none is missed which came while the rules were read. What is done
//! for a letter is done once however often it is looked at: the schedule is stored at the place of the letter's first
//! replay, whose id follows from the letter, and then the mark, which keeps every later look away.

use std::time::Duration;

use broker::{Disposition, Entry, Error, Outgoing, StoredMessage, scheduled_at};
use chrono::TimeDelta;
use futures_util::{TryStreamExt, stream};
use protocol::{
    DeadLetter, Kind, RedriveRule, Replay, RequestId, Subject, limits, redrive, replay, subject::filter,
    time::Timestamp,
};

use crate::{duty::Duty, post::Post};

/// Letters that one read asks for: their bodies come along.
const PAGE: usize = 64;

/// Letters that are dealt with at once.
const AT_ONCE: usize = 32;

/// Sends letters again by rule.
pub(crate) struct Redrive {
    post: Post,
    /// Keys and revisions of the rules that the letters up to `from` were looked at with.
    revisions: Vec<(String, u64)>,
    /// The sequence to read on from.
    from: u64,
}

/// A letter, and the rule that is for it.
struct Case<'a> {
    name: &'a Kind,
    rule: &'a RedriveRule,
    letter: DeadLetter,
    message: StoredMessage,
}

impl Redrive {
    pub(crate) fn new(post: &Post) -> Self {
        Self { post: post.clone(), revisions: Vec::new(), from: 1 }
    }

    /// The rules that can be read, by name. A broken one is told whenever it is new, and does nothing.
    async fn rules(&mut self) -> Result<Vec<(Kind, RedriveRule)>, Error> {
        let mut entries = self.post.configuration.list(redrive::RULE_KEYS).await?;
        entries.sort_by(|one, other| one.key.cmp(&other.key));
        let revisions: Vec<(String, u64)> = entries.iter().map(|entry| (entry.key.clone(), entry.revision)).collect();
        let is_new = revisions != self.revisions;
        if is_new {
            (self.revisions, self.from) = (revisions, 1);
        }
        let (mut rules, mut broken) = (Vec::new(), 0);
        for entry in &entries {
            match read(entry) {
                Ok(rule) => rules.push(rule),
                Err(fault) => {
                    broken += 1;
                    if is_new {
                        tracing::warn!(rule = entry.key, fault, "a redrive rule is broken and does nothing");
                    }
                }
            }
        }
        self.post.metrics.redrive_rules_broken.set(broken);
        Ok(rules)
    }

    /// Schedules the replay and marks the letter, unless somebody has sent it again.
    async fn send_again(&self, case: Case<'_>, now: Timestamp) -> Result<(), Error> {
        match self.try_send_again(&case, now).await {
            // One that can never be sent again must not keep the others back.
            Err(error) if error.disposition() == Disposition::Reject => {
                tracing::error!(request.id = %case.letter.id, rule = %case.name, %error, "a dead letter cannot be sent again");
                Ok(())
            }
            ended => ended,
        }
    }

    async fn try_send_again(&self, case: &Case<'_>, now: Timestamp) -> Result<(), Error> {
        let Case { name, rule, letter, message } = case;
        let (namespace, names) = (self.post.namespace(), &self.post.names);
        // The leader knows: a person may have sent it again, with another body and so under another id, this very moment.
        let marks = filter::replayed_of(namespace, &letter.id);
        if self.post.reader.has(&names.dead, &marks).await? {
            return Ok(());
        }
        let request = replay::replay_id(&letter.id, 1, None);
        let wait = rule.wait(letter, &message.headers).max(limits::SCHEDULE_DELAY_MIN);
        let due = message.time + TimeDelta::from_std(wait).unwrap_or_default();
        // Whoever did this before and could not mark it may have done so long ago.
        if !self.is_done(&request).await? {
            let target = letter.sent_again_to(&message.headers).render(namespace);
            let waiting = Outgoing::new(Subject::Later(request.clone()).render(namespace), message.body.clone())
                .with_headers(letter.headers_again(&message.headers, request.clone()))
                .with_message_id(request.as_str());
            self.post.recorder.record(&scheduled_at(waiting, due, &target).expecting(0)).await?;
        }
        let mark = Replay {
            request,
            of: letter.id.clone(),
            capability: letter.capability.clone(),
            at: now,
            by: None,
            rule: Some((*name).clone()),
            due: Some(due),
            edited: false,
        };
        let Replay { capability, of, request, .. } = mark.clone();
        let at = Subject::Replayed { capability, id: of, request }.render(namespace);
        // Plain data with text keys always has a JSON form.
        let marked = Outgoing::new(at, serde_json::to_vec(&mark).unwrap_or_default()).expecting(0);
        if let broker::Settled::Stored(_) = self.post.recorder.record(&marked).await? {
            tracing::info!(request.id = %letter.id, rule = %name, again = %mark.request, due = %due, "sent again by rule");
            self.post.metrics.redriven.inc();
        }
        Ok(())
    }

    async fn is_done(&self, request: &RequestId) -> Result<bool, Error> {
        let subject = Subject::Outcome(request.clone()).render(self.post.namespace());
        self.post.reader.has(&self.post.names.outcomes, &subject).await
    }
}

impl Duty for Redrive {
    const NAME: &'static str = "redrive";

    fn begin(&mut self) {
        self.revisions.clear();
        self.from = 1;
    }

    async fn look(&mut self) -> Result<Option<Duration>, Error> {
        let rules = self.rules().await?;
        if rules.is_empty() {
            return Ok(None);
        }
        let (stream, letters) = (self.post.names.dead.clone(), filter::dead(self.post.namespace(), None));
        loop {
            let page = self.post.reader.page(&stream, &letters, self.from, PAGE).await?;
            let Some(through) = page.messages.last().map(|message| message.sequence) else { return Ok(None) };
            let cases: Vec<Case<'_>> = page.messages.into_iter().filter_map(|message| case(&rules, message)).collect();
            if !cases.is_empty() {
                let now = self.post.now().await?;
                stream::iter(cases.into_iter().map(Ok))
                    .try_for_each_concurrent(AT_ONCE, |case| self.send_again(case, now))
                    .await?;
            }
            // Only now: what failed is looked at again.
            self.from = through + 1;
            if page.next.is_none() {
                return Ok(None);
            }
        }
    }
}

fn read(entry: &Entry) -> Result<(Kind, RedriveRule), String> {
    let name = redrive::rule_name(&entry.key).ok_or("its name is not a-z, 0-9 and `-`")?;
    let rule = RedriveRule::read(entry.value.as_deref().unwrap_or_default())?;
    Ok((name, rule))
}

/// The first rule by name that is for this letter.
fn case(rules: &[(Kind, RedriveRule)], message: StoredMessage) -> Option<Case<'_>> {
    let letter = DeadLetter::read(&message.headers).filter(|_| message.is_readable)?;
    let (name, rule) = rules.iter().find(|(_, rule)| rule.applies(&letter, &message.headers, message.time))?;
    Some(Case { name, rule, letter, message })
}
