//! A run of steps one after the other: a start, its first fact, for each step a request and a fact, an outcome, a summary, and
//! the purge of its facts; each delivery acknowledged after what follows from it is stored.

use std::time::Instant;

use async_nats::jetstream::{Context, Message, stream::Stream};
use broker::{Connection, Options, task};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};

use super::{
    BATCH, EXPECTED_LAST, ID, MESSAGE_ID, Yardstick, consumer, context, headers, note, publish, requests::next_batch,
    told,
};
use crate::{
    Error,
    measure::{Side, Tape},
};

/// Whoever carries runs on.
#[derive(Clone, Debug)]
struct Conductor {
    context: Context,
    facts: Stream,
    width: usize,
    steps: usize,
}

impl Yardstick {
    /// Streams for runs of `steps` steps one after the other, each of `width` requests at once, and somebody who carries them on.
    pub(crate) async fn runs(options: &Options, replicas: usize, steps: usize, width: usize) -> Result<Self, Error> {
        let mut yardstick = Self::open(options, replicas).await?;
        let starts = yardstick.stream("BARE_STARTS", &["bare.start"], true).await?;
        let work = yardstick.stream("BARE_REQUESTS", &["bare.request"], true).await?;
        let facts = yardstick.stream("BARE_RUNS", &["bare.run.*.>"], false).await?;
        yardstick.stream("BARE_OUTCOMES", &["bare.outcome.*"], false).await?;
        yardstick.stream("BARE_EVENTS", &["bare.event.>"], false).await?;
        let coordinator = context(&Connection::bare(options).await?);
        let facts_there = coordinator.get_stream("BARE_RUNS").await.map_err(Error::of_yardstick)?;
        let conductor = Conductor { context: coordinator, facts: facts_there, width, steps };
        let worker = context(&Connection::bare(options).await?);

        let begins = conductor.clone();
        yardstick
            .serve(&starts, "starts", move |message| {
                let conductor = begins.clone();
                async move { conductor.begin(&message).await }
            })
            .await?;
        let ended = std::sync::Arc::new(Counts::default());
        yardstick
            .serve(&facts, "runs", move |message| {
                let (conductor, ended) = (conductor.clone(), ended.clone());
                async move { conductor.go_on(&message, &ended).await }
            })
            .await?;
        yardstick
            .serve(&work, "requests", move |message| {
                let context = worker.clone();
                async move {
                    let id = id_of(&message)?;
                    let headers = headers(&[(EXPECTED_LAST, "0"), ("Status", "completed")]);
                    publish(&context, format!("bare.run.{id}"), headers, message.payload.clone()).await
                }
            })
            .await?;
        Ok(yardstick)
    }

    async fn serve<F>(
        &mut self,
        stream: &Stream,
        name: &str,
        handle: impl Fn(Message) -> F + Send + Sync + 'static,
    ) -> Result<(), Error>
    where
        F: Future<Output = Result<(), Error>> + Send + 'static,
    {
        let consumer = consumer(stream, name, "").await?;
        let messages = consumer.stream().max_messages_per_batch(BATCH).messages().await.map_err(Error::of_yardstick)?;
        let serving = async move {
            let handle = &handle;
            messages
                .for_each_concurrent(BATCH, |message| async move {
                    let Some(message) = note(message) else { return };
                    let acker = message.clone();
                    if note(handle(message).await).is_some() {
                        note(acker.ack().await);
                    }
                })
                .await;
        };
        self.serving.push(task::spawn("yardstick", serving));
        Ok(())
    }

    /// So many runs, so many at once.
    pub(crate) async fn run(&self, number: usize, in_flight: usize, body: &Bytes) -> Result<Side, Error> {
        let batch = next_batch();
        let tape = Tape::start();
        stream::iter((0..number).map(Ok::<_, Error>))
            .try_for_each_concurrent(in_flight, |index| {
                let tape = &tape;
                async move {
                    let (began, id) = (Instant::now(), format!("r{batch}-{index}"));
                    let mut outcome =
                        self.client.subscribe(format!("bare.told.{id}")).await.map_err(Error::of_yardstick)?;
                    let headers = headers(&[(ID, &id), (MESSAGE_ID, &id)]);
                    publish(&self.context, "bare.start".to_owned(), headers, body.clone()).await?;
                    told(&mut outcome).await?;
                    tape.note(began.elapsed());
                    Ok(())
                }
            })
            .await?;
        Ok(tape.end())
    }
}

/// How many of a step's requests have ended, by run and step.
#[derive(Debug, Default)]
struct Counts(std::sync::Mutex<std::collections::HashMap<String, usize>>);

impl Counts {
    /// One more; true where it was the last of so many.
    fn is_last(&self, key: String, of: usize) -> bool {
        if of == 1 {
            return true;
        }
        let mut counts = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let count = counts.entry(key.clone()).or_default();
        *count += 1;
        let is_last = *count == of;
        if is_last {
            counts.remove(&key);
        }
        is_last
    }
}

impl Conductor {
    async fn begin(&self, start: &Message) -> Result<(), Error> {
        let id = id_of(start)?;
        let first = headers(&[(EXPECTED_LAST, "0")]);
        publish(&self.context, format!("bare.run.{id}.started"), first, start.payload.clone()).await
    }

    /// `bare.run.<id>.started`, `bare.run.<id>.<step>.<item>`
    async fn go_on(&self, fact: &Message, ended: &Counts) -> Result<(), Error> {
        let mut words = fact.subject.split('.').skip(2);
        let (run, step) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let done: usize = step.parse().unwrap_or(0);
        if done > 0 && !ended.is_last(format!("{run}.{step}"), self.width) {
            return Ok(());
        }
        if done < self.steps {
            return self.ask(run, done + 1, &fact.payload).await;
        }
        let first = || headers(&[(EXPECTED_LAST, "0")]);
        publish(&self.context, format!("bare.outcome.{run}"), first(), fact.payload.clone()).await?;
        publish(&self.context, format!("bare.event.{run}"), first(), fact.payload.clone()).await?;
        self.facts.purge().filter(format!("bare.run.{run}.>")).await.map(|_| ()).map_err(Error::of_yardstick)
    }

    async fn ask(&self, run: &str, step: usize, body: &Bytes) -> Result<(), Error> {
        stream::iter((1..=self.width).map(Ok::<_, Error>))
            .try_for_each_concurrent(BATCH, |item| async move {
                let id = format!("{run}.{step}.{item}");
                publish(
                    &self.context,
                    "bare.request".to_owned(),
                    headers(&[(ID, &id), (MESSAGE_ID, &id)]),
                    body.clone(),
                )
                .await
            })
            .await
    }
}

fn id_of(message: &Message) -> Result<String, Error> {
    let id = message.headers.as_ref().and_then(|headers| headers.get(ID)).map(ToString::to_string);
    id.ok_or_else(|| Error::Yardstick("a message without an id".to_owned()))
}
