//! Who waits for whom: the order of steps, cycles, what can never begin.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use document::{Fault, Located, below};
use serde_json::Value;

/// Cycles that are told of one definition; mending some often mends others.
const CYCLES_TOLD_MAX: usize = 20;

/// What one step waits for, by number.
#[derive(Debug, Default)]
pub(super) struct Waits {
    pub needs: Vec<usize>,
    pub needs_any: Vec<usize>,
    /// The step whose failure begins it.
    pub fallback_of: Option<usize>,
}

/// Which steps have ended when one begins.
pub(super) struct After {
    /// A bit for each step that has; none for steps that never begin, of which nothing is said twice.
    before: Vec<Option<Vec<u64>>>,
}

impl After {
    pub(super) fn is_after(&self, step: usize, other: usize) -> bool {
        self.before[step].as_ref().is_none_or(|bits| bits[other / 64] & (1 << (other % 64)) != 0)
    }
}

/// The names of all steps in their order: as the definition says, else as its text has it, else each behind what it needs.
pub(super) fn names(located: &Located) -> Vec<String> {
    let Some(steps) = located.value.get("steps").and_then(Value::as_object) else { return Vec::new() };
    let mut names: Vec<&String> = steps.keys().collect();
    let place = |name: &str| located.place(&below("/steps", name));
    let listed: Vec<&str> =
        located.value.get("order").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    if !listed.is_empty() {
        let places: BTreeMap<&str, usize> = listed.iter().enumerate().rev().map(|(at, name)| (*name, at)).collect();
        names.sort_by_key(|name| (places.get(name.as_str()).copied().unwrap_or(usize::MAX), place(name)));
    } else if names.iter().any(|name| place(name).is_some()) {
        names.sort_by_key(|name| place(name));
    } else {
        return by_need(steps);
    }
    names.into_iter().cloned().collect()
}

fn by_need(steps: &serde_json::Map<String, Value>) -> Vec<String> {
    let mut left: BTreeMap<&str, usize> = steps.keys().map(|name| (name.as_str(), 0)).collect();
    let mut dependents: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, step) in steps {
        let listed = ["needs", "needs_any"].into_iter().filter_map(|key| step.get(key)?.as_array()).flatten();
        let needs: BTreeSet<&str> = listed.filter_map(Value::as_str).filter(|need| steps.contains_key(*need)).collect();
        left.insert(name, needs.len());
        for need in needs {
            dependents.entry(need).or_default().push(name);
        }
    }
    let mut ready: BTreeSet<&str> = left.iter().filter(|(_, needs)| **needs == 0).map(|(name, _)| *name).collect();
    let mut names = Vec::with_capacity(steps.len());
    while let Some(name) = ready.pop_first() {
        left.remove(name);
        names.push(name.to_owned());
        for dependent in dependents.get(name).into_iter().flatten() {
            if let Some(needs) = left.get_mut(dependent) {
                *needs -= 1;
                if *needs == 0 {
                    ready.insert(dependent);
                }
            }
        }
    }
    names.extend(left.into_keys().map(str::to_owned));
    names
}

/// Finds cycles and what can never begin because of them.
pub(super) fn check(waits: &[Waits], names: &[String], located: &Located, faults: &mut Vec<Fault>) -> After {
    let edges = edges(waits);
    let (order, mut stuck) = sorted(&edges);
    let mut told = 0;
    let mut in_cycles = BTreeSet::new();
    let never_begin = stuck.clone();
    while told < CYCLES_TOLD_MAX
        && let Some(cycle) = cycle(&edges, &mut stuck)
    {
        told += 1;
        let shown: Vec<&str> = cycle.iter().chain(cycle.first()).map(|step| names[*step].as_str()).collect();
        let message = format!("these steps wait for each other: {}", shown.join(" → "));
        faults.push(located.fault(&below("/steps", &names[cycle[0]]), message));
        in_cycles.extend(cycle);
    }
    for step in never_begin.difference(&in_cycles) {
        let Some(need) = edges[*step].iter().find(|need| never_begin.contains(need)) else { continue };
        let message = format!("can never begin: it waits for `{}`, which never ends", names[*need]);
        faults.push(located.fault(&below("/steps", &names[*step]), message));
    }
    After { before: before(waits, &order) }
}

/// What each step waits for in the end: who needs a step that has a fallback waits for that too, and a fallback waits for the step
/// that it stands for.
fn edges(waits: &[Waits]) -> Vec<Vec<usize>> {
    let mut fallback: Vec<Option<usize>> = vec![None; waits.len()];
    for (index, wait) in waits.iter().enumerate() {
        if let Some(of) = wait.fallback_of {
            fallback[of] = Some(index);
        }
    }
    let with_fallbacks = |step: usize, edges: &mut BTreeSet<usize>| {
        let mut next = Some(step);
        while let Some(step) = next
            && edges.insert(step)
        {
            next = fallback[step];
        }
    };
    let of = |(index, wait): (usize, &Waits)| {
        let mut edges = BTreeSet::new();
        for need in wait.needs.iter().chain(&wait.needs_any) {
            with_fallbacks(*need, &mut edges);
        }
        // The fallback of what it needs may be this step itself; that is a cycle, and one of its own.
        edges.extend(wait.fallback_of.filter(|of| *of != index));
        edges.into_iter().collect()
    };
    waits.iter().enumerate().map(of).collect()
}

/// The steps in an order in which each is behind what it waits for, and those that have no place in it.
fn sorted(edges: &[Vec<usize>]) -> (Vec<usize>, BTreeSet<usize>) {
    let mut left: Vec<usize> = edges.iter().map(Vec::len).collect();
    let mut dependents = vec![Vec::new(); edges.len()];
    for (step, needs) in edges.iter().enumerate() {
        for need in needs {
            dependents[*need].push(step);
        }
    }
    let mut ready: VecDeque<usize> = (0..edges.len()).filter(|step| left[*step] == 0).collect();
    let mut order = Vec::with_capacity(edges.len());
    while let Some(step) = ready.pop_front() {
        order.push(step);
        for dependent in &dependents[step] {
            left[*dependent] -= 1;
            if left[*dependent] == 0 {
                ready.push_back(*dependent);
            }
        }
    }
    let stuck = (0..edges.len()).filter(|step| left[*step] > 0).collect();
    (order, stuck)
}

/// One cycle among steps that are stuck, each waiting for the next; its steps are taken out.
fn cycle(edges: &[Vec<usize>], stuck: &mut BTreeSet<usize>) -> Option<Vec<usize>> {
    // Once a cycle is taken out, what waited only for it is no part of another.
    loop {
        let free: Vec<usize> =
            stuck.iter().copied().filter(|step| !edges[*step].iter().any(|need| stuck.contains(need))).collect();
        if free.is_empty() {
            break;
        }
        free.iter().for_each(|step| _ = stuck.remove(step));
    }
    let mut path = vec![*stuck.first()?];
    loop {
        let last = *path.last()?;
        let next = *edges[last].iter().find(|need| stuck.contains(need))?;
        if let Some(begin) = path.iter().position(|step| *step == next) {
            let mut cycle = path.split_off(begin);
            let first = cycle.iter().enumerate().min_by_key(|(_, step)| **step).map_or(0, |(at, _)| at);
            cycle.rotate_left(first);
            cycle.iter().for_each(|step| _ = stuck.remove(step));
            return Some(cycle);
        }
        path.push(next);
    }
}

fn before(waits: &[Waits], order: &[usize]) -> Vec<Option<Vec<u64>>> {
    let words = waits.len().div_ceil(64);
    let mut before: Vec<Option<Vec<u64>>> = vec![None; waits.len()];
    for step in order {
        let mut bits = vec![0_u64; words];
        let wait = &waits[*step];
        for need in wait.needs.iter().chain(&wait.needs_any).chain(&wait.fallback_of) {
            bits[need / 64] |= 1 << (need % 64);
            if let Some(more) = &before[*need] {
                bits.iter_mut().zip(more).for_each(|(bit, more)| *bit |= more);
            }
        }
        before[*step] = Some(bits);
    }
    before
}
