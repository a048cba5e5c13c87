//! Functions of ours: those that count work, and those that CEL's standard library lacks. What can make more than it is given counts
//! before it makes it.

use std::{
    cmp::Ordering,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use cel::{
    Context, ExecutionError, FunctionContext,
    common::{
        types::{CelList, CelMap, CelMapKey, CelString},
        value::{CowVal, Val},
    },
};

use super::{
    WORK_BYTES_MAX,
    json::{self, VALUE_BYTES},
};

/// The function that counts its argument and gives it back.
pub(super) const CHARGE: &str = "@charge";

/// The function that counts what a comprehension goes through, and gives it in an order that is always the same.
pub(super) const EACH: &str = "@each";

/// A function that an expression can call.
#[derive(Debug)]
pub(super) struct Function {
    pub name: &'static str,
    /// How many arguments it takes beside what it is called on.
    pub arguments: &'static [usize],
    run: for<'c, 'v> fn(&Work, &mut FunctionContext<'c, 'v>) -> Outcome<'c, 'v>,
}

/// All of ours. Those for people are called on something: `list.join(', ')`.
pub(super) const FUNCTIONS: &[Function] = &[
    Function { name: CHARGE, arguments: &[], run: charge },
    Function { name: EACH, arguments: &[], run: each },
    Function { name: "join", arguments: &[0, 1], run: join },
    Function { name: "split", arguments: &[1], run: split },
    Function { name: "replace", arguments: &[2], run: replace },
    Function { name: "trim", arguments: &[0], run: trim },
    Function { name: "lowerAscii", arguments: &[0], run: lower },
    Function { name: "upperAscii", arguments: &[0], run: upper },
    Function { name: "flatten", arguments: &[0], run: flatten },
    Function { name: "sort", arguments: &[0], run: sort },
    Function { name: "sum", arguments: &[0], run: sum },
    Function { name: "min", arguments: &[0], run: min },
    Function { name: "max", arguments: &[0], run: max },
];

/// The function of a name.
pub(super) fn find(name: &str) -> Option<&'static Function> {
    FUNCTIONS.iter().find(|function| function.name == name)
}

type Outcome<'c, 'v> = Result<CowVal<'c, 'v>, ExecutionError>;

/// How much may still be gone through or made; 0 once it was too much.
pub(super) struct Work {
    left: Mutex<u64>,
}

impl Work {
    pub(super) fn new() -> Self {
        Self { left: Mutex::new(WORK_BYTES_MAX) }
    }

    pub(super) fn is_exhausted(&self) -> bool {
        *lock(&self.left) == 0
    }

    pub(super) fn declare(
        self: &Arc<Self>,
        context: &mut Context<'_, '_>,
        function: &'static Function,
    ) -> Result<(), String> {
        type Boxed = Box<
            dyn for<'c, 'v> Fn(&mut FunctionContext<'c, 'v>) -> Result<CowVal<'c, 'v>, ExecutionError> + Send + Sync,
        >;
        let work = Arc::clone(self);
        let boxed: Boxed = Box::new(move |call| (function.run)(&work, call));
        context.add_function(function.name, boxed).map_err(|error| error.to_string())
    }

    fn take(&self, call: &FunctionContext<'_, '_>, bytes: usize) -> Result<(), ExecutionError> {
        let mut left = lock(&self.left);
        json::take(&mut left, bytes as u64).map_err(|_| {
            *left = 0;
            call.error("too much work")
        })
    }

    fn weigh(&self, call: &FunctionContext<'_, '_>, value: &dyn Val) -> Result<(), ExecutionError> {
        let mut left = lock(&self.left);
        json::weigh_cel(value, &mut left).map_err(|_| {
            *left = 0;
            call.error("too much work")
        })
    }
}

pub(super) fn lock(left: &Mutex<u64>) -> MutexGuard<'_, u64> {
    left.lock().unwrap_or_else(PoisonError::into_inner)
}

fn charge<'c, 'v>(work: &Work, call: &mut FunctionContext<'c, 'v>) -> Outcome<'c, 'v> {
    let value = call.args.pop().ok_or(ExecutionError::MissingArgumentOrTarget)?;
    work.weigh(call, value.as_ref())?;
    Ok(value)
}

/// A map gives its keys in their order: that of the interpreter is another one in each process, and a run would not be the same
/// when another coordinator goes on with it.
fn each<'c, 'v>(work: &Work, call: &mut FunctionContext<'c, 'v>) -> Outcome<'c, 'v> {
    let value = charge(work, call)?;
    let Some(map) = value.downcast_ref::<CelMap>() else { return Ok(value) };
    let mut keys: Vec<&CelMapKey<'v>> = map.inner().keys().collect();
    keys.sort();
    let keys: Vec<Box<dyn Val + 'v>> = keys.into_iter().map(|key| key.inner().clone_as_boxed()).collect();
    Ok(CowVal::owned(CelList::from(keys)))
}

fn join<'c, 'v>(work: &Work, call: &mut FunctionContext<'c, 'v>) -> Outcome<'c, 'v> {
    let this = this(call)?;
    let separator = argument(call, 0)?;
    let separator = separator.as_ref().map_or(Ok(""), |value| text(call, value.as_ref()))?;
    let mut parts = Vec::new();
    for item in list(call, this.as_ref())? {
        let part = text(call, item.as_ref())?;
        work.take(call, VALUE_BYTES as usize + part.len() + separator.len())?;
        parts.push(part);
    }
    Ok(CowVal::owned(CelString::from(parts.join(separator))))
}

fn split<'c, 'v>(work: &Work, call: &mut FunctionContext<'c, 'v>) -> Outcome<'c, 'v> {
    let (this, separator) = (this(call)?, argument(call, 0)?.ok_or(ExecutionError::MissingArgumentOrTarget)?);
    let (whole, separator) = (text(call, this.as_ref())?, text(call, separator.as_ref())?);
    let mut parts: Vec<Box<dyn Val + 'v>> = Vec::new();
    for part in whole.split(separator) {
        work.take(call, VALUE_BYTES as usize + part.len())?;
        parts.push(Box::new(CelString::from(part.to_owned())));
    }
    Ok(CowVal::owned(CelList::from(parts)))
}

fn replace<'c, 'v>(work: &Work, call: &mut FunctionContext<'c, 'v>) -> Outcome<'c, 'v> {
    let missing = ExecutionError::MissingArgumentOrTarget;
    let (this, from, to) =
        (this(call)?, argument(call, 0)?.ok_or(missing.clone())?, argument(call, 1)?.ok_or(missing)?);
    let (whole, from, to) = (text(call, this.as_ref())?, text(call, from.as_ref())?, text(call, to.as_ref())?);
    work.take(call, whole.len())?;
    work.take(call, whole.matches(from).count().saturating_mul(to.len()))?;
    Ok(CowVal::owned(CelString::from(whole.replace(from, to))))
}

fn trim<'c, 'v>(work: &Work, call: &mut FunctionContext<'c, 'v>) -> Outcome<'c, 'v> {
    changed(work, call, |text| text.trim().to_owned())
}

fn lower<'c, 'v>(work: &Work, call: &mut FunctionContext<'c, 'v>) -> Outcome<'c, 'v> {
    changed(work, call, str::to_ascii_lowercase)
}

fn upper<'c, 'v>(work: &Work, call: &mut FunctionContext<'c, 'v>) -> Outcome<'c, 'v> {
    changed(work, call, str::to_ascii_uppercase)
}

fn changed<'c, 'v>(work: &Work, call: &mut FunctionContext<'c, 'v>, change: fn(&str) -> String) -> Outcome<'c, 'v> {
    let this = this(call)?;
    let text = text(call, this.as_ref())?;
    work.take(call, text.len())?;
    Ok(CowVal::owned(CelString::from(change(text))))
}

/// One level of lists in a list less; what is no list stays.
fn flatten<'c, 'v>(work: &Work, call: &mut FunctionContext<'c, 'v>) -> Outcome<'c, 'v> {
    let this = this(call)?;
    work.weigh(call, this.as_ref())?;
    let mut flat: Vec<Box<dyn Val + 'v>> = Vec::new();
    for item in list(call, this.as_ref())? {
        match item.downcast_ref::<CelList>() {
            Some(inner) => flat.extend(inner.inner().iter().cloned()),
            None => flat.push(item.clone()),
        }
    }
    Ok(CowVal::owned(CelList::from(flat)))
}

/// The standard library's sort may panic where the order contradicts itself, as that of whole and other numbers can; this
/// merges by hand.
fn sort<'c, 'v>(work: &Work, call: &mut FunctionContext<'c, 'v>) -> Outcome<'c, 'v> {
    let this = this(call)?;
    work.weigh(call, this.as_ref())?;
    let mut items = list(call, this.as_ref())?.to_vec();
    let mut width = 1;
    while width < items.len() {
        let mut merged = Vec::with_capacity(items.len());
        let mut rest = items.into_iter().peekable();
        while rest.peek().is_some() {
            let left: Vec<Box<dyn Val + 'v>> = rest.by_ref().take(width).collect();
            let right: Vec<Box<dyn Val + 'v>> = rest.by_ref().take(width).collect();
            let (mut left, mut right) = (left.into_iter().peekable(), right.into_iter().peekable());
            while let (Some(first), Some(second)) = (left.peek(), right.peek()) {
                let takes_right = compare(call, second.as_ref(), first.as_ref())? == Ordering::Less;
                merged.extend(if takes_right { right.next() } else { left.next() });
            }
            merged.extend(left.chain(right));
        }
        items = merged;
        width *= 2;
    }
    Ok(CowVal::owned(CelList::from(items)))
}

fn sum<'c, 'v>(work: &Work, call: &mut FunctionContext<'c, 'v>) -> Outcome<'c, 'v> {
    let this = this(call)?;
    let mut sum: Box<dyn Val + 'v> = Box::new(cel::common::types::CelInt::from(0));
    for (index, item) in list(call, this.as_ref())?.iter().enumerate() {
        // A sum of texts would be their joining, and square work.
        if item.downcast_ref::<CelString>().is_some() || item.downcast_ref::<CelList>().is_some() {
            return Err(call.error("is for numbers and durations; texts are joined with `join`"));
        }
        work.take(call, VALUE_BYTES as usize)?;
        if index == 0 {
            sum = item.clone();
            continue;
        }
        let adder = sum.as_adder().ok_or_else(|| call.error("is for numbers and durations"))?;
        let more = adder.add(item.as_ref())?.into_owned();
        sum = more;
    }
    Ok(CowVal::Owned(sum))
}

fn min<'c, 'v>(work: &Work, call: &mut FunctionContext<'c, 'v>) -> Outcome<'c, 'v> {
    extreme(work, call, Ordering::Less)
}

fn max<'c, 'v>(work: &Work, call: &mut FunctionContext<'c, 'v>) -> Outcome<'c, 'v> {
    extreme(work, call, Ordering::Greater)
}

fn extreme<'c, 'v>(work: &Work, call: &mut FunctionContext<'c, 'v>, wanted: Ordering) -> Outcome<'c, 'v> {
    let this = this(call)?;
    work.weigh(call, this.as_ref())?;
    let mut items = list(call, this.as_ref())?.iter();
    let mut best = items.next().ok_or_else(|| call.error("is not known of an empty list"))?;
    for item in items {
        if compare(call, item.as_ref(), best.as_ref())? == wanted {
            best = item;
        }
    }
    Ok(CowVal::Owned(best.clone()))
}

fn compare(call: &FunctionContext<'_, '_>, left: &dyn Val, right: &dyn Val) -> Result<Ordering, ExecutionError> {
    let comparer = left.as_comparer().ok_or_else(|| {
        call.error(format!("{} and {} cannot be compared", left.get_type().name(), right.get_type().name()))
    })?;
    comparer.compare(right)
}

fn this<'c, 'v>(call: &mut FunctionContext<'c, 'v>) -> Outcome<'c, 'v> {
    call.this.take().ok_or(ExecutionError::MissingArgumentOrTarget)
}

fn argument<'c, 'v>(call: &FunctionContext<'c, 'v>, index: usize) -> Result<Option<CowVal<'c, 'v>>, ExecutionError> {
    Ok(call.args.get(index).cloned())
}

fn text<'x>(call: &FunctionContext<'_, '_>, value: &'x (dyn Val + '_)) -> Result<&'x str, ExecutionError> {
    match value.downcast_ref::<CelString>() {
        Some(text) => Ok(text.inner()),
        None => Err(call.error(format!("is for text, not for {}", value.get_type().name()))),
    }
}

fn list<'x, 'v>(
    call: &FunctionContext<'_, '_>,
    value: &'x (dyn Val + 'v),
) -> Result<&'x [Box<dyn Val + 'v>], ExecutionError> {
    match value.downcast_ref::<CelList>() {
        Some(list) => Ok(list.inner()),
        None => Err(call.error(format!("is for a list, not for {}", value.get_type().name()))),
    }
}
