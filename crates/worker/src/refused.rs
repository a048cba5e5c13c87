//! What the broker refuses to store for this agent, for good: it works, and nothing that it does counts.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

/// The latest refusal of each kind of subject, until one of that kind is stored.
#[derive(Debug, Default)]
pub(crate) struct Refused(Mutex<BTreeMap<String, String>>);

impl Refused {
    /// Takes down what the broker said about this subject.
    pub(crate) fn note(&self, subject: &str, error: &broker::Error) {
        let mut latest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        latest.insert(kind(subject), error.to_string());
    }

    /// What goes to this subject is stored again.
    pub(crate) fn forget(&self, subject: &str) {
        let mut latest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Nearly always there is nothing, and then nothing is written.
        if !latest.is_empty() {
            latest.remove(&kind(subject));
        }
    }

    /// In one sentence; none where everything is stored.
    pub(crate) fn trouble(&self) -> Option<String> {
        let latest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let told: Vec<&str> = latest.values().map(String::as_str).collect();
        (!told.is_empty()).then(|| format!("the broker refuses what it must store: {}", told.join("; ")))
    }
}

/// `fleet.outcome` of `fleet.outcome.<id>`: few, whatever ids there are.
fn kind(subject: &str) -> String {
    subject.split('.').take(2).collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use broker::{Error, Kind};

    use super::*;

    #[test]
    fn it_is_told_until_one_of_its_kind_is_stored() {
        let refused = Refused::default();
        assert_eq!(refused.trouble(), None);
        for id in ["a", "b"] {
            let said = format!("this user may not publish on fleet.outcome.{id}");
            refused.note(&format!("fleet.outcome.{id}"), &Error::new(Kind::Forbidden, said));
        }
        refused.forget("fleet.later.a");
        let told = refused.trouble().unwrap();
        assert!(told.ends_with("must store: this user may not publish on fleet.outcome.b"), "{told}");
        refused.forget("fleet.outcome.c");
        assert_eq!(refused.trouble(), None);
    }
}
