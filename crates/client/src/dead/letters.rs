//! Finding letters.

use std::collections::VecDeque;

use broker::StoredMessage;
use protocol::{DeadLetter, Replay, RequestId, subject::filter as subjects};
use serde::Serialize;

use super::Filter;
use crate::{Client, Error};

/// Messages that one read asks for: their bodies come along, and the broker answers with 8 MiB at most.
const PAGE: usize = 256;

/// A dead letter in a list.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Listed {
    /// Its story.
    #[serde(flatten)]
    pub letter: DeadLetter,
    /// The replays of it that there were, oldest first.
    pub replays: Vec<Replay>,
}

impl Client {
    /// The latest dead letters that a filter means, at most `count_max`, oldest first.
    ///
    /// # Errors
    /// `StreamsMissing`, and what reading says.
    pub async fn dead_list(&self, filter: &Filter, count_max: usize) -> Result<Vec<Listed>, Error> {
        let mut latest = VecDeque::new();
        self.scan_dead(filter, |listed, _| {
            latest.push_back(listed);
            if latest.len() > count_max {
                latest.pop_front();
            }
            true
        })
        .await?;
        Ok(latest.into())
    }

    /// The ids of the letters that a filter means, oldest first, at most `count_max`.
    ///
    /// # Errors
    /// `StreamsMissing`, and what reading says.
    pub async fn dead_ids(&self, filter: &Filter, count_max: usize) -> Result<Vec<RequestId>, Error> {
        let mut ids = Vec::new();
        self.scan_dead(filter, |listed, _| {
            ids.push(listed.letter.id);
            ids.len() < count_max
        })
        .await?;
        ids.truncate(count_max);
        Ok(ids)
    }

    /// Hands over every letter that a filter means, oldest first, until that says no more.
    pub(super) async fn scan_dead(
        &self,
        filter: &Filter,
        mut each: impl FnMut(Listed, StoredMessage) -> bool,
    ) -> Result<(), Error> {
        let mut marks = self.marks(filter.capability.as_ref()).await?;
        let stream = &self.names().dead;
        let subjects = subjects::dead(self.namespace(), filter.capability.as_ref());
        let mut from = Some(1);
        while let Some(sequence) = from {
            let page = match self.reader().page(stream, &subjects, sequence, PAGE).await {
                Ok(page) => page,
                Err(error) => return Err(self.explained(error, stream).await),
            };
            for message in page.messages {
                let Some(letter) = DeadLetter::read(&message.headers) else { continue };
                let replays = marks.remove(&letter.id).unwrap_or_default();
                if filter.matches(&letter, &replays, &message) && !each(Listed { letter, replays }, message) {
                    return Ok(());
                }
            }
            from = page.next;
        }
        Ok(())
    }
}
