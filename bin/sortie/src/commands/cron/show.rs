//! What recurs, as a table and one by one.

use client::{CronEntry, CronState};
use process::{ExitCode, Problem};
use protocol::{CronName, CronSpec, cron::Overlap, duration, limits, time, topology::Source};

use crate::{output::Output, refusal, session::Session};

pub(super) async fn list(session: &Session) -> Result<ExitCode, Problem> {
    let all = session.client().await?.crons().await.map_err(refusal::problem)?;
    session.output().show(&all, || match all.is_empty() {
        true => "nothing recurs; `sortie cron add --help` shows how".to_owned(),
        false => table(session.output(), &all),
    })?;
    Ok(ExitCode::Done)
}

pub(super) async fn one(name: &CronName, session: &Session) -> Result<ExitCode, Problem> {
    let Some(entry) = session.client().await?.cron(name).await.map_err(refusal::problem)? else {
        let problem = Problem::new(ExitCode::WorkFailed, format!("there is no cron {name}"));
        return Err(problem.advise("`sortie cron list` shows what recurs"));
    };
    session.output().show(&entry, || lines(&entry))?;
    Ok(ExitCode::Done)
}

fn table(output: Output, all: &[CronEntry]) -> String {
    let rows = all.iter().map(|entry| {
        let spec = entry.spec.as_ref();
        [
            entry.name.to_string(),
            state(entry.state).to_owned(),
            when(entry),
            entry.next.map(time::format).unwrap_or_default(),
            spec.map(|spec| spec.capability.to_string()).or_else(|| entry.target.clone()).unwrap_or_default(),
            spec.map(|spec| overlap(spec).to_owned()).unwrap_or_default(),
            limits::truncate(entry.fault.as_deref().unwrap_or_default(), 80),
        ]
    });
    output.table(&["NAME", "STATE", "SCHEDULE", "NEXT", "CAPABILITY", "OVERLAP", ""], rows)
}

fn lines(entry: &CronEntry) -> String {
    let mut lines = vec![
        ("name", entry.name.to_string()),
        ("state", state(entry.state).to_owned()),
        ("schedule", when(entry)),
        ("next", entry.next.map_or_else(|| "unknown".to_owned(), time::format)),
        ("fires at", entry.target.clone().unwrap_or_else(|| "nothing now".to_owned())),
        ("revision", entry.revision.to_string()),
    ];
    if let Some(fault) = &entry.fault {
        lines.push(("fault", fault.clone()));
    }
    if let Some(spec) = &entry.spec {
        lines.push(("capability", spec.capability.to_string()));
        lines.push(("lane", Source::Lane(spec.lane).to_string()));
        lines.push(("overlap", overlap(spec).to_owned()));
        let optional = [
            ("timeout", spec.timeout.map(duration::format)),
            ("attempts", spec.attempts.map(|attempts| attempts.to_string())),
            ("backoff", spec.backoff.map(|backoff| backoff.to_string())),
            ("deadline", spec.deadline.map(duration::format)),
        ];
        lines.extend(optional.into_iter().filter_map(|(name, value)| Some((name, value?))));
        lines.extend(spec.headers.iter().map(|(name, value)| ("header", format!("{name}: {value}"))));
        lines.push(("body", spec.body.to_string()));
    }
    lines.into_iter().map(|(name, value)| format!("{name:<11} {value}\n")).collect()
}

fn when(entry: &CronEntry) -> String {
    let schedule = entry.schedule.clone().unwrap_or_else(|| "unknown".to_owned());
    entry.zone.iter().fold(schedule, |schedule, zone| format!("{schedule} {zone}"))
}

fn state(state: CronState) -> &'static str {
    match state {
        CronState::Active => "active",
        CronState::Paused => "paused",
        CronState::Unsettled => "being settled",
        CronState::ByHand => "made by hand",
        CronState::Invalid => "invalid",
    }
}

fn overlap(spec: &CronSpec) -> &'static str {
    match spec.overlap {
        Overlap::Allow => "allow",
        Overlap::Skip => "skip",
    }
}
