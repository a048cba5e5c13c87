//! The latest dead letters that nobody has sent again, without their bodies' weight: what several looks share.

use std::collections::BTreeSet;

use broker::StoredMessage;
use client::Client;
use protocol::{Capability, DeadLetter, Subject, subject::filter, topology::Names};

use crate::patient::Unknown;

/// Letters that one read asks for: their bodies come along.
const PAGE: usize = 64;

/// The latest dead letters of one capability, or of all, among the last `sequences` that the stream has; oldest first.
/// What lies further back is not read, however few there are. A letter that was sent again is left out: what became of it
/// is told by the replay, which leaves a letter of its own if it fails too.
///
/// # Errors
/// What reading says.
pub async fn latest_letters(
    client: &Client,
    capability: Option<&Capability>,
    sequences: u64,
) -> Result<Vec<DeadLetter>, Unknown> {
    let name = Names::of(client.namespace()).dead;
    let last = broker::topology::stream_state(client.connection(), &name).await?.last_sequence;
    let reader = broker::Reader::new(client.connection());
    let from = (last + 1).saturating_sub(sequences);
    let read = async |filter: String, each: &mut (dyn FnMut(&StoredMessage) + Send)| {
        let mut next = Some(from);
        while let Some(sequence) = next {
            let page = reader.page(&name, &filter, sequence, PAGE).await?;
            page.messages.iter().for_each(&mut *each);
            next = page.next.filter(|next| *next <= last);
        }
        Ok::<(), Unknown>(())
    };
    let mut letters = Vec::new();
    read(filter::dead(client.namespace(), capability), &mut |message| {
        letters.extend(DeadLetter::read(&message.headers));
    })
    .await?;
    // A mark is younger than its letter.
    let mut again = BTreeSet::new();
    read(filter::replayed(client.namespace(), capability), &mut |message| {
        if let Some(Subject::Replayed { id, .. }) = Subject::parse(client.namespace(), &message.subject) {
            again.insert(id);
        }
    })
    .await?;
    letters.retain(|letter| !again.contains(&letter.id));
    Ok(letters)
}
