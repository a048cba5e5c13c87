//! Subjects, typed, with their inverse. They are the public API: nothing else in the project spells one.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    Capability, CronName, InstanceId, Kind, Namespace, Operator, Origin, RequestId, RunFact, RunId, RunTimer, StepName,
    UniqueKey, WorkflowName,
};

/// The order in which work of one capability is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Lane {
    /// Before the others.
    Urgent,
    /// Where no lane is named.
    #[default]
    Normal,
    /// After the others, never starved.
    Bulk,
}

impl Lane {
    /// All lanes, first to last.
    pub const ALL: [Self; 3] = [Self::Urgent, Self::Normal, Self::Bulk];

    /// The subject token behind the namespace.
    pub fn token(self) -> &'static str {
        match self {
            Self::Urgent => "urgent",
            Self::Normal => "request",
            Self::Bulk => "bulk",
        }
    }

    /// Shares of a worker's pulls while all lanes have work: 16 : 4 : 1.
    pub fn weight(self) -> u32 {
        match self {
            Self::Urgent => 16,
            Self::Normal => 4,
            Self::Bulk => 1,
        }
    }

    /// What people call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Urgent => "urgent",
            Self::Normal => "normal",
            Self::Bulk => "bulk",
        }
    }

    /// The inverse of [`Lane::name`].
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|lane| lane.name() == name)
    }

    fn parse(token: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|lane| lane.token() == token)
    }
}

/// One subject of a fleet, without its namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// Work: `request.<capability>`, `urgent.…`, `bulk.…`.
    Request {
        /// Where in the order.
        lane: Lane,
        /// What is asked for.
        capability: Capability,
    },
    /// One request's retry or delay: `later.<id>`.
    Later(RequestId),
    /// A recurring schedule: `cron.<name>`.
    Cron(CronName),
    /// What a recurring schedule fires at that must not overlap with itself: `fire.<name>`.
    Fire(CronName),
    /// The start of a run: `start.<workflow>`.
    Start(WorkflowName),
    /// Work of which one at most is queued or running per key: `unique.<capability>.<key>`.
    Unique {
        /// What is asked for.
        capability: Capability,
        /// The key.
        key: UniqueKey,
    },
    /// `outcome.<id>`.
    Outcome(RequestId),
    /// The broker's republish of a stored outcome: `told.<id>`.
    Told(RequestId),
    /// A step's outcome in its run's log, as publishers write it: `run.<run>.step.<step>.<n>.outcome`.
    StepOutcome {
        /// The run.
        run: RunId,
        /// The step.
        step: StepName,
        /// The item or turn, else 0.
        item: u64,
    },
    /// Another fact of a run's log, as publishers write it: `run.<run>.<fact>`.
    Run {
        /// The run.
        run: RunId,
        /// The fact.
        fact: RunFact,
    },
    /// A schedule that fires a fact of a run: `timer.<run>.<t>`, at `run.<run>.timer.<t>.fired`.
    Timer {
        /// The run.
        run: RunId,
        /// Which one of it.
        timer: RunTimer,
    },
    /// `dead.<capability>.<id>`.
    Dead {
        /// What was asked for.
        capability: Capability,
        /// The request.
        id: RequestId,
    },
    /// The mark that a dead letter was sent again: `replayed.<capability>.<id>.<new id>`.
    Replayed {
        /// What was asked for.
        capability: Capability,
        /// The request that was given up.
        id: RequestId,
        /// The new request.
        request: RequestId,
    },
    /// `progress.<id>`.
    Progress(RequestId),
    /// `control.<instance>.<verb>`, or `control.all.<verb>`.
    Control {
        /// The agent; none means all.
        instance: Option<InstanceId>,
        /// What to do.
        verb: Verb,
    },
    /// A log line: `log.<kind>.<instance>`.
    Log {
        /// What the process is an instance of.
        kind: Kind,
        /// The process.
        instance: InstanceId,
    },
}

/// What agents can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Stop these requests.
    Cancel,
    /// Say what you are and do.
    Inspect,
    /// Pull no more, end what you have, exit with 0.
    Drain,
    /// Pull no more until you are resumed.
    Pause,
    /// Pull again.
    Resume,
    /// Have another number of slots.
    SetSlots,
    /// Log more or less.
    SetLog,
    /// Drain, then exit with 75 to be started again.
    Restart,
}

impl Verb {
    /// All verbs.
    pub const ALL: [Self; 8] = [
        Self::Cancel,
        Self::Inspect,
        Self::Drain,
        Self::Pause,
        Self::Resume,
        Self::SetSlots,
        Self::SetLog,
        Self::Restart,
    ];

    /// The subject token.
    pub fn token(self) -> &'static str {
        match self {
            Self::Cancel => "cancel",
            Self::Inspect => "inspect",
            Self::Drain => "drain",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::SetSlots => "set-slots",
            Self::SetLog => "set-log",
            Self::Restart => "restart",
        }
    }

    /// The inverse of [`Verb::token`].
    pub fn parse(token: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.token() == token)
    }
}

impl Subject {
    /// The whole subject in a namespace.
    pub fn render(&self, namespace: &Namespace) -> String {
        match self {
            Self::Request { lane, capability } => format!("{namespace}.{}.{capability}", lane.token()),
            Self::Later(id) => format!("{namespace}.later.{id}"),
            Self::Cron(name) => format!("{namespace}.cron.{name}"),
            Self::Fire(name) => format!("{namespace}.fire.{name}"),
            Self::Start(workflow) => format!("{namespace}.start.{workflow}"),
            Self::Unique { capability, key } => format!("{namespace}.unique.{capability}.{key}"),
            Self::Outcome(id) => format!("{namespace}.outcome.{id}"),
            Self::Told(id) => format!("{namespace}.told.{id}"),
            Self::StepOutcome { run, step, item } => format!("{namespace}.run.{run}.step.{step}.{item}.outcome"),
            Self::Run { run, fact } => format!("{namespace}.run.{run}.{fact}"),
            Self::Timer { run, timer } => format!("{namespace}.timer.{run}.{timer}"),
            Self::Dead { capability, id } => format!("{namespace}.dead.{capability}.{id}"),
            Self::Replayed { capability, id, request } => format!("{namespace}.replayed.{capability}.{id}.{request}"),
            Self::Progress(id) => format!("{namespace}.progress.{id}"),
            Self::Control { instance, verb } => {
                let instance = instance.as_ref().map_or("all", InstanceId::as_str);
                format!("{namespace}.control.{instance}.{}", verb.token())
            }
            Self::Log { kind, instance } => format!("{namespace}.log.{kind}.{instance}"),
        }
    }

    /// The inverse of [`Subject::render`]; none for whatever is no such subject of this namespace.
    pub fn parse(namespace: &Namespace, subject: &str) -> Option<Self> {
        let rest = subject.strip_prefix(namespace.as_str())?.strip_prefix('.')?;
        let tokens: Vec<&str> = rest.split('.').collect();
        let id = |text: &str| RequestId::parse(text).ok();
        match tokens.as_slice() {
            ["later", text] => Some(Self::Later(id(text)?)),
            ["cron", name] => Some(Self::Cron(CronName::parse(name).ok()?)),
            ["fire", name] => Some(Self::Fire(CronName::parse(name).ok()?)),
            ["start", name] => Some(Self::Start(WorkflowName::parse(name).ok()?)),
            ["unique", capability, key] => {
                Some(Self::Unique { capability: Capability::parse(capability).ok()?, key: UniqueKey::parse(key).ok()? })
            }
            ["outcome", text] => Some(Self::Outcome(id(text)?)),
            ["told", text] => Some(Self::Told(id(text)?)),
            ["run", run, "step", step, item, "outcome"] => Some(Self::StepOutcome {
                run: RunId::parse(run).ok()?,
                step: StepName::parse(step).ok()?,
                item: item.parse().ok().filter(|number: &u64| number.to_string() == **item)?,
            }),
            ["run", run, fact @ ..] => {
                Some(Self::Run { run: RunId::parse(run).ok()?, fact: RunFact::parse(&fact.join("."))? })
            }
            ["timer", run, timer] => Some(Self::Timer { run: RunId::parse(run).ok()?, timer: RunTimer::parse(timer)? }),
            ["dead", capability, text] => {
                Some(Self::Dead { capability: Capability::parse(capability).ok()?, id: id(text)? })
            }
            ["replayed", capability, of, request] => Some(Self::Replayed {
                capability: Capability::parse(capability).ok()?,
                id: id(of)?,
                request: id(request)?,
            }),
            ["progress", text] => Some(Self::Progress(id(text)?)),
            ["control", instance, verb] => {
                let verb = Verb::parse(verb)?;
                let instance = match *instance {
                    "all" => None,
                    one => Some(InstanceId::parse(one).ok()?),
                };
                Some(Self::Control { instance, verb })
            }
            ["log", kind, instance] => {
                Some(Self::Log { kind: Kind::parse(kind).ok()?, instance: InstanceId::parse(instance).ok()? })
            }
            [lane, capability] => {
                Some(Self::Request { lane: Lane::parse(lane)?, capability: Capability::parse(capability).ok()? })
            }
            _ => None,
        }
    }

    /// Where the outcome of a request lives: from the id alone follows the one place.
    pub fn outcome_of(id: &RequestId) -> Self {
        match id.origin() {
            Origin::Step { run, step, item } => Self::StepOutcome { run, step, item },
            _ => Self::Outcome(id.clone()),
        }
    }
}

/// The filter under which a step's stored outcome is read: the broker puts a partition in front of the run.
pub fn stored_step_outcome(namespace: &Namespace, run: &RunId, step: &StepName, item: u64) -> String {
    format!("{namespace}.run.*.{run}.step.{step}.{item}.outcome")
}

/// The filter under which a fact of a run's log is read: the broker puts a partition in front of the run.
pub fn stored_run_fact(namespace: &Namespace, partition: Option<u8>, run: &RunId, fact: &RunFact) -> String {
    let partition = partition.map_or_else(|| "*".to_owned(), |partition| partition.to_string());
    format!("{namespace}.run.{partition}.{run}.{fact}")
}

/// Filters for readers, each covering every subject of one kind.
pub mod filter {
    use crate::{Capability, InstanceId, Kind, Namespace, RequestId, RunId};

    /// Every message of a stream. The broker counts what lies under it without looking at subjects.
    pub const EVERYTHING: &str = ">";

    /// Every record of one kind of act in the audit trail, whoever did it.
    pub fn audit(namespace: &Namespace, verb: &str) -> String {
        format!("{namespace}.audit.*.{verb}")
    }

    /// Every fact of the runs of one partition.
    pub fn run_partition(namespace: &Namespace, partition: u8) -> String {
        format!("{namespace}.run.{partition}.>")
    }

    /// The log of one run; its partition, where it is known, spares the broker looking at all.
    pub fn run_log(namespace: &Namespace, partition: Option<u8>, run: &RunId) -> String {
        let partition = partition.map_or_else(|| "*".to_owned(), |partition| partition.to_string());
        format!("{namespace}.run.{partition}.{run}.>")
    }

    /// The first fact of every run that is alive.
    pub fn runs_started(namespace: &Namespace) -> String {
        format!("{namespace}.run.*.*.started")
    }

    /// The first fact of every run of one partition that is alive.
    pub fn runs_started_in(namespace: &Namespace, partition: u8) -> String {
        format!("{namespace}.run.{partition}.*.started")
    }

    /// The timers of all runs that have not fired.
    pub fn run_timers(namespace: &Namespace) -> String {
        format!("{namespace}.timer.*.*")
    }

    /// Every fact that may come before its run has started, or after it has ended.
    pub fn run_strays(namespace: &Namespace) -> [String; 7] {
        ["signal.*", "cancel", "pause", "resume", "timer.*.fired", "step.*.*.outcome", "unreadable.*"]
            .map(|fact| format!("{namespace}.run.*.*.{fact}"))
    }

    /// Every schedule of a retry or delay.
    pub fn later(namespace: &Namespace) -> String {
        format!("{namespace}.later.*")
    }

    /// Every recurring schedule.
    pub fn cron(namespace: &Namespace) -> String {
        format!("{namespace}.cron.*")
    }

    /// Every firing of a schedule that must not overlap with itself.
    pub fn fire(namespace: &Namespace) -> String {
        format!("{namespace}.fire.*")
    }

    /// Every outcome as the broker tells it.
    pub fn told(namespace: &Namespace) -> String {
        format!("{namespace}.told.*")
    }

    /// Every stored outcome.
    pub fn outcomes(namespace: &Namespace) -> String {
        format!("{namespace}.outcome.*")
    }

    /// Every dead letter, or those of one capability.
    pub fn dead(namespace: &Namespace, capability: Option<&Capability>) -> String {
        format!("{namespace}.dead.{}.*", capability.map_or("*", Capability::as_str))
    }

    /// A dead letter by its request alone.
    pub fn dead_of(namespace: &Namespace, id: &RequestId) -> String {
        format!("{namespace}.dead.*.{id}")
    }

    /// Every mark of a replay, or those of one capability.
    pub fn replayed(namespace: &Namespace, capability: Option<&Capability>) -> String {
        format!("{namespace}.replayed.{}.*.*", capability.map_or("*", Capability::as_str))
    }

    /// The marks of the replays of one dead letter.
    pub fn replayed_of(namespace: &Namespace, id: &RequestId) -> String {
        format!("{namespace}.replayed.*.{id}.*")
    }

    /// Every start of a run that nobody has taken yet.
    pub fn starts(namespace: &Namespace) -> String {
        format!("{namespace}.start.*")
    }

    /// Work of every lane and capability.
    pub fn requests(namespace: &Namespace) -> [String; 3] {
        crate::Lane::ALL.map(|lane| format!("{namespace}.{}.*", lane.token()))
    }

    /// Work of one lane, for one capability or for all.
    pub fn lane(namespace: &Namespace, lane: crate::Lane, capability: Option<&Capability>) -> String {
        format!("{namespace}.{}.{}", lane.token(), capability.map_or("*", Capability::as_str))
    }

    /// Unique work of one capability, or of all.
    pub fn unique(namespace: &Namespace, capability: Option<&Capability>) -> String {
        format!("{namespace}.unique.{}.*", capability.map_or("*", Capability::as_str))
    }

    /// Every verb for one agent, known or not; or every verb for all agents.
    pub fn control(namespace: &Namespace, instance: Option<&InstanceId>) -> String {
        format!("{namespace}.control.{}.*", instance.map_or("all", InstanceId::as_str))
    }

    /// Log lines of every process, or of those of a kind, or of one instance.
    pub fn logs(namespace: &Namespace, kind: Option<&Kind>, instance: Option<&InstanceId>) -> String {
        format!("{namespace}.log.{}.{}", kind.map_or("*", Kind::as_str), instance.map_or("*", InstanceId::as_str))
    }

    /// Progress of every request.
    pub fn progress(namespace: &Namespace) -> String {
        format!("{namespace}.progress.*")
    }

    /// Every event.
    pub fn events(namespace: &Namespace) -> String {
        format!("{namespace}.event.>")
    }

    /// Events of a topic and all below it.
    pub fn event(namespace: &Namespace, topic: &str) -> String {
        format!("{namespace}.event.{topic}.>")
    }
}

/// The subject of an event on a topic such as `sys.agent.joined.<instance>`.
pub fn event(namespace: &Namespace, topic: &str) -> String {
    format!("{namespace}.event.{topic}")
}

/// The subject of an audit record; the verb is one token.
pub fn audit(namespace: &Namespace, who: &Operator, verb: &str) -> String {
    format!("{namespace}.audit.{who}.{verb}")
}

#[cfg(test)]
#[path = "subject_tests.rs"]
mod tests;
