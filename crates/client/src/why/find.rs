//! Finding a request, wherever it is: by subject, by sequence, in agents' hands, or by reading queues.

use std::time::Duration;

use broker::{Kind, StoredMessage, topology};
use futures_util::{StreamExt, stream};
use protocol::{
    Capability, Origin, Request, RequestId, Status, Subject,
    control::{InHand, Inspection},
    limits,
    mark::{UniqueTries, tries_key},
    registry::{AgentEntry, State},
    subject::{Verb, filter},
    topology::{Source, worker_consumer},
};
use tokio::time::Instant;

use super::{Answer, Place, SentAgain, SilentAgent, Why, WhyAsk, decide::decide};
use crate::{Client, Error, QueuesAsk, queues::id_of_sequence};

/// Agents that are asked at once, and how long one may take: who is alive answers within milliseconds.
const ASKED_AT_ONCE: usize = 64;
const ANSWERED_WITHIN: Duration = Duration::from_secs(1);

/// Messages that one read of a queue asks for; bodies come along.
const PAGE: usize = 250;

/// A request's message in a queue.
struct Found {
    capability: Capability,
    source: Source,
    message: StoredMessage,
}

/// What an agent says of a request.
enum Asked<'a> {
    Has(Box<(AgentEntry, InHand)>),
    HasNot,
    Silent(&'a AgentEntry),
}

/// How far queues were read.
#[derive(Default)]
struct Scan {
    found: Option<Found>,
    looked_at: u64,
    is_cut: bool,
}

impl Client {
    /// Why a request has not been done: its outcome, its dead letter, its schedule, who has it in hand, or what keeps back
    /// the queue that it lies in. Ids by sequence are found at once; for others, agents are asked, and then queues are read
    /// up to a bound.
    ///
    /// # Errors
    /// `NotFound` for a `seq-` or `useq-` id that was never issued, or whose message has an id of its own;
    /// `StreamsMissing`, and what asking says.
    pub async fn why(&self, id: &RequestId, ask: &WhyAsk) -> Result<Why, Error> {
        if let Some(why) = self.why_by_subject(id).await? {
            return Ok(why);
        }
        let issued = match id.origin() {
            Origin::Sequence(sequence) => self.issued(id, &self.names().requests, sequence).await?,
            Origin::UniqueSequence(sequence) => self.issued(id, &self.names().unique, sequence).await?,
            Origin::Client | Origin::Step { .. } => None,
        };
        let issued = issued.and_then(|message| self.place_of(message));
        let capability = issued.as_ref().map(|found| &found.capability).or(ask.capability.as_ref());
        let (holder, silent) = self.who_has(id, capability).await?;
        if let Some((agent, in_hand)) = holder {
            return self.with_deaths(running(id, &agent, in_hand)).await;
        }
        let scan = match (issued, id.origin()) {
            (Some(found), _) => Scan { found: Some(found), ..Scan::default() },
            // A unique request is never published again.
            (None, Origin::UniqueSequence(_)) => Scan::default(),
            (None, _) => self.scan(id, ask).await?,
        };
        if let Some(found) = scan.found {
            let mut why = self.why_in_queue(id, found).await?;
            if let Answer::Taken { silent: named } = &mut why.answer {
                let serves = |agent: &&AgentEntry| why.capability.as_ref().is_none_or(|what| agent.serves(what));
                named.extend(silent.iter().filter(serves).map(SilentAgent::of));
            }
            return self.with_deaths(why).await;
        }
        // It may have gone on while it was looked for.
        if let Some(why) = self.why_by_subject(id).await? {
            return Ok(why);
        }
        let is_by_sequence = matches!(id.origin(), Origin::Sequence(_) | Origin::UniqueSequence(_));
        let answer = match is_by_sequence && !scan.is_cut {
            true => Answer::Forgotten,
            false => Answer::NotFound { looked_at: scan.looked_at, was_all: !scan.is_cut },
        };
        Ok(Why { id: id.clone(), capability: ask.capability.clone(), lane: None, answer, besides: Vec::new() })
    }

    /// What is found by the request's own subjects: outcome, dead letter, schedule.
    async fn why_by_subject(&self, id: &RequestId) -> Result<Option<Why>, Error> {
        let outcome = self.stored_outcome(id).await?;
        let why = |capability, lane, answer| Why { id: id.clone(), capability, lane, answer, besides: Vec::new() };
        if let Some(outcome) = outcome.as_ref().filter(|outcome| outcome.status != Status::Failed) {
            let answer = match outcome.status {
                Status::Cancelled => Answer::Cancelled,
                Status::Expired => Answer::Expired,
                Status::Completed | Status::Failed => Answer::Completed,
            };
            return Ok(Some(why(outcome.capability.clone(), None, answer)));
        }
        if let Some(stored) = self.stored_letter(id).await? {
            let letter = stored.letter;
            let (code, message) = (letter.failure.code, letter.failure.message);
            let last = self.followed(id).await?.pop();
            let sent_again = last.map(|last| SentAgain {
                id: last.replay.request,
                at: last.replay.at,
                status: last.outcome.map(|outcome| outcome.status),
            });
            let answer = Answer::Dead { code, message, attempt: letter.attempt, sent_again };
            return Ok(Some(why(Some(letter.capability), Some(Source::Lane(letter.lane)), answer)));
        }
        if let Some(outcome) = outcome {
            let failure = outcome.failure();
            let (code, message) = failure.map(|failure| (failure.code, failure.message)).unwrap_or_default();
            return Ok(Some(why(outcome.capability, None, Answer::Failed { code, message })));
        }
        let (stream, subject) = (&self.names().requests, Subject::Later(id.clone()).render(self.namespace()));
        let waiting = match self.reader().last(stream, &subject).await {
            Ok(waiting) => waiting.and_then(|message| self.scheduled(&message)),
            Err(error) => return Err(self.explained(error, stream).await),
        };
        Ok(waiting.map(|waiting| {
            let answer = Answer::scheduled(waiting.due, waiting.attempt, waiting.last_failure, waiting.snoozed_for);
            why(waiting.capability, Some(Source::Lane(waiting.lane)), answer)
        }))
    }

    /// With who died of it so far, where it was delivered again.
    async fn with_deaths(&self, mut why: Why) -> Result<Why, Error> {
        let suspects = self.suspects().await?;
        if let Some(suspect) = suspects.iter().find(|suspect| suspect.id == why.id) {
            let agents = self.agents().await?;
            let deaths = suspect.deaths(&agents.iter().map(|agent| &agent.instance).collect());
            let suspected = Answer::Suspected { deaths, set_aside_at: limits::POISON_MARKS };
            why.besides.extend((deaths > 0).then_some(suspected));
        }
        Ok(why)
    }

    fn place_of(&self, message: StoredMessage) -> Option<Found> {
        let (capability, source) = match Subject::parse(self.namespace(), &message.subject)? {
            Subject::Request { lane, capability } => (capability, Source::Lane(lane)),
            Subject::Unique { capability, .. } => (capability, Source::Unique),
            _ => return None,
        };
        Some(Found { capability, source, message })
    }

    /// Asks the agents that may have it: who has it, and, as far as it was asked, who is connected and does not answer.
    async fn who_has(
        &self,
        id: &RequestId,
        capability: Option<&Capability>,
    ) -> Result<(Option<(AgentEntry, InHand)>, Vec<AgentEntry>), Error> {
        let mut agents = self.agents().await?;
        let is_there = |agent: &AgentEntry| !matches!(agent.state, State::Stopped | State::Failed);
        agents.retain(|agent| is_there(agent) && capability.is_none_or(|capability| agent.serves(capability)));
        let asked: Vec<_> = agents.iter().map(|agent| self.inspect_for(agent, id)).collect();
        let mut answers = stream::iter(asked).buffer_unordered(ASKED_AT_ONCE);
        let mut silent = Vec::new();
        while let Some(answer) = answers.next().await {
            match answer {
                Asked::Has(holder) => return Ok((Some(*holder), silent)),
                Asked::HasNot => {}
                Asked::Silent(agent) => silent.push(agent.clone()),
            }
        }
        silent.sort_by(|one, other| one.instance.cmp(&other.instance));
        Ok((None, silent))
    }

    /// An agent that is not connected, or says something else, has nothing that is known of.
    async fn inspect_for<'a>(&self, agent: &'a AgentEntry, id: &RequestId) -> Asked<'a> {
        let subject = Subject::Control { instance: Some(agent.instance.clone()), verb: Verb::Inspect };
        let subject = subject.render(self.namespace());
        let answer = match self.connection().request(subject, None, Default::default(), ANSWERED_WITHIN).await {
            Ok(answer) => answer,
            Err(error) if error.kind() == Kind::TimedOut => return Asked::Silent(agent),
            Err(_) => return Asked::HasNot,
        };
        let Ok(inspection) = serde_json::from_slice::<Inspection>(&answer.body) else { return Asked::HasNot };
        let in_hand = inspection.in_hand.into_iter().find(|in_hand| in_hand.id == *id);
        in_hand.map_or(Asked::HasNot, |in_hand| Asked::Has(Box::new((inspection.entry, in_hand))))
    }

    /// Reads the lanes, first to last, until it is found or the bound is reached. Unique work has ids by sequence.
    async fn scan(&self, id: &RequestId, ask: &WhyAsk) -> Result<Scan, Error> {
        let filters = match &ask.capability {
            Some(capability) => protocol::Lane::ALL
                .map(|lane| Subject::Request { lane, capability: capability.clone() }.render(self.namespace())),
            None => filter::requests(self.namespace()),
        };
        let until = Instant::now() + ask.scan_within;
        let mut scan = Scan::default();
        for filter in filters {
            self.scan_lane(id, &filter, ask.scan_max, until, &mut scan).await?;
            if scan.found.is_some() {
                break;
            }
        }
        Ok(scan)
    }

    async fn scan_lane(
        &self,
        id: &RequestId,
        filter: &str,
        count_max: usize,
        until: Instant,
        scan: &mut Scan,
    ) -> Result<(), Error> {
        let stream = &self.names().requests;
        let (mut from, mut read) = (Some(1), 0);
        while let Some(sequence) = from {
            if read >= count_max || Instant::now() >= until {
                scan.is_cut = true;
                return Ok(());
            }
            let page = match self.reader().page(stream, filter, sequence, PAGE.min(count_max - read)).await {
                Ok(page) => page,
                Err(error) => return Err(self.explained(error, stream).await),
            };
            read += page.messages.len();
            scan.looked_at += page.messages.len() as u64;
            from = page.next;
            if let Some(message) = page.messages.into_iter().find(|message| is_of(message, id)) {
                scan.found = self.place_of(message);
                return Ok(());
            }
        }
        Ok(())
    }

    async fn why_in_queue(&self, id: &RequestId, found: Found) -> Result<Why, Error> {
        let Found { capability, source, message } = found;
        let consumer = worker_consumer(self.namespace(), &capability, source, 1);
        let ask = QueuesAsk { capability: Some(capability.clone()), rates_over: None, schedules_max: 1 };
        let queues = self.queues(&ask).await?.queues;
        let queue = queues.into_iter().find(|queue| queue.lane == source);
        // It is asked for, so that it is there, unless the message went meanwhile.
        let Some(queue) = queue else {
            let answer = Answer::NotFound { looked_at: 1, was_all: false };
            return Ok(Why {
                id: id.clone(),
                capability: Some(capability),
                lane: Some(source),
                answer,
                besides: Vec::new(),
            });
        };
        let delivered = match topology::consumer_state(self.connection(), &consumer.stream, &consumer.name).await {
            Ok(state) => state.delivered,
            Err(error) if error.kind() == broker::Kind::NotFound => 0,
            Err(error) => return Err(self.explained(error, &consumer.stream).await),
        };
        let was_delivered = message.sequence <= delivered;
        let page = self.reader().page(&consumer.stream, &consumer.filter, message.sequence, 1).await?;
        let from_it_on = page.remaining.map_or(queue.waiting, |remaining| remaining + 1);
        let ahead = if was_delivered { 0 } else { queue.waiting.saturating_sub(from_it_on) };
        let tries = match (source, was_delivered) {
            (Source::Unique, true) => self.tries(&consumer.stream, message.sequence).await?,
            _ => None,
        };
        let (answer, besides) = decide(&Place { queue, was_delivered, ahead, tries });
        Ok(Why { id: id.clone(), capability: Some(capability), lane: Some(source), answer, besides })
    }

    async fn tries(&self, stream: &str, sequence: u64) -> Result<Option<(u32, Option<String>, Option<String>)>, Error> {
        let entry = self.bucket(&self.names().state).get(&tries_key(stream, sequence)).await?;
        let tries = entry.and_then(|entry| serde_json::from_slice::<UniqueTries>(entry.value.as_deref()?).ok());
        let code = |tries: &UniqueTries| tries.failures.last().map(|failure| failure.code.clone());
        Ok(tries.map(|tries| (tries.attempt, code(&tries), tries.snoozed_for)))
    }
}

impl SilentAgent {
    fn of(agent: &AgentEntry) -> Self {
        let AgentEntry { instance, kind, host, pid, .. } = agent.clone();
        Self { instance, kind, host, pid }
    }
}

/// Whether a message is this request's.
fn is_of(message: &StoredMessage, id: &RequestId) -> bool {
    let fallback = id_of_sequence(Source::Lane(protocol::Lane::Normal), message.sequence);
    Request::read(&message.headers, fallback).is_ok_and(|request| request.id == *id)
}

fn running(id: &RequestId, agent: &AgentEntry, in_hand: InHand) -> Why {
    let answer = Answer::Running {
        instance: agent.instance.clone(),
        kind: agent.kind.clone(),
        host: agent.host.clone(),
        attempt: in_hand.attempt,
        since: in_hand.since,
    };
    Why { id: id.clone(), capability: Some(in_hand.capability), lane: None, answer, besides: Vec::new() }
}
