//! The latest dead letters, without their bodies' weight: what several looks share.

use client::Client;
use protocol::{Capability, DeadLetter, subject::filter, topology::Names};

use crate::patient::Unknown;

/// Letters that one read asks for: their bodies come along.
const PAGE: usize = 64;

/// The latest dead letters of one capability, or of all, among the last `sequences` that the stream has; oldest first.
/// What lies further back is not read, however few there are.
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
    let filter = filter::dead(client.namespace(), capability);
    let mut letters = Vec::new();
    let mut next = Some((last + 1).saturating_sub(sequences));
    while let Some(sequence) = next {
        let page = reader.page(&name, &filter, sequence, PAGE).await?;
        letters.extend(page.messages.iter().filter_map(|message| DeadLetter::read(&message.headers)));
        next = page.next.filter(|next| *next <= last);
    }
    Ok(letters)
}
