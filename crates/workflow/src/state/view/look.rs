//! From the state to what it looks like.

use protocol::{Capability, Status, StepName, WorkflowName};

use super::{ItemCounts, RequestView, RunStatus, StepView, View, WaitsFor};
use crate::{
    Payload,
    plan::{Action, Body, OnError, Step, StepIndex, Target},
    state::{
        Refused, Stage, State,
        course::{Course, Phase, Undone},
        step::{Item, StepRun, StepStatus},
    },
};

impl State {
    /// What the run looks like now. It costs what the run is large.
    pub fn view(&self) -> View {
        match &self.stage {
            Stage::Early(early) => View { signals_kept: early.signals.kept_count(), ..self.unknown() },
            Stage::Refused(refused) => refused.view(self.unknown()),
            Stage::Begun(course) => course.view(self.unknown()),
        }
    }

    fn unknown(&self) -> View {
        View {
            run: self.run.clone(),
            workflow: None,
            version: None,
            status: RunStatus::Waiting,
            percent: 0,
            started: None,
            ended: None,
            due: None,
            parent: None,
            retry_of: None,
            input: Payload::default(),
            output: Payload::default(),
            failure: None,
            steps: Vec::new(),
            undo: Vec::new(),
            undo_left: 0,
            signals_kept: 0,
            last_sequence: self.last_sequence,
        }
    }
}

impl Refused {
    fn view(&self, unknown: View) -> View {
        View { status: RunStatus::Ended(self.ending.status), failure: self.ending.failure.clone(), ..unknown }
    }
}

impl Course {
    fn view(&self, unknown: View) -> View {
        let plan = self.program.plan();
        let status = match (self.phase, &self.ending) {
            (_, Some(ending)) => RunStatus::Ended(ending.status),
            (Phase::Running, _) if self.is_paused => RunStatus::Paused,
            (Phase::Running, _) => RunStatus::Running,
            (Phase::Stopping, _) => RunStatus::Stopping,
            (Phase::Undoing | Phase::Ended, _) => RunStatus::Undoing,
        };
        let ending = self.ending.as_ref();
        let failure = ending.and_then(|ending| ending.failure.as_ref());
        View {
            workflow: Some(plan.workflow.clone()),
            version: Some(plan.version.clone()),
            status,
            percent: self.percent(),
            started: Some(self.started),
            ended: self.ended,
            due: self.due.map(|(due, _)| due),
            parent: self.parent.clone(),
            retry_of: self.retry_of.clone(),
            input: self.input.clone(),
            output: ending.map(|ending| ending.output.clone()).unwrap_or_default(),
            failure: failure.or(self.verdict.as_ref().map(|verdict| &verdict.failure)).cloned(),
            steps: (0..self.steps.len()).map(|number| self.step_view(StepIndex(number))).collect(),
            undo: self.undo_views(),
            undo_left: self.undo.left(),
            signals_kept: self.signals.kept_count(),
            ..unknown
        }
    }

    fn percent(&self) -> u8 {
        if self.ending.as_ref().is_some_and(|ending| ending.status == Status::Completed) || self.steps.is_empty() {
            return 100;
        }
        // Thousandths of a step, so that no float is needed.
        let part = |step: &StepRun| match step.status {
            StepStatus::Waiting => 0,
            // What the run's end kept from being done is not done.
            StepStatus::Skipped | StepStatus::Cancelled if self.verdict.is_some() => 0,
            StepStatus::Running => 1_000 * step.counts.all_ended() / step.list.len().max(step.items.len() + 1),
            _ => 1_000,
        };
        let done: usize = self.steps.iter().map(part).sum();
        u8::try_from(done / (10 * self.steps.len())).unwrap_or(100).min(99)
    }

    fn step_view(&self, index: StepIndex) -> StepView {
        let plan = self.program.plan().step(index);
        let step = &self.steps[index.0];
        let is_list = matches!(plan.action, Action::ForEach { .. }) && step.begun.is_some();
        let fallback = match plan.on_error {
            OnError::Fallback(fallback) if step.status == StepStatus::Failed => Some(fallback),
            _ => None,
        };
        let stands_in = |fallback: &StepIndex| self.steps[fallback.0].status == StepStatus::Completed;
        let begun = step.items.iter().enumerate().filter(|(_, item)| item.status != StepStatus::Waiting);
        StepView {
            name: plan.name.clone(),
            kind: kind(&plan.action),
            status: step.status,
            begun: step.begun,
            ended: step.ended,
            needs: plan.needs.iter().chain(&plan.needs_any).map(|need| self.name(*need)).collect(),
            waits_for: self.waits_for(index, plan, step),
            items: is_list.then(|| ItemCounts::of(step)),
            requests: begun.map(|(place, item)| request_view(plan, place, item)).collect(),
            output: step.output.clone(),
            failure: step.error.as_ref().map(|error| error.failure.clone()),
            stood_in_by: fallback.filter(stands_in).map(|fallback| self.name(fallback)),
        }
    }

    fn name(&self, index: StepIndex) -> StepName {
        self.program.plan().step(index).name.clone()
    }

    fn waits_for(&self, index: StepIndex, plan: &Step, step: &StepRun) -> Option<WaitsFor> {
        if self.held.contains(&index) {
            return Some(WaitsFor::Resume);
        }
        let due = step.timer.map(|(_, due)| due);
        match (step.status, &plan.action) {
            (StepStatus::Waiting, _) => {
                let needs = plan.needs.iter().chain(&plan.needs_any).chain(&self.program.fallback_of[index.0]);
                let is_open = |need: &&StepIndex| self.steps[need.0].ended.is_none();
                Some(WaitsFor::Steps(needs.filter(is_open).map(|need| self.name(*need)).collect()))
            }
            (StepStatus::Running, Action::Signal { name, .. }) => {
                Some(WaitsFor::Signal { name: name.clone(), until: due })
            }
            (StepStatus::Running, _) => due.map(WaitsFor::Moment),
            _ => None,
        }
    }

    fn undo_views(&self) -> Vec<RequestView> {
        let view = |undone: &Undone| {
            let plan = self.program.plan().step(undone.step);
            let (capability, workflow) = plan.undo.as_ref().map(asked).unwrap_or_default();
            let end = undone.end.as_ref();
            let failure = end.and_then(|end| end.failure.clone());
            RequestView {
                step: self.program.undo_name(undone.step).cloned().unwrap_or_else(|| plan.name.clone()),
                item: undone.item,
                branch: None,
                capability,
                workflow,
                status: match (end, &failure) {
                    (None, _) => StepStatus::Running,
                    (Some(_), None) => StepStatus::Completed,
                    (Some(_), Some(_)) => StepStatus::Failed,
                },
                begun: Some(undone.begun),
                ended: end.map(|end| end.at),
                attempt: end.map_or(0, |end| end.attempt),
                agent: end.and_then(|end| end.instance.clone()),
                is_copied: false,
                is_withdrawn: false,
                input: undone.input.clone(),
                output: Payload::default(),
                failure,
            }
        };
        self.undo.done.iter().map(view).collect()
    }
}

impl ItemCounts {
    fn of(step: &StepRun) -> Self {
        let counts = step.counts;
        Self {
            total: step.list.len(),
            waiting: step.list.len().saturating_sub(step.items.len()),
            running: counts.running,
            completed: counts.completed,
            failed: counts.failed,
            cancelled: counts.cancelled,
        }
    }
}

fn request_view(plan: &Step, place: usize, item: &Item) -> RequestView {
    let (branch, body) = match &plan.action {
        Action::Once(body) | Action::ForEach { body, .. } | Action::Repeat { body, .. } => (None, Some(body)),
        Action::Race { branches } => {
            branches.get(place).map(|(name, body)| (Some(name.clone()), Some(body))).unwrap_or_default()
        }
        Action::Wait(_) | Action::Signal { .. } | Action::Emit { .. } => (None, None),
    };
    let (capability, workflow) = body.map(asked).unwrap_or_default();
    RequestView {
        step: plan.name.clone(),
        item: place as u64,
        branch,
        capability,
        workflow,
        status: item.status,
        begun: item.begun,
        ended: item.ended,
        attempt: item.attempt,
        agent: item.instance.clone(),
        is_copied: item.is_copied,
        is_withdrawn: item.is_withdrawn,
        input: item.input.clone(),
        output: item.output.clone(),
        failure: item.failure.as_deref().cloned(),
    }
}

fn asked(body: &Body) -> (Option<Capability>, Option<WorkflowName>) {
    match &body.target {
        Target::Capability(capability) => (Some(capability.clone()), None),
        Target::Workflow(workflow) => (None, Some(workflow.clone())),
    }
}

fn kind(action: &Action) -> &'static str {
    match action {
        Action::Once(Body { target: Target::Capability(_), .. }) => "call",
        Action::Once(Body { target: Target::Workflow(_), .. }) => "workflow",
        Action::ForEach { .. } => "foreach",
        Action::Repeat { .. } => "repeat",
        Action::Race { .. } => "race",
        Action::Wait(_) => "wait",
        Action::Signal { .. } => "signal",
        Action::Emit { .. } => "emit",
    }
}
