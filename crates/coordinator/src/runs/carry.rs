//! Carries out what a run wants done. Each order has a name of its own, so that carrying it out twice is harmless, and is
//! carried out only while the partition is ours.

use broker::{Disposition, Error, Kind, Outgoing, Settled, topology};
use futures_util::{TryStreamExt, stream};
use protocol::{
    Failure, Outcome, RequestId, RunFact, RunId, Status, StepName, Subject, codes,
    control::CancelNotice,
    event,
    run::sub_run_of,
    subject::{self, Verb},
    time::Timestamp,
};
use serde_json::json;
use workflow::{Command, command::Order, fact::TimerName, plan::Target};

use super::{
    ask::{self, Asked},
    end,
    fence::Term,
    log::Log,
    means::Means,
    removal,
};
use crate::post::Post;

/// Orders of one run that are carried out at once.
const AT_ONCE: usize = 64;

/// Where orders come from, and with what right they are carried out.
pub(super) struct Carrier<'a> {
    pub(super) means: &'a Means,
    pub(super) term: &'a Term,
    pub(super) log: &'a Log,
}

impl Carrier<'_> {
    /// Carries out whatever the facts above [`Log::done_through`] led to, the end last. True: the run is over, and its log
    /// is gone.
    ///
    /// # Errors
    /// `Fenced`, or what passes by itself. All of it is to be done again then.
    pub(super) async fn carry_out(&self) -> Result<bool, Error> {
        let commands = self.log.state.commands_since(self.log.done_through);
        let (ends, others): (Vec<_>, Vec<_>) =
            commands.into_iter().partition(|command| matches!(command.order, Order::End(_)));
        let others = stream::iter(others.into_iter().map(Ok));
        others.try_for_each_concurrent(AT_ONCE, |command| self.carry(command)).await?;
        match ends.into_iter().next() {
            Some(Command { order: Order::End(ending), .. }) => {
                end::end(self, &ending).await?;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    async fn carry(&self, command: Command) -> Result<(), Error> {
        match command.order {
            Order::Ask { .. } => self.ask(&command).await,
            Order::Withdraw { step, item, target } => self.withdraw(&step, item, &target).await,
            Order::SetTimer { timer, due } => self.set_timer(&timer, due).await,
            Order::ClearTimer { timer } => removal::remove_timer(self, timer).await,
            Order::Emit { step, topic, data } => self.emit(&step, &topic, &data).await,
            Order::End(_) => Ok(()),
        }
    }

    async fn ask(&self, command: &Command) -> Result<(), Error> {
        let Some(Asked { id, subject, headers, input }) = ask::asked(self, command) else { return Ok(()) };
        if let Order::Ask { step, item, .. } = &command.order {
            self.make_room(step, *item).await?;
        }
        let outgoing = match ask::with_body(&self.means.post.payloads, &format!("{id}~input"), &input).await {
            Ok((extra, body)) => {
                let mut headers = headers;
                for (name, value) in extra.iter() {
                    headers.set(name, value);
                }
                // The broker remembers it for two minutes, so that a step is not queued twice by whoever takes over.
                Outgoing::new(subject, body).with_headers(headers)
            }
            Err(error) => return self.unless_refused(&id, error).await,
        };
        match self.means.settle(self.term, &outgoing).await {
            Ok(_) => Ok(()),
            Err(error) => self.unless_refused(&id, error).await,
        }
    }

    /// Somebody wrote an outcome before anybody was asked. It changed nothing, but it has the place of the one that counts:
    /// agents would take the step for done, and the run would wait for ever.
    async fn make_room(&self, step: &StepName, item: u64) -> Result<(), Error> {
        let Some(through) = self.log.unasked.get(&(step.clone(), item)) else { return Ok(()) };
        let (post, run) = (&self.means.post, self.log.state.run());
        let place = subject::stored_step_outcome(post.namespace(), run, step, item);
        tracing::warn!(%run, %step, item, "an outcome that nobody had asked for makes room");
        self.check()?;
        topology::purge(&post.connection, &post.names.runs, &place, Some(through + 1)).await.map(|_| ())
    }

    /// What will be refused again is an outcome: a step that cannot be asked must not hold its run for ever.
    async fn unless_refused(&self, id: &RequestId, error: Error) -> Result<(), Error> {
        if error.disposition() != Disposition::Reject || error.kind() == Kind::Fenced {
            return Err(error);
        }
        let code = if error.kind() == Kind::TooLarge { codes::PAYLOAD_TOO_LARGE } else { codes::INVALID_INPUT };
        let failure = Failure::new(code, format!("the step cannot be asked: {error}")).give_up();
        self.record(&Outcome::not_completed(id.clone(), Status::Failed, &failure)).await.map(|_| ())
    }

    /// Stores an outcome at the one place where it lives, unless another one was first.
    pub(super) async fn record(&self, outcome: &Outcome) -> Result<Settled, Error> {
        let subject = Subject::outcome_of(&outcome.id).render(self.means.post.namespace());
        let outgoing = Outgoing::new(subject, outcome.body.clone()).with_headers(outcome.headers()).expecting(0);
        self.means.settle(self.term, &outgoing).await
    }

    async fn withdraw(&self, step: &StepName, item: u64, target: &Target) -> Result<(), Error> {
        let post = &self.means.post;
        let id = RequestId::of_step(self.log.state.run(), step, item);
        if let Target::Workflow(_) = target {
            // Its outcome comes when it has undone what is to be undone.
            return self.cancel_run(&sub_run_of(&id), &id).await;
        }
        let failure = Failure::new(codes::CANCELLED, "cancelled by its run");
        self.record(&Outcome::not_completed(id.clone(), Status::Cancelled, &failure)).await?;
        let subject = Subject::Control { instance: None, verb: Verb::Cancel }.render(post.namespace());
        let notice = CancelNotice { ids: vec![id.clone()] };
        // Plain data with text keys always has a JSON form.
        let body = serde_json::to_vec(&notice).unwrap_or_default();
        self.check()?;
        post.connection.publish_core(Outgoing::new(subject, body)).await?;
        let later = Subject::Later(id.clone()).render(post.namespace());
        topology::purge(&post.connection, &post.names.requests, &later, None).await?;
        self.withdraw_served(&id).await
    }

    /// Ends the run that a request has become, if a workflow serves what it asked for. Of one that begins later, whoever begins
    /// it sees that nobody waits for it.
    async fn withdraw_served(&self, id: &RequestId) -> Result<(), Error> {
        let (post, run) = (&self.means.post, sub_run_of(id));
        let first = subject::stored_run_fact(post.namespace(), None, &run, &RunFact::Started);
        match post.reader.has(&post.names.runs, &first).await? {
            true => self.cancel_run(&run, id).await,
            false => Ok(()),
        }
    }

    async fn cancel_run(&self, run: &RunId, id: &RequestId) -> Result<(), Error> {
        let body = json!({ "reason": format!("cancelled with {id}") }).to_string();
        let subject = Subject::Run { run: run.clone(), fact: RunFact::Cancel }.render(self.means.post.namespace());
        let outgoing = Outgoing::new(subject, body).with_message_id(format!("{run}~cancel"));
        self.means.settle(self.term, &outgoing).await.map(|_| ())
    }

    async fn set_timer(&self, timer: &TimerName, due: Timestamp) -> Result<(), Error> {
        let run = self.log.state.run();
        let outgoing = self::timer(&self.means.post, run, timer, due);
        // A second one of the same name would replace the first, and fire at once where that has fired.
        let outgoing = outgoing.with_message_id(format!("{run}~timer~{timer}"));
        self.means.settle(self.term, &outgoing).await.map(|_| ())
    }

    async fn emit(&self, step: &StepName, topic: &str, data: &workflow::Payload) -> Result<(), Error> {
        let post = &self.means.post;
        let (run, at) = (self.log.state.run(), self.log.began.as_ref().map(|began| began.at).unwrap_or_default());
        let id = format!("{run}~{step}");
        let mut headers = event::headers(&id, &format!("/{}/run/{run}", post.namespace()), topic, at);
        self.log.trace.write(&mut headers);
        let (extra, body) = match ask::with_body(&post.payloads, &format!("{id}~data"), data).await {
            Ok(packed) => packed,
            Err(error) if error.disposition() == Disposition::Reject => {
                tracing::error!(%run, %step, %error, "event cannot be published");
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        for (name, value) in extra.iter() {
            headers.set(name, value);
        }
        let outgoing = Outgoing::new(subject::event(post.namespace(), topic), body).with_headers(headers);
        match self.means.settle(self.term, &outgoing.with_message_id(id)).await {
            Err(error) if error.disposition() == Disposition::Reject && error.kind() != Kind::Fenced => {
                tracing::error!(%run, %step, topic, %error, "event cannot be published");
                Ok(())
            }
            ended => ended.map(|_| ()),
        }
    }

    /// For what is no publish and is not settled: whether it is still ours to do.
    pub(super) fn check(&self) -> Result<(), Error> {
        match self.term.lasts() {
            true => Ok(()),
            false => Err(Error::new(Kind::Fenced, "the partition is another's")),
        }
    }
}

/// The schedule that is a run's timer.
pub(super) fn timer(post: &Post, run: &RunId, timer: &TimerName, due: Timestamp) -> Outgoing {
    let place = Subject::Timer { run: run.clone(), timer: timer.clone() }.render(post.namespace());
    let target = Subject::Run { run: run.clone(), fact: RunFact::TimerFired(timer.clone()) }.render(post.namespace());
    broker::scheduled_at(Outgoing::new(place, ""), due, &target)
}
