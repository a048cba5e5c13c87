//! `sortie cron add`: a spec from words.

use std::time::Duration;

use process::{ExitCode, Problem};
use protocol::{Backoff, Capability, CronName, CronSpec, Lane, cron::Overlap, duration, retry};
use serde_json::json;

use crate::{
    commands::submit::{body::Body, options::parse_header},
    refusal,
    session::Session,
};

#[derive(Debug, clap::Args)]
pub(crate) struct AddArgs {
    /// Its name: a-z, 0-9 and `-`
    name: CronName,
    /// What is asked for
    capability: Capability,
    /// JSON, `-` for standard input, `@path` for a file; 64 KiB at most [default: nothing, which reads as null]
    #[arg(value_name = "JSON|-|@FILE")]
    body: Option<String>,
    /// The body is plain text, to be sent as a JSON string
    #[arg(long)]
    text: bool,
    /// Six fields (second minute hour day month weekday), or @hourly, @daily, @weekly, @monthly, @yearly
    #[arg(long, value_name = "CRON", required_unless_present = "every", conflicts_with = "every")]
    schedule: Option<String>,
    /// The time zone of the fields, such as Europe/Zurich [default: UTC]
    #[arg(long, value_name = "ZONE", conflicts_with = "every")]
    zone: Option<String>,
    /// Every so often from now on, one second at least
    #[arg(long, value_name = "10s", value_parser = duration::parse)]
    every: Option<Duration>,
    /// What happens when it fires while the last one is queued or running: `skip` leaves it out
    #[arg(long, value_name = "allow|skip", value_parser = parse_overlap, default_value = "allow")]
    overlap: Overlap,
    /// The lane: urgent, normal or bulk
    #[arg(long, value_name = "LANE", value_parser = parse_lane, default_value = "normal")]
    lane: Lane,
    /// How long one attempt may take [default: what the capability declares]
    #[arg(long, value_name = "5s", value_parser = duration::parse)]
    timeout: Option<Duration>,
    /// Attempts in all, the first one counted [default: what the capability declares]
    #[arg(long, value_name = "N", value_parser = retry::parse_attempts)]
    attempts: Option<u32>,
    /// The wait between attempts, as `exponential; first=1s; cap=5m` [default: what the capability declares]
    #[arg(long, value_name = "CURVE")]
    backoff: Option<Backoff>,
    /// How long after a firing nobody starts or finishes it; only with --overlap skip
    #[arg(long, value_name = "1h", value_parser = duration::parse)]
    deadline: Option<Duration>,
    /// A header of your own, which reaches the handler; may be repeated
    #[arg(long = "header", value_name = "KEY=VALUE", value_parser = parse_header)]
    headers: Vec<(String, String)>,
    /// Keep it without firing it: `sortie cron resume` begins
    #[arg(long)]
    paused: bool,
    /// Over one that is there, also one that was made by hand
    #[arg(long)]
    replace: bool,
}

impl AddArgs {
    fn spec(&self) -> Result<CronSpec, Problem> {
        // The broker counts whole seconds, and its durations have no days.
        let every = self.every.map(|every| format!("@every {}ms", every.as_millis()));
        let every = match self.every {
            Some(every) if every.subsec_nanos() == 0 => Some(format!("@every {}s", every.as_secs())),
            _ => every,
        };
        Ok(CronSpec {
            schedule: every.or_else(|| self.schedule.clone()).unwrap_or_default(),
            zone: self.zone.clone(),
            capability: self.capability.clone(),
            lane: self.lane,
            overlap: self.overlap,
            body: Body::read(self.body.as_deref(), self.text)?.value()?,
            headers: self.headers.iter().cloned().collect(),
            timeout: self.timeout,
            attempts: self.attempts,
            backoff: self.backoff,
            deadline: self.deadline,
            paused: self.paused,
        })
    }
}

pub(super) async fn run(args: AddArgs, session: &Session) -> Result<ExitCode, Problem> {
    let (name, spec) = (&args.name, args.spec()?);
    let client = session.client().await?;
    // What would be refused is no act of anybody.
    client.cron_check(name, &spec).await.map_err(refusal::problem)?;
    session.audit("cron-add", name.as_str(), json!({ "spec": spec, "replace": args.replace })).await?;
    let revision = client.cron_add(name, &spec, args.replace).await.map_err(refusal::problem)?;
    let next = spec.recurrence().filter(|_| !spec.paused);
    let now = client.now().await.map_err(refusal::problem)?;
    let next = next.and_then(|recurrence| recurrence.next(now, now));
    let document = json!({ "name": name, "revision": revision, "next": next, "spec": spec });
    session.output().show(&document, || match (spec.paused, next) {
        (true, _) => format!("cron {name} is kept; `sortie cron resume {name}` makes it fire"),
        (false, Some(next)) => format!("cron {name} fires next at {}", protocol::time::format(next)),
        (false, None) => format!("cron {name} is kept and fires"),
    })?;
    Ok(ExitCode::Done)
}

fn parse_overlap(text: &str) -> Result<Overlap, String> {
    match text {
        "allow" => Ok(Overlap::Allow),
        "skip" => Ok(Overlap::Skip),
        _ => Err("allow or skip".to_owned()),
    }
}

fn parse_lane(text: &str) -> Result<Lane, String> {
    match text {
        "urgent" => Ok(Lane::Urgent),
        "normal" => Ok(Lane::Normal),
        "bulk" => Ok(Lane::Bulk),
        _ => Err("urgent, normal or bulk".to_owned()),
    }
}
