//! What is wrong with a configuration: all of it, not the first of it.

use std::fmt;

use crate::exit::{ExitCode, ExitError};

/// One thing that is wrong, and where it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The flag, variable or file (with the key) that has to change.
    pub place: String,
    /// What is wrong with it, and what would be right.
    pub message: String,
}

/// Everything that is wrong with a configuration. Never empty when it is an `Err`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Faults(Vec<Fault>);

impl Faults {
    /// No fault yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// One fault.
    pub fn one(place: impl Into<String>, message: impl Into<String>) -> Self {
        let mut faults = Self::new();
        faults.add(place, message);
        faults
    }

    /// Notes a fault.
    pub fn add(&mut self, place: impl Into<String>, message: impl Into<String>) {
        self.0.push(Fault { place: place.into(), message: message.into() });
    }

    /// Takes the value out of a result, or its faults into these.
    pub fn absorb<T>(&mut self, result: Result<T, Faults>) -> Option<T> {
        result.map_err(|faults| self.0.extend(faults.0)).ok()
    }

    /// The value, unless there is a fault.
    pub fn finish<T>(self, value: T) -> Result<T, Faults> {
        if self.0.is_empty() { Ok(value) } else { Err(self) }
    }

    /// Each fault, in the order they were found.
    pub fn iter(&self) -> impl Iterator<Item = &Fault> {
        self.0.iter()
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [fault] => write!(f, "{}: {}", fault.place, fault.message),
            faults => {
                write!(f, "{} settings are wrong", faults.len())?;
                for fault in faults {
                    write!(f, "\n  {}: {}", fault.place, fault.message)?;
                }
                Ok(())
            }
        }
    }
}

impl std::error::Error for Faults {}

impl ExitError for Faults {
    fn exit_code(&self) -> ExitCode {
        ExitCode::Configuration
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_is_printed() {
        let mut faults = Faults::one("--server", "is no address");
        assert_eq!(faults.absorb::<()>(Err(Faults::one("SORTIE_LOG", "is no level"))), None);
        assert_eq!(faults.absorb(Ok(3)), Some(3));
        let text = faults.clone().finish(()).map_err(|f| f.to_string());
        assert_eq!(text, Err("2 settings are wrong\n  --server: is no address\n  SORTIE_LOG: is no level".into()));
        assert_eq!(faults.exit_code(), ExitCode::Configuration);
    }

    #[test]
    fn one_fault_is_one_line_and_none_is_fine() {
        assert_eq!(Faults::one("a", "b").to_string(), "a: b");
        assert_eq!(Faults::new().finish(7), Ok(7));
    }
}
