//! The course of the demonstration.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    time::Duration,
};

use agent_files::FileList;
use process::{ExitCode, Problem};
use protocol::Kind;
use tokio::sync::watch;

use super::ending::{self, Ending, Loss};
use crate::{
    demo::{Answer, CHECKS, Languages, Narrator, Proof, Roll, Survey},
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

/// Lines of the fleet's log that are shown when something went wrong.
const LOG_SHOWN_MAX: usize = 20;

/// Everything the demonstration is made from.
#[derive(Debug)]
pub(super) struct Story<'a> {
    pub(super) folder: PathBuf,
    pub(super) found: FileList,
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
        let (answers, loss) = self.survey(fleet, &files).await?;
        let proof = Proof::count(fleet.client(), self.found.files.len(), &answers).await?;
        roll.note(fleet).await?;
        let holds = proof.holds();
        let ending = Ending {
            folder: self.folder.clone(),
            url: self.keep.then(|| fleet.url().to_owned()),
            holds,
            proof,
            loss,
            agents: roll.shares(&answers),
            languages: Languages::of(&self.folder, &answers),
        };
        let output = self.session.output();
        output.announce(&ending, || ending.text(output))?;
        if let (Some(answer), Some(file)) = (answers.first(), self.found.files.first()) {
            let (namespace, file) = (self.session.namespace(), self.folder.join(file));
            self.narrator.tell(&ending::from_outside(namespace, fleet.url(), &answer.id, &file));
        }
        Ok(if holds { ExitCode::Done } else { ExitCode::WorkFailed })
    }

    fn agents(&self, place: &Path) -> Result<[Agents; 2], Problem> {
        let definition = place.join("checks.yaml");
        fs::write(&definition, CHECKS).map_err(|error| unwritable(&error))?;
        let root = self.folder.to_string_lossy().into_owned();
        let agents = |kind: &str, run: Run| {
            let kind = Kind::parse(kind).map_err(|error| Problem::new(ExitCode::Internal, error.to_string()))?;
            let directory = self.folder.clone();
            Ok::<_, Problem>(Agents { kind, run, count: 1, slots: Some(SLOTS), env: Default::default(), directory })
        };
        Ok([agents("files", Run::Files(vec!["--root".into(), root]))?, agents("checks", Run::Exec(definition))?])
    }

    /// Asks everything, and half way kills the agent that answers half of it.
    async fn survey(&mut self, fleet: &mut Fleet, files: &Agents) -> Result<(Vec<Answer>, Loss), Problem> {
        let survey = Survey::of(&self.folder, &self.found.files);
        let total = survey.len();
        self.narrator.tell(&format!(
            "{} files below {}, two requests each{}",
            self.found.files.len(),
            self.folder.display(),
            if self.found.truncated { ", as many as one list holds" } else { "" }
        ));
        self.narrator.begin(total as u64);
        let client = fleet.client().clone();
        let (heard, mut done) = watch::channel(0);
        let asking = survey.run(&client, |count| {
            heard.send_replace(count);
        });
        tokio::pin!(asking);
        let mut loss = None;
        let answers = loop {
            tokio::select! {
                answers = &mut asking => break answers?,
                problem = fleet.failed() => return Err(problem),
                _ = done.changed() => {
                    let count = *done.borrow_and_update();
                    if loss.is_none() && 2 * count >= total {
                        loss = Some(self.lose(fleet, files));
                    }
                    let message = match &loss {
                        Some(loss) => format!("{} is dead; what it had in hand comes back after 10 s", loss.killed),
                        None => String::new(),
                    };
                    self.narrator.advance(count as u64, &message);
                }
            }
        };
        self.narrator.end();
        let loss = loss.unwrap_or_else(|| self.lose(fleet, files));
        Ok((answers, loss))
    }

    fn lose(&self, fleet: &mut Fleet, files: &Agents) -> Loss {
        let victim = &fleet.agents()[0];
        let pid = victim.pid().map_or_else(String::new, |pid| format!(" (process {pid})"));
        victim.kill();
        let killed = victim.name().to_owned();
        let new = fleet.add(files);
        let joined = fleet.agents()[new.start].name().to_owned();
        self.narrator.tell(&format!("half way: {killed}{pid} is killed with SIGKILL, and {joined} joins"));
        Loss { killed, joined }
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
