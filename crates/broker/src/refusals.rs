//! What the broker does not allow to this user. It tells that apart from the request that it is about, which is then met with
//! silence: what is told here is what ends the wait.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
    time::Instant,
};

use crate::error::{Error, Kind};

/// Refusals that are remembered: whoever they are about looks within moments.
const REMEMBERED_MAX: usize = 256;

/// What a refusal is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Publish,
    Subscription,
}

#[derive(Debug)]
struct Refusal {
    at: Instant,
    what: What,
    subject: String,
}

/// The latest refusals of one connection.
#[derive(Debug)]
pub(crate) struct Refusals {
    inbox_prefix: String,
    latest: Mutex<VecDeque<Refusal>>,
}

impl Refusals {
    /// None yet. Answers arrive below this prefix.
    pub(crate) fn new(inbox_prefix: Option<&str>) -> Self {
        Self { inbox_prefix: format!("{}.", inbox_prefix.unwrap_or("_INBOX")), latest: Mutex::default() }
    }

    /// Takes down what the broker said; says whether it was about a permission, and whether somebody is told of it: who
    /// publishes and waits for an answer.
    pub(crate) fn note(&self, text: &str) -> Option<bool> {
        let (what, subject) = parse(text)?;
        let is_told = what == What::Publish || subject.starts_with(&self.inbox_prefix);
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        if latest.len() == REMEMBERED_MAX {
            latest.pop_front();
        }
        latest.push_back(Refusal { at: Instant::now(), what, subject: subject.to_owned() });
        Some(is_told)
    }

    /// Another connection may be allowed more.
    pub(crate) fn forget(&self) {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Why a request on this subject, made then, will have no answer.
    pub(crate) fn of_request(&self, subject: &str, since: Instant) -> Option<Error> {
        self.find(|refusal| match refusal.what {
            What::Publish => refusal.at >= since && refusal.subject == subject,
            // All requests share one subscription, made with the first of them.
            What::Subscription => refusal.subject.starts_with(&self.inbox_prefix) && refusal.subject.ends_with(".*"),
        })
    }

    /// Why what was asked on this subject, with the answers to go to this inbox, will have none.
    pub(crate) fn of_asking(&self, subject: &str, inbox: &str, since: Instant) -> Option<Error> {
        self.find(|refusal| match refusal.what {
            What::Publish => refusal.at >= since && refusal.subject == subject,
            What::Subscription => refusal.subject == inbox,
        })
    }

    fn find(&self, is_it: impl Fn(&Refusal) -> bool) -> Option<Error> {
        let latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        let refusal = latest.iter().rev().find(|refusal| is_it(refusal))?;
        let message = match refusal.what {
            What::Publish => format!("this user may not publish on {}", refusal.subject),
            What::Subscription => format!(
                "this user may not listen on {}, where answers arrive; allow it, or name what it may with --inbox-prefix",
                refusal.subject
            ),
        };
        Some(Error::new(Kind::Forbidden, message))
    }
}

/// Reads `Permissions Violation for Publish to "fleet.request.echo"`.
fn parse(text: &str) -> Option<(What, &str)> {
    let lower = text.to_ascii_lowercase();
    let what = match lower.find("permissions violation for ").map(|at| &lower[at..]) {
        Some(rest) if rest.contains("for publish") => What::Publish,
        Some(rest) if rest.contains("for subscription") => What::Subscription,
        _ => return None,
    };
    Some((what, text.split('"').nth(1).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_ends_the_request_that_it_is_about_and_no_other() {
        let refusals = Refusals::new(None);
        let before = Instant::now();
        assert_eq!(refusals.note("nats: slow consumer"), None);
        assert_eq!(refusals.note(r#"nats: Permissions Violation for Publish to "$JS.API.INFO""#), Some(true));
        assert_eq!(refusals.note(r#"Permissions Violation for Subscription to "foo" using queue "q""#), Some(false));
        let error = refusals.of_request("$JS.API.INFO", before).unwrap();
        assert_eq!(error.kind(), Kind::Forbidden);
        assert!(error.to_string().ends_with("publish on $JS.API.INFO"), "{error}");
        assert_eq!(refusals.of_request("$JS.API.STREAM.INFO.X", before), None);
        assert_eq!(refusals.of_request("$JS.API.INFO", Instant::now()), None, "that was before");
        refusals.note(r#"nats: Permissions Violation for Subscription to "_INBOX.abc.*""#);
        assert!(refusals.of_request("$JS.API.STREAM.INFO.X", Instant::now()).is_some(), "no answer arrives at all");
        assert_eq!(refusals.of_asking("$JS.API.STREAM.INFO.X", "_INBOX.def", before), None);
        refusals.forget();
        assert_eq!(refusals.of_request("$JS.API.INFO", before), None);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let refusals = Refusals::new(Some("_MINE"));
        for number in 0..1_000 {
            refusals.note(&format!("Permissions Violation for Publish to \"s.{number}\""));
        }
        assert_eq!(refusals.latest.lock().unwrap().len(), REMEMBERED_MAX);
        assert_eq!(refusals.note(r#"Permissions Violation for Subscription to "_MINE.a""#), Some(true));
    }
}
