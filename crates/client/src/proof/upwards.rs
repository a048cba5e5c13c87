//! A stream, read upwards until its leader has nothing more.

use broker::{StoredMessage, topology};
use protocol::subject::filter;

use crate::{Client, Error};

/// Messages that one read asks for.
const PAGE: usize = 1_000;

/// Reads above what the stream held when the reading began. The reader is several times as fast as all publishers
/// together, so it gets to the end soon; where it does not, nothing is said.
const READS_BEYOND_MAX: u32 = 2_000;

/// Somebody who reads.
pub(super) struct Upwards<'a> {
    client: &'a Client,
    stream: &'a str,
    from: u64,
    /// Where the stream ended when the reading began.
    pub(super) last: u64,
    beyond: u32,
}

/// What comes next.
pub(super) enum Next {
    /// Messages, the lowest first.
    Some(Vec<StoredMessage>),
    /// The leader has no more.
    End,
    /// More is stored than can be read.
    Outrun,
}

impl<'a> Upwards<'a> {
    pub(super) async fn of(client: &'a Client, stream: &'a str) -> Result<Self, Error> {
        let ask = || topology::stream_state(client.connection(), stream);
        let last = client.patiently(stream, ask).await?.last_sequence;
        Ok(Self { client, stream, from: 1, last, beyond: 0 })
    }

    pub(super) async fn next(&mut self) -> Result<Next, Error> {
        if self.beyond > READS_BEYOND_MAX {
            return Ok(Next::Outrun);
        }
        let (reader, stream, from) = (self.client.reader(), self.stream, self.from);
        let read = || reader.page(stream, filter::EVERYTHING, from, PAGE);
        let mut messages = self.client.patiently(stream, read).await?.messages;
        if messages.is_empty() {
            // Any replica may have said so, and one that is behind has not seen what moved just now.
            let read = || reader.page_at_leader(stream, filter::EVERYTHING, from, 1);
            messages = self.client.patiently(stream, read).await?.messages;
        }
        let Some(through) = messages.last().map(|message| message.sequence) else { return Ok(Next::End) };
        self.from = through + 1;
        self.beyond += u32::from(self.from > self.last);
        Ok(Next::Some(messages))
    }
}
