//! JSON to values of CEL and back, counted.

use std::borrow::Cow;

use cel::common::{
    types::{
        CelBool, CelDouble, CelDuration, CelInt, CelList, CelMap, CelMapKey, CelNull, CelString, CelTimestamp, CelType,
        CelUInt,
    },
    value::Val,
};
use serde_json::{Map, Number, Value};

/// How deep data may be nested.
const DATA_DEPTH_MAX: usize = 128;

/// What every value counts, beside its text.
pub(super) const VALUE_BYTES: u64 = 8;

/// Too much, or nested too deep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Exceeded;

impl Exceeded {
    pub(super) fn sentence() -> String {
        format!(
            "it reads too much data: {} bytes, counting 8 for every value, nested {DATA_DEPTH_MAX} deep, are the limit",
            super::READ_BYTES_MAX
        )
    }
}

/// Takes from what is left.
pub(super) fn take(left: &mut u64, bytes: u64) -> Result<(), Exceeded> {
    *left = left.checked_sub(bytes).ok_or(Exceeded)?;
    Ok(())
}

/// A copy of a value within a bound.
pub(super) fn copy(value: Cow<'_, Value>, bytes_max: u64) -> Result<Value, String> {
    let mut left = bytes_max;
    weigh(&value, &mut left, 0).map_err(|Exceeded| Exceeded::sentence())?;
    Ok(value.into_owned())
}

fn weigh(value: &Value, left: &mut u64, depth: usize) -> Result<(), Exceeded> {
    if depth > DATA_DEPTH_MAX {
        return Err(Exceeded);
    }
    take(left, VALUE_BYTES)?;
    match value {
        Value::String(text) => take(left, text.len() as u64),
        Value::Array(list) => list.iter().try_for_each(|item| weigh(item, left, depth + 1)),
        Value::Object(map) => map.iter().try_for_each(|(key, value)| {
            take(left, key.len() as u64)?;
            weigh(value, left, depth + 1)
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) => Ok(()),
    }
}

/// A value of CEL that borrows its texts. Whole numbers are `int`, above its range `uint`.
pub(super) fn to_cel<'v>(value: &'v Value, left: &mut u64, depth: usize) -> Result<Box<dyn Val + 'v>, Exceeded> {
    if depth > DATA_DEPTH_MAX {
        return Err(Exceeded);
    }
    take(left, VALUE_BYTES)?;
    Ok(match value {
        Value::Null => Box::new(CelNull),
        Value::Bool(value) => Box::new(CelBool::from(*value)),
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => Box::new(CelInt::from(number)),
            (None, Some(number)) => Box::new(CelUInt::from(number)),
            (None, None) => Box::new(CelDouble::from(number.as_f64().unwrap_or(f64::NAN))),
        },
        Value::String(text) => {
            take(left, text.len() as u64)?;
            Box::new(CelString::from(text.as_str()))
        }
        Value::Array(list) => {
            let items: Result<Vec<_>, _> = list.iter().map(|item| to_cel(item, left, depth + 1)).collect();
            Box::new(CelList::from(items?))
        }
        Value::Object(map) => {
            let mut entries = std::collections::HashMap::with_capacity(map.len());
            for (key, value) in map {
                take(left, key.len() as u64)?;
                entries.insert(CelMapKey::from(key.as_str()), to_cel(value, left, depth + 1)?);
            }
            Box::new(CelMap::from(entries))
        }
    })
}

/// What a value of CEL counts; [`Exceeded`] as soon as more than what is left.
pub(super) fn weigh_cel(value: &dyn Val, left: &mut u64) -> Result<(), Exceeded> {
    take(left, VALUE_BYTES)?;
    if let Some(text) = value.downcast_ref::<CelString>() {
        take(left, text.inner().len() as u64)
    } else if let Some(list) = value.downcast_ref::<CelList>() {
        list.inner().iter().try_for_each(|item| weigh_cel(item.as_ref(), left))
    } else if let Some(map) = value.downcast_ref::<CelMap>() {
        map.inner().iter().try_for_each(|(key, value)| {
            weigh_cel(key.inner(), left)?;
            weigh_cel(value.as_ref(), left)
        })
    } else {
        Ok(())
    }
}

/// JSON of a value of CEL: moments as RFC 3339, durations as seconds (`90s`), types by name.
pub(super) fn from_cel(value: &dyn Val) -> Result<Value, String> {
    if let Some(value) = value.downcast_ref::<CelBool>() {
        Ok(Value::from(*value.inner()))
    } else if let Some(value) = value.downcast_ref::<CelInt>() {
        Ok(Value::from(*value.inner()))
    } else if let Some(value) = value.downcast_ref::<CelUInt>() {
        Ok(Value::from(*value.inner()))
    } else if let Some(value) = value.downcast_ref::<CelDouble>() {
        let number = Number::from_f64(*value.inner()).ok_or("its value is not a finite number")?;
        Ok(Value::Number(number))
    } else if let Some(value) = value.downcast_ref::<CelString>() {
        Ok(Value::from(value.inner()))
    } else if value.downcast_ref::<CelNull>().is_some() {
        Ok(Value::Null)
    } else if let Some(list) = value.downcast_ref::<CelList>() {
        list.inner().iter().map(|item| from_cel(item.as_ref())).collect()
    } else if let Some(map) = value.downcast_ref::<CelMap>() {
        // In the order of the keys: of two that are written alike (1 and "1") the same one wins everywhere.
        let mut sorted: Vec<_> = map.inner().iter().collect();
        sorted.sort_by_key(|(key, _)| *key);
        let mut entries = Map::new();
        for (key, value) in sorted {
            let key = match from_cel(key.inner())? {
                Value::String(key) => key,
                other => other.to_string(),
            };
            entries.insert(key, from_cel(value.as_ref())?);
        }
        Ok(Value::Object(entries))
    } else if let Some(value) = value.downcast_ref::<CelTimestamp>() {
        Ok(Value::from(value.inner().to_rfc3339()))
    } else if let Some(value) = value.downcast_ref::<CelDuration>() {
        Ok(Value::from(seconds(*value.inner())))
    } else if let Some(value) = value.downcast_ref::<CelType>() {
        Ok(Value::from(value.name()))
    } else {
        Err(format!("its value is of type {}, which JSON does not have", value.get_type().name()))
    }
}

fn seconds(duration: chrono::Duration) -> String {
    match duration.num_milliseconds() {
        whole if whole % 1000 == 0 => format!("{}s", whole / 1000),
        part => format!("{part}ms"),
    }
}
