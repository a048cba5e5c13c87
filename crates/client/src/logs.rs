//! What the processes of a fleet have logged, read without any consumer.

use std::{collections::VecDeque, time::Duration};

use broker::{StoredMessage, Subscription};
use protocol::{
    InstanceId, Kind, Subject,
    log_line::{Level, LogLine},
    subject::filter,
    time::Timestamp,
};
use regex::Regex;

use crate::{Client, Error};

/// Messages that one read asks for.
const PAGE: usize = 500;

/// How far back lines are looked for, in messages of the stream; the first look goes this far, each further one twice as
/// far.
const BACK_FIRST: u64 = 2_000;
const BACK_MAX: u64 = 100_000;

/// How often a follower looks without being told.
const LOOK: Duration = Duration::from_secs(2);

/// How long after a hint its line may take until a replica has it, and how often that is looked at.
const BEHIND_LOOKS: u32 = 10;
const BEHIND_WAIT: Duration = Duration::from_millis(20);

/// Which lines are wanted: those that are all that is said.
#[derive(Clone, Debug)]
pub struct LogQuery {
    /// Of processes of this kind.
    pub kind: Option<Kind>,
    /// Of the process whose instance id begins or ends like this.
    pub agent: Option<String>,
    /// That matter at least as much.
    pub level: Level,
    /// About this request.
    pub request: Option<String>,
    /// Whose text or fields have this.
    pub pattern: Option<Regex>,
    /// Stored since then.
    pub since: Option<Timestamp>,
    /// The latest so many.
    pub last: usize,
}

/// Lines, the latest last.
#[derive(Clone, Debug)]
pub struct LogLines {
    /// The lines.
    pub lines: Vec<LogLine>,
    /// Whether there may be earlier ones that were not looked at.
    pub is_cut: bool,
}

/// Gives lines as they come.
#[derive(Debug)]
pub struct LogFollower {
    client: Client,
    query: LogQuery,
    hints: Subscription,
    next: u64,
}

impl LogQuery {
    /// Everything, the latest so many.
    pub fn last(count: usize) -> Self {
        Self { kind: None, agent: None, level: Level::Trace, request: None, pattern: None, since: None, last: count }
    }

    /// Whether a line is wanted.
    pub fn wants(&self, line: &LogLine) -> bool {
        line.level <= self.level
            && self.kind.as_ref().is_none_or(|kind| *kind == line.kind)
            && self.agent.as_ref().is_none_or(|part| is_named(&line.instance, part))
            && self.request.as_ref().is_none_or(|request| line.request.as_ref() == Some(request))
            && self.pattern.as_ref().is_none_or(|pattern| {
                let has = |text: &str| pattern.is_match(text);
                has(&line.message) || line.fields.iter().any(|(name, value)| has(name) || has(&text_of(value)))
            })
    }
}

/// Whether a part of an instance id names it: its beginning, with or without `ins_`, or its end, from four letters on.
pub(crate) fn is_named(instance: &InstanceId, part: &str) -> bool {
    let id = instance.as_str();
    let rest = id.strip_prefix("ins_").unwrap_or(id);
    id.starts_with(part) || rest.starts_with(part) || part.len() >= 4 && id.ends_with(part)
}

fn text_of(value: &serde_json::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

impl Client {
    /// The lines that are stored now.
    ///
    /// # Errors
    /// `StreamsMissing`, and what reading says.
    pub async fn logs(&self, query: &LogQuery) -> Result<LogLines, Error> {
        let end = self.logs_end().await?;
        self.logs_before(query, end).await
    }

    /// The lines that are stored now, and a follower that gives those that come after them.
    ///
    /// # Errors
    /// Those of [`Client::logs`].
    pub async fn follow_logs(&self, query: LogQuery) -> Result<(LogLines, LogFollower), Error> {
        let hints = self.connection().subscribe(filter::logs(self.namespace(), query.kind.as_ref(), None)).await?;
        let end = self.logs_end().await?;
        let past = self.logs_before(&query, end).await?;
        Ok((past, LogFollower { client: self.clone(), query, hints, next: end + 1 }))
    }

    /// The sequence of the last line of all.
    async fn logs_end(&self) -> Result<u64, Error> {
        let stream = &self.names().logs;
        match broker::topology::stream_state(self.connection(), stream).await {
            Ok(state) => Ok(state.last_sequence),
            Err(error) if error.kind() == broker::Kind::NotFound => Err(Error::streams_missing(stream)),
            Err(error) => Err(error.into()),
        }
    }

    async fn logs_before(&self, query: &LogQuery, end: u64) -> Result<LogLines, Error> {
        if let Some(since) = query.since {
            let first = self.reader().first_since(&self.names().logs, &self.logs_filter(query), since).await;
            let first = match first {
                Ok(first) => first,
                Err(error) => return Err(self.explained(error, &self.names().logs).await),
            };
            let Some(first) = first else { return Ok(LogLines { lines: Vec::new(), is_cut: false }) };
            let (lines, passed) = self.logs_between(query, first, end).await?;
            return Ok(LogLines { is_cut: passed > lines.len(), lines: lines.into() });
        }
        // Backwards in growing windows, because the lines that are wanted may be few.
        let (mut found, mut until, mut size) = (VecDeque::new(), end, BACK_FIRST);
        while until > 0 && found.len() < query.last && end - until < BACK_MAX {
            let from = until.saturating_sub(size - 1).max(1);
            let (lines, _) = self.logs_between(query, from, until).await?;
            for line in lines.into_iter().rev() {
                if found.len() == query.last {
                    break;
                }
                found.push_front(line);
            }
            (until, size) = (from - 1, size * 2);
        }
        Ok(LogLines { is_cut: until > 0, lines: found.into() })
    }

    /// The latest lines that are wanted from one sequence to another, and how many there were.
    async fn logs_between(&self, query: &LogQuery, from: u64, to: u64) -> Result<(VecDeque<LogLine>, usize), Error> {
        let (mut lines, mut count) = (VecDeque::new(), 0);
        let mut next = Some(from);
        while let Some(sequence) = next.filter(|sequence| *sequence <= to) {
            let page = match self.reader().page(&self.names().logs, &self.logs_filter(query), sequence, PAGE).await {
                Ok(page) => page,
                Err(error) => return Err(self.explained(error, &self.names().logs).await),
            };
            for message in page.messages.into_iter().filter(|message| message.sequence <= to) {
                let Some(line) = self.log_line(&message).filter(|line| query.wants(line)) else { continue };
                count += 1;
                if lines.len() == query.last {
                    lines.pop_front();
                }
                lines.push_back(line);
            }
            next = page.next;
        }
        Ok((lines, count))
    }

    fn logs_filter(&self, query: &LogQuery) -> String {
        // Only a whole id stands in a subject.
        let whole = query.agent.as_deref().filter(|part| part.starts_with("ins_") && part.len() == "ins_".len() + 32);
        let instance = whole.and_then(|part| InstanceId::parse(part).ok());
        filter::logs(self.namespace(), query.kind.as_ref(), instance.as_ref())
    }

    fn log_line(&self, message: &StoredMessage) -> Option<LogLine> {
        match Subject::parse(self.namespace(), &message.subject)? {
            Subject::Log { kind, instance } => Some(LogLine::read(message.time, kind, instance, &message.body)),
            _ => None,
        }
    }
}

impl LogFollower {
    /// The lines that came since the last call; waits until there are some.
    ///
    /// # Errors
    /// What reading says; it may be called again.
    pub async fn next(&mut self) -> Result<Vec<LogLine>, Error> {
        loop {
            // A message of core NATS tells that there is something; what is stored is what counts.
            let is_hinted = tokio::select! {
                hint = self.hints.next() => hint.is_some(),
                () = tokio::time::sleep(LOOK) => false,
            };
            let before = self.next;
            let mut lines = self.read().await?;
            for _ in 0..if is_hinted { BEHIND_LOOKS } else { 0 } {
                if self.next > before {
                    break;
                }
                tokio::time::sleep(BEHIND_WAIT).await;
                lines = self.read().await?;
            }
            if !lines.is_empty() {
                return Ok(lines);
            }
        }
    }

    async fn read(&mut self) -> Result<Vec<LogLine>, Error> {
        let (client, mut wanted) = (self.client.clone(), Vec::new());
        loop {
            let (stream, subjects) = (&client.names().logs, client.logs_filter(&self.query));
            let page = match client.reader().page(stream, &subjects, self.next, PAGE).await {
                Ok(page) => page,
                Err(error) => return Err(client.explained(error, stream).await),
            };
            if let Some(last) = page.messages.last() {
                self.next = last.sequence + 1;
            }
            let lines = page.messages.iter().filter_map(|message| client.log_line(message));
            wanted.extend(lines.filter(|line| self.query.wants(line)));
            if page.next.is_none() {
                return Ok(wanted);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use protocol::time;

    use super::*;

    #[test]
    fn a_line_is_wanted_if_all_holds() {
        let (kind, instance) = (Kind::parse("words").unwrap(), InstanceId::parse("ins_0199aabbccdd").unwrap());
        let mut line = LogLine::new(time::now(), Level::Warn, "printing failed", kind.clone(), instance);
        line.request = Some("order-7".to_owned());
        line.fields.insert("error".to_owned(), "no paper".into());
        let query = LogQuery::last(1);
        let pattern = |text: &str| Regex::new(text).ok();
        assert!(query.wants(&line));
        for wanted in [
            LogQuery { kind: Some(kind), level: Level::Warn, ..query.clone() },
            LogQuery { agent: Some("0199aa".into()), request: Some("order-7".into()), ..query.clone() },
            LogQuery { agent: Some("ccdd".into()), pattern: pattern("print.*fail"), ..query.clone() },
            LogQuery { pattern: pattern("^no paper$"), ..query.clone() },
        ] {
            assert!(wanted.wants(&line), "{wanted:?}");
        }
        for unwanted in [
            LogQuery { kind: Kind::parse("files").ok(), ..query.clone() },
            LogQuery { level: Level::Error, ..query.clone() },
            LogQuery { agent: Some("dd".into()), ..query.clone() },
            LogQuery { request: Some("order".into()), ..query.clone() },
            LogQuery { pattern: pattern("ink"), ..query.clone() },
        ] {
            assert!(!unwanted.wants(&line), "{unwanted:?}");
        }
    }
}
