//! Messages under which workers died: what one more death may set aside as poison.

use std::collections::BTreeSet;

use protocol::{
    InstanceId, Request, RequestId,
    mark::{Mark, parse_mark_key, tries_key},
};
use serde::Serialize;

use crate::{Client, Error, queues::id_of_sequence};

/// Marks that are looked at: the latest.
const MARKS_MAX: usize = 100;

/// A message that is still there and has a mark.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Suspect {
    /// The request.
    pub id: RequestId,
    /// Where it lies.
    pub subject: String,
    /// The workers that took it when it came again, first to last.
    pub takers: Vec<InstanceId>,
    /// Whether the first of all that took it, which leaves no mark, died too: one of a unique request that was given back
    /// alive did not.
    pub began_with_a_death: bool,
}

impl Suspect {
    /// How many workers died with it in their hands, as far as is certain: each but the last lost it to the next, and the
    /// last one may have it in hand if it is alive.
    pub fn deaths(&self, alive: &BTreeSet<&InstanceId>) -> usize {
        let Some(last) = self.takers.last() else { return 0 };
        let marked = self.takers.len() - usize::from(alive.contains(last));
        marked + usize::from(self.began_with_a_death)
    }
}

impl Client {
    /// Messages that are there and were delivered again to somebody who did not give them back; among the latest hundred
    /// marks.
    ///
    /// # Errors
    /// `StreamsMissing`, and what reading says.
    pub async fn suspects(&self) -> Result<Vec<Suspect>, Error> {
        let name = &self.names().state;
        let state = self.bucket(name);
        let marks = match state.list("mark.>").await {
            Ok(marks) => marks,
            Err(error) => return Err(self.explained(error, &Self::bucket_stream(name)).await),
        };
        let mut suspects = Vec::new();
        for entry in marks.iter().rev().take(MARKS_MAX) {
            let mark = entry.value.as_deref().and_then(|value| serde_json::from_slice::<Mark>(value).ok());
            let Some((mark, (stream, source, sequence))) = mark.zip(parse_mark_key(self.namespace(), &entry.key))
            else {
                continue;
            };
            // One that was given back alive has an empty mark, and a mark outlives its message.
            if mark.takers.is_empty() {
                continue;
            }
            let message = match self.reader().by_sequence(&stream, sequence).await {
                Ok(message) => message,
                Err(error) => return Err(self.explained(error, &stream).await),
            };
            let Some(message) = message else { continue };
            let own = id_of_sequence(source, sequence);
            let tries = state.get(&tries_key(&stream, sequence)).await?;
            suspects.push(Suspect {
                id: Request::read(&message.headers, own.clone()).map_or(own, |request| request.id),
                subject: message.subject,
                takers: mark.takers,
                began_with_a_death: tries.is_none_or(|tries| tries.value.is_none()),
            });
        }
        Ok(suspects)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_death_leaves_no_mark_and_counts() {
        let [a, b, c] = ["a", "b", "c"].map(|name| InstanceId::parse(name).unwrap());
        for (takers, began_with_a_death, alive, deaths) in [
            (vec![], true, vec![], 0),
            (vec![&a], true, vec![&a], 1),
            (vec![&a], true, vec![], 2),
            (vec![&a, &b], true, vec![&b, &c], 2),
            (vec![&a, &b], false, vec![], 2),
        ] {
            let suspect = Suspect {
                id: RequestId::parse("order-1").unwrap(),
                subject: String::new(),
                takers: takers.into_iter().cloned().collect(),
                began_with_a_death,
            };
            assert_eq!(suspect.deaths(&alive.into_iter().collect()), deaths, "{suspect:?}");
        }
    }
}
