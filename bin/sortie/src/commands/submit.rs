//! `sortie submit`: asks for one piece of work.

pub(crate) mod body;
pub(crate) mod noting;
pub(crate) mod options;

use std::time::Duration;

use client::{Acceptance, Client, ErrorKind, RequestBuilder};
use process::{ExitCode, Problem};
use protocol::{
    Capability, Outcome, RequestId, Service, UniqueKey, codes, duration,
    time::{self, Timestamp},
};
use serde_json::{Value, json};

use self::{body::Body, noting::Noting, options::RequestOptions};
use crate::{
    commands::outcome::{self, Waiting},
    patience, refusal,
    session::Session,
};

const EXAMPLES: &str = "\
Examples:
  sortie submit echo '{\"hi\":1}' --wait               print the result
  sortie submit echo hello --text --follow           print the result, and progress meanwhile
  sortie submit resize @job.json --urgent --id order-17
  curl -s https://example.org/x.json | sortie submit index -
  sortie submit sync '{}' --unique tenant-7           refused while another one with this key is queued or running
  sortie submit pay @bill.json --accepted today.jsonl     `sortie audit --accepted today.jsonl` proves that it is not lost
  sortie submit remind '{}' --delay 2h                until then: sortie later list, sortie cancel <id>

Without --wait it prints the id and ends as soon as the request is stored; `sortie outcome <id>` tells the rest.
Exit codes: 0 done, 1 the work failed, 75 there is no outcome yet.";

/// Ask for one piece of work
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct SubmitArgs {
    /// What is asked for
    capability: Capability,
    /// JSON, `-` for standard input, `@path` for a file [default: nothing, which reads as null]
    #[arg(value_name = "JSON|-|@FILE")]
    body: Option<String>,
    /// The body is plain text, to be sent as a JSON string
    #[arg(long)]
    text: bool,
    #[command(flatten)]
    options: RequestOptions,
    /// Its id: whatever is submitted under one id is one request [default: a new one]
    #[arg(long, value_parser = RequestId::from_client)]
    id: Option<RequestId>,
    /// Refuse it while another one of the capability with this key is queued or running
    #[arg(long, value_name = "KEY", conflicts_with_all = ["id", "delay", "at", "urgent", "bulk"])]
    unique: Option<UniqueKey>,
    /// Not before this long from now
    #[arg(long, value_name = "10s", value_parser = duration::parse, conflicts_with = "at")]
    delay: Option<Duration>,
    /// Not before this time (RFC 3339)
    #[arg(long, value_name = "TIME", value_parser = time::parse)]
    at: Option<Timestamp>,
    /// Refuse it if nobody serves the capability now
    #[arg(long)]
    served: bool,
    #[command(flatten)]
    noting: Noting,
    #[command(flatten)]
    waiting: Waiting,
}

pub(crate) async fn run(args: SubmitArgs, session: &Session) -> Result<ExitCode, Problem> {
    let body = Body::read(args.body.as_deref(), args.text)?;
    let noted_in = args.noting.file()?;
    let client = session.client().await?;
    match args.served {
        true => refuse_unserved(client, &args.capability).await?,
        false => warn_unserved(client, &args.capability).await?,
    }
    let mut request = args.options.apply(body.request(client, &args.capability, args.options.msgpack)?);
    if let Some(id) = args.id {
        request = request.id(id);
    }
    if let Some(key) = args.unique {
        request = request.unique(key);
    }
    if let Some(file) = &noted_in {
        request = request.noted_in(file);
    }
    request = match (args.delay, args.at) {
        (Some(delay), _) => request.delay(delay),
        (_, Some(at)) => request.at(at),
        _ => request,
    };
    if args.waiting.is_wanted() {
        let outcome = called(request, &args.waiting, session).await.map_err(refusal::problem)?;
        return outcome::answer(&outcome, session.output());
    }
    stored(request, session).await
}

async fn called(request: RequestBuilder<'_>, waiting: &Waiting, session: &Session) -> Result<Outcome, client::Error> {
    if waiting.follow {
        return request.follow(waiting.within(), |progress| outcome::tell_progress(&progress, session.output())).await;
    }
    patience::waiting("waiting for the outcome".to_owned(), request.call(waiting.within())).await
}

async fn stored(request: RequestBuilder<'_>, session: &Session) -> Result<ExitCode, Problem> {
    let receipt = request.submit().await.map_err(refusal::problem)?;
    let (state, document) = match receipt.acceptance() {
        Acceptance::Stored { sequence } => ("stored", json!({ "sequence": sequence })),
        Acceptance::Repeated => ("repeated", json!({})),
        Acceptance::Done(outcome) => ("done", json!({ "outcome": outcome.document() })),
    };
    let mut told = json!({ "id": receipt.id(), "state": state });
    if let (Value::Object(told), Value::Object(more)) = (&mut told, document) {
        told.extend(more);
    }
    match receipt.acceptance() {
        Acceptance::Stored { .. } => {}
        Acceptance::Repeated => eprintln!("request {} was submitted before: it is the same one", receipt.id()),
        Acceptance::Done(outcome) => eprintln!("request {} is {} already", receipt.id(), outcome.status),
    }
    session.output().show(&told, || receipt.id().to_string())?;
    Ok(ExitCode::Done)
}

/// A request that nobody serves is accepted, because an agent may come; but whoever waits for it should know.
pub(crate) async fn warn_unserved(client: &Client, capability: &Capability) -> Result<(), Problem> {
    let service = match client.service(capability).await {
        // Who only asks need not see who is there.
        Err(error) if *error.kind() == ErrorKind::Forbidden => return Ok(()),
        service => service.map_err(refusal::problem)?,
    };
    match service {
        Service::Served => {}
        Service::Paused => eprintln!(
            "warning: every agent that serves {capability} is paused; what is asked for waits until one is resumed \
             (`sortie agents resume --capability {capability}`)"
        ),
        Service::Unserved => {
            eprintln!("warning: nobody serves {capability} now; what is asked for waits until an agent does");
        }
    }
    Ok(())
}

async fn refuse_unserved(client: &Client, capability: &Capability) -> Result<(), Problem> {
    let who = match client.service(capability).await.map_err(refusal::problem)? {
        Service::Served => return Ok(()),
        Service::Paused => "every agent that serves {} is paused",
        Service::Unserved => "nobody serves {} now",
    };
    let message = format!("{}: {}", codes::CAPABILITY_UNSERVED, who.replace("{}", capability.as_str()));
    Err(Problem::new(ExitCode::WorkFailed, message)
        .advise("start an agent that does; `sortie agents list` shows who serves what"))
}
