//! A request: a publish into a work queue, a delivery, an outcome that must be the first of its subject, an acknowledgement;
//! and the outcome told to whoever listens for it.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Instant,
};

use broker::{Connection, Options, task};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};

use super::{BATCH, EXPECTED_LAST, ID, MESSAGE_ID, Yardstick, consumer, context, headers, note, publish, told};
use crate::{
    Error,
    measure::{Side, Tape},
};

impl Yardstick {
    /// Streams for requests, and somebody who answers them.
    pub(crate) async fn requests(options: &Options, replicas: usize) -> Result<Self, Error> {
        Self::answering(options, replicas, &["bare.request"]).await
    }

    pub(super) async fn answering(options: &Options, replicas: usize, subjects: &[&str]) -> Result<Self, Error> {
        let mut yardstick = Self::open(options, replicas).await?;
        let work = yardstick.stream("BARE_REQUESTS", subjects, true).await?;
        yardstick.stream("BARE_OUTCOMES", &["bare.outcome.*"], false).await?;
        let consumer = consumer(&work, "bare", "bare.request").await?;
        let messages = consumer.stream().max_messages_per_batch(BATCH).messages().await.map_err(Error::of_yardstick)?;
        let server = context(&Connection::bare(options).await?);
        let serving = async move {
            messages
                .for_each_concurrent(BATCH, |message| {
                    let context = server.clone();
                    async move {
                        let Some(message) = note(message) else { return };
                        let id = message.headers.as_ref().and_then(|headers| headers.get(ID)).map(ToString::to_string);
                        let Some(id) = id else { return };
                        let headers = headers(&[(EXPECTED_LAST, "0"), ("Status", "completed")]);
                        let stored = publish(&context, format!("bare.outcome.{id}"), headers, message.payload.clone());
                        if note(stored.await).is_some() {
                            note(message.ack().await);
                        }
                    }
                })
                .await;
        };
        yardstick.serving.push(task::spawn("yardstick", serving));
        Ok(yardstick)
    }

    /// So many requests, so many at once.
    pub(crate) async fn ask(&self, number: usize, in_flight: usize, body: &Bytes) -> Result<Side, Error> {
        let batch = next_batch();
        let tape = Tape::start();
        stream::iter((0..number).map(Ok::<_, Error>))
            .try_for_each_concurrent(in_flight, |index| {
                let tape = &tape;
                async move {
                    let began = Instant::now();
                    self.ask_one(&format!("b{batch}-{index}"), body).await?;
                    tape.note(began.elapsed());
                    Ok(())
                }
            })
            .await?;
        Ok(tape.end())
    }

    /// One request, until its outcome is told.
    pub(crate) async fn ask_one(&self, id: &str, body: &Bytes) -> Result<(), Error> {
        let mut outcome = self.client.subscribe(format!("bare.told.{id}")).await.map_err(Error::of_yardstick)?;
        let headers = headers(&[(ID, id), (MESSAGE_ID, id)]);
        publish(&self.context, "bare.request".to_owned(), headers, body.clone()).await?;
        told(&mut outcome).await
    }
}

/// Ids of one batch differ from those of another.
pub(super) fn next_batch() -> usize {
    static BATCHES: AtomicUsize = AtomicUsize::new(0);
    BATCHES.fetch_add(1, Ordering::Relaxed)
}
