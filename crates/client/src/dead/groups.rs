//! Dead letters by what they have in common.

use std::collections::BTreeMap;

use protocol::{DeadLetter, RequestId, time::Timestamp};
use serde::Serialize;

use super::{Filter, Listed};
use crate::{Client, Error};

/// What letters are counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupBy {
    /// The failure's code.
    Code,
    /// What was asked for.
    Capability,
    /// The version of the agent that gave it up; empty where the coordinator did, or where it says none.
    Version,
}

/// Letters that have it in common.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Group {
    /// What they have in common.
    pub key: String,
    /// How many they are.
    pub count: u64,
    /// How many of them were sent again.
    pub replayed: u64,
    /// When the first of them was given up.
    pub first: Timestamp,
    /// When the latest was.
    pub last: Timestamp,
    /// The latest.
    pub example: RequestId,
}

impl GroupBy {
    fn key(self, letter: &DeadLetter) -> String {
        match self {
            Self::Code => letter.failure.code.clone(),
            Self::Capability => letter.capability.to_string(),
            Self::Version => letter.version.clone().unwrap_or_default(),
        }
    }
}

impl Client {
    /// The letters that a filter means, counted by what they have in common; the largest group first.
    ///
    /// # Errors
    /// `StreamsMissing`, and what reading says.
    pub async fn dead_groups(&self, filter: &Filter, by: GroupBy) -> Result<Vec<Group>, Error> {
        let mut groups = BTreeMap::new();
        self.scan_dead(filter, |listed, _| {
            add(&mut groups, by, listed);
            true
        })
        .await?;
        let mut groups: Vec<Group> = groups.into_values().collect();
        groups.sort_by(|one, other| (other.count, &one.key).cmp(&(one.count, &other.key)));
        Ok(groups)
    }
}

fn add(groups: &mut BTreeMap<String, Group>, by: GroupBy, listed: Listed) {
    let Listed { letter, replays } = listed;
    let key = by.key(&letter);
    let group = groups.entry(key.clone()).or_insert_with(|| Group {
        key,
        count: 0,
        replayed: 0,
        first: letter.dead_at,
        last: letter.dead_at,
        example: letter.id.clone(),
    });
    group.count += 1;
    group.replayed += u64::from(!replays.is_empty());
    group.first = group.first.min(letter.dead_at);
    if letter.dead_at >= group.last {
        group.last = letter.dead_at;
        group.example = letter.id;
    }
}
