//! Letters that nobody needs any more.

use protocol::{RequestId, Subject};

use crate::{Client, Error, ErrorKind};

impl Client {
    /// Deletes the dead letter of a request. The marks of its replays stay as long as marks do, so that the same letter
    /// put there again is known to have been sent again; a large body stays for whoever else refers to it.
    ///
    /// # Errors
    /// `NotFound` when there is none; else what the broker says.
    pub async fn drop_dead(&self, id: &RequestId) -> Result<(), Error> {
        let missing = || Error::new(ErrorKind::NotFound, format!("there is no dead letter of request {id}")).about(id);
        let stored = self.stored_letter(id).await?.ok_or_else(missing)?;
        let subject = Subject::Dead { capability: stored.letter.capability, id: id.clone() }.render(self.namespace());
        // Only the letter that was seen. A purge by subject is the fast way: to delete by sequence takes milliseconds.
        let below = Some(stored.sequence + 1);
        broker::topology::purge(self.connection(), &self.names().dead, &subject, below).await?;
        Ok(())
    }
}
