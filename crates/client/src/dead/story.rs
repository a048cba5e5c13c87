//! The whole story of one letter: what it was before, and what followed.

use std::collections::VecDeque;

use protocol::{Outcome, Replay, RequestId, Subject, header};

use super::StoredLetter;
use crate::{Client, Error};

/// Replays, and replays of those, that one story tells at most.
const FOLLOWED_MAX: usize = 100;

/// A letter with what came before and after it.
#[derive(Clone, Debug)]
pub struct Story {
    /// The letter, with its body.
    pub stored: StoredLetter,
    /// The request that it was a replay of.
    pub replay_of: Option<RequestId>,
    /// The replays of it, and of those that were given up again, in the order in which they were sent.
    pub followed: Vec<Followed>,
}

/// A replay and what became of it.
#[derive(Clone, Debug)]
pub struct Followed {
    /// The replay.
    pub replay: Replay,
    /// Its outcome; none where it has none yet, or where that is no longer kept. A large body is left where it is.
    pub outcome: Option<Outcome>,
}

impl Client {
    /// The story of the letter of a request; none if there is no letter. At most 100 replays are told.
    ///
    /// # Errors
    /// `StreamsMissing`, and what reading says.
    pub async fn dead_story(&self, id: &RequestId) -> Result<Option<Story>, Error> {
        let Some(stored) = self.dead_letter(id).await? else { return Ok(None) };
        let replay_of = stored.headers.get(header::REPLAY_OF).and_then(|text| RequestId::parse(text).ok());
        let followed = self.followed(id).await?;
        Ok(Some(Story { stored, replay_of, followed }))
    }

    /// The replays of a letter, and of those that were given up again, in the order in which they were sent.
    pub(crate) async fn followed(&self, id: &RequestId) -> Result<Vec<Followed>, Error> {
        let mut replays: Vec<Replay> = Vec::new();
        let mut open = VecDeque::from([id.clone()]);
        while let Some(id) = open.pop_front()
            && replays.len() < FOLLOWED_MAX
        {
            for replay in self.marks_of(&id).await? {
                open.push_back(replay.request.clone());
                replays.push(replay);
            }
        }
        replays.truncate(FOLLOWED_MAX);
        replays.sort_by_key(|replay| replay.at);
        let mut outcomes = self.outcomes_of(&replays).await?;
        let mut take = |id: &RequestId| {
            let at = outcomes.iter().position(|outcome| outcome.id == *id)?;
            Some(outcomes.swap_remove(at))
        };
        Ok(replays.into_iter().map(|replay| Followed { outcome: take(&replay.request), replay }).collect())
    }

    /// The outcomes that there are, with one read.
    async fn outcomes_of(&self, replays: &[Replay]) -> Result<Vec<Outcome>, Error> {
        if replays.is_empty() {
            return Ok(Vec::new());
        }
        let stream = &self.names().outcomes;
        let subject = |replay: &Replay| Subject::Outcome(replay.request.clone()).render(self.namespace());
        let subjects: Vec<String> = replays.iter().map(subject).collect();
        let found = match self.reader().last_of_each(stream, &subjects).await {
            Ok(found) => found,
            Err(error) => return Err(self.explained(error, stream).await),
        };
        let read = |message: broker::StoredMessage| match Subject::parse(self.namespace(), &message.subject) {
            Some(Subject::Outcome(id)) => Some(Outcome::read(id, &message.headers, &message.body)),
            _ => None,
        };
        Ok(found.into_iter().filter_map(read).collect())
    }
}
