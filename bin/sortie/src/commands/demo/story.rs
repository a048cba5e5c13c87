//! The course of the demonstration.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    time::Duration,
};

use agent_files::{FileList, Secret};
use process::{ExitCode, Problem};
use protocol::{Kind, Status};
use tokio::sync::watch;

use super::ending::{self, Ending, Loss};
use crate::{
    demo::{self, Answer, Audit, Audited, CHECKS, Consent, Languages, Narrator, Proof, Roll, Sight, Survey},
    fleet::{
        Fleet, Plan,
        agents::{Agents, Run},
    },
    session::Session,
    supervisor::Console,
};

const READY_WITHIN: Duration = Duration::from_secs(20);

/// Attempts at once in each agent: few, so that there is work in every hand and none finishes before the other.
const SLOTS: u64 = 4;

/// The part of the files after which something is killed: early, so that much is still to be done.
const KILLED_AT: usize = 4;

/// Lines of the fleet's log that are shown when something went wrong.
const LOG_SHOWN_MAX: usize = 20;

/// Everything the demonstration is made from.
#[derive(Debug)]
pub(super) struct Story<'a> {
    pub(super) folder: PathBuf,
    pub(super) found: FileList,
    /// Where the report is written, and what it is called.
    pub(super) reports: PathBuf,
    pub(super) report: String,
    pub(super) consent: Consent,
    pub(super) keep: bool,
    pub(super) narrator: Narrator,
    pub(super) session: &'a Session,
}

impl Story<'_> {
    pub(super) async fn tell(mut self) -> Result<ExitCode, Problem> {
        let place = tempfile::Builder::new().prefix("sortie-demo-").tempdir().map_err(|error| unwritable(&error))?;
        let log = place.path().join("fleet.log");
        let ended = self.tell_in(place.path(), &log).await;
        if ended.is_err() {
            self.narrator.tell(&tail(&log));
        }
        ended
    }

    async fn tell_in(&mut self, place: &Path, log: &Path) -> Result<ExitCode, Problem> {
        let console = Console::file(File::create(log).map_err(|error| unwritable(&error))?);
        let plan = Plan {
            server: embedded::Config { store: Some(place.join("store")), ..Default::default() },
            namespace: self.session.namespace().clone(),
            environment: self.session.environment().clone(),
        };
        let shutdown = self.session.shutdown();
        let mut fleet = tokio::select! {
            started = Fleet::start(plan, console) => started?,
            () = shutdown.begun() => return Ok(ExitCode::Interrupted),
        };
        let mut ended = tokio::select! {
            ended = self.with(&mut fleet, place) => ended,
            () = shutdown.begun() => Ok(ExitCode::Interrupted),
        };
        self.narrator.end();
        let is_whole = ended.is_ok() && !shutdown.has_begun();
        if self.keep && is_whole {
            self.narrator.tell(&format!("the fleet stays up, and its log is {}; Ctrl-C ends it", log.display()));
            tokio::select! {
                lost = fleet.lost() => ended = Err(lost),
                () = shutdown.begun() => {}
            }
        }
        fleet.stop(shutdown).await;
        let more = if self.keep || !is_whole { "" } else { "; with --keep the fleet stays up for these commands" };
        self.narrator.tell(&format!("all of it has ended{more}"));
        ended
    }

    async fn with(&mut self, fleet: &mut Fleet, place: &Path) -> Result<ExitCode, Problem> {
        let [files, checks] = self.agents(place)?;
        fleet.add(&files);
        fleet.add(&checks);
        self.narrator.tell(&format!(
            "a fleet of its own at {}: nats-server, a coordinator, and the agents files.1 (in Rust) and checks.1 (sha256sum)",
            fleet.url()
        ));
        let all: Vec<_> = fleet.agents().iter().collect();
        if fleet.ready(&all, READY_WITHIN).await?.len() < all.len() {
            return Err(Problem::new(ExitCode::Internal, "the agents did not get ready; above is what they said"));
        }
        let mut roll = Roll::default();
        roll.note(fleet).await?;
        let (beside, audit, loss) = self.work(fleet, &files).await?;
        let proof = Proof::count(fleet.client(), self.found.files.len(), &beside, &audit).await?;
        roll.note(fleet).await?;
        let holds = proof.holds() && audit.status == Status::Completed;
        let answers = || beside.iter().chain(&audit.answers);
        let (agents, languages) = (roll.shares(answers()), Languages::of(&self.folder, answers()));
        let ending = Ending {
            folder: self.folder.clone(),
            url: self.keep.then(|| fleet.url().to_owned()),
            holds,
            proof,
            audit,
            loss,
            agents,
            languages,
        };
        let output = self.session.output();
        output.announce(&ending, || ending.text(output))?;
        if let (Some(answer), Some(file)) = (beside.first(), self.found.files.first()) {
            let (namespace, file) = (self.session.namespace(), self.folder.join(file));
            self.narrator.tell(&ending::from_outside(namespace, fleet.url(), &answer.id, &self.folder, &file));
        }
        Ok(if holds { ExitCode::Done } else { ExitCode::WorkFailed })
    }

    fn agents(&self, place: &Path) -> Result<[Agents; 2], Problem> {
        let definition = place.join("checks.yaml");
        fs::write(&definition, CHECKS).map_err(|error| unwritable(&error))?;
        let root = self.folder.to_string_lossy().into_owned();
        let reports = self.reports.to_string_lossy().into_owned();
        let agents = |kind: &str, run: Run| {
            let kind = Kind::parse(kind).map_err(|error| Problem::new(ExitCode::Internal, error.to_string()))?;
            let directory = self.folder.clone();
            Ok::<_, Problem>(Agents { kind, run, count: 1, slots: Some(SLOTS), env: Default::default(), directory })
        };
        Ok([
            agents("files", Run::Files(vec!["--root".into(), root, "--reports".into(), reports]))?,
            agents("checks", Run::Exec(definition))?,
        ])
    }

    /// Runs the workflow and asks for checksums beside it; on the way kills the agent that examines, and the coordinator.
    async fn work(&mut self, fleet: &mut Fleet, files: &Agents) -> Result<(Vec<Answer>, Audited, Loss), Problem> {
        let survey = Survey::of(&self.folder, &self.found.files);
        let count = self.found.files.len();
        let client = fleet.client().clone();
        let mut audit = Audit::start(&client, &self.folder, &self.report).await?;
        self.narrator.tell(&format!(
            "{count} files below {}{}: run {} of repo-audit examines each, and beside it each checksum is asked for",
            self.folder.display(),
            if self.found.truncated { ", as many as one run takes" } else { "" },
            audit.run(),
        ));
        self.narrator.begin(2 * count as u64);
        let (heard, mut summed) = watch::channel(0);
        let asking = survey.run(&client, |count| {
            heard.send_replace(count);
        });
        tokio::pin!(asking);
        let (mut beside, mut over, mut loss) = (None, None, None);
        let mut waits = None;
        while beside.is_none() || over.is_none() {
            tokio::select! {
                answers = &mut asking, if beside.is_none() => beside = Some(answers?),
                sight = audit.next(), if over.is_none() => match sight? {
                    Sight::Progress => {}
                    Sight::Waits(secrets) => waits = Some(secrets),
                    Sight::Over(audited) => over = Some(audited),
                },
                approved = self.consent.answer() => audit.decide(approved?, &self.operator()).await?,
                problem = fleet.failed() => return Err(problem),
                // Not while the run is looked at: a word every millisecond would never let a look come to its end.
                _ = summed.changed(), if beside.is_none() && over.is_some() => {}
            }
            let examined = audit.examined();
            let asks = beside.is_some() && waits.is_some();
            if loss.is_none() && (asks || KILLED_AT * examined >= count) {
                loss = Some(self.lose(fleet, files, examined));
            }
            // Not before all is told that is told meanwhile.
            if asks && let Some(secrets) = waits.take() {
                self.consent(&audit, &secrets).await?;
            }
            let message = match &loss {
                Some(Loss { killed, .. }) if examined < count => {
                    format!("{killed} is dead; what it had in hand comes back after 10 s")
                }
                _ => String::new(),
            };
            let done = *summed.borrow_and_update() + examined;
            self.narrator.advance(done as u64, &message);
        }
        self.narrator.end();
        let loss = loss.unwrap_or_else(|| self.lose(fleet, files, count));
        match (beside, over) {
            (Some(beside), Some(audited)) => Ok((beside, audited, loss)),
            _ => Err(Problem::new(ExitCode::Internal, "the work ended before it was done")),
        }
    }

    /// Lets the run write its report, or asks first.
    async fn consent(&mut self, audit: &Audit, secrets: &[Secret]) -> Result<(), Problem> {
        self.narrator.end();
        if self.consent.is_given() {
            self.narrator.tell(&format!("{}approved, because nobody is asked", demo::reason(secrets)));
            return audit.decide(true, &self.operator()).await;
        }
        self.consent.ask(secrets);
        Ok(())
    }

    fn operator(&self) -> String {
        self.session.operator().to_string()
    }

    fn lose(&self, fleet: &mut Fleet, files: &Agents, examined_before: usize) -> Loss {
        let victim = &fleet.agents()[0];
        let pid = victim.pid().map_or_else(String::new, |pid| format!(" (process {pid})"));
        victim.kill();
        let killed = victim.name().to_owned();
        let [coordinator_killed, coordinator_joined] = fleet.replace_coordinator();
        let new = fleet.add(files);
        let joined = fleet.agents()[new.start].name().to_owned();
        self.narrator.tell(&format!(
            "{examined_before} files are examined: {killed}{pid} and {coordinator_killed} are killed with SIGKILL, and \
             {joined} and {coordinator_joined} join"
        ));
        Loss { killed, joined, coordinator_killed, coordinator_joined, examined_before }
    }
}

fn unwritable(error: &std::io::Error) -> Problem {
    Problem::new(ExitCode::Configuration, format!("the folder for temporary files cannot be used: {error}"))
}

/// The end of the fleet's log.
fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_SHOWN_MAX)..].join("\n")
}
