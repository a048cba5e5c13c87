//! What the broker allows to us.

use broker::{
    Kind,
    topology::inspect::{self, UserFacts},
};
use protocol::{
    Capability, Lane, Namespace, Operator, RequestId, Subject,
    subject::{self, Verb},
    topology::bucket_subject,
};

use super::Found;
use crate::{
    Patient,
    finding::{CREDENTIALS, Finding},
};

pub(super) async fn permissions(patient: &Patient) -> Found {
    match inspect::user(patient.connection()).await {
        Ok(user) => Ok(vec![judged(&user, patient)]),
        Err(error) if error.kind() == Kind::Forbidden => Ok(vec![tried(patient).await]),
        Err(error) => Err(error.into()),
    }
}

/// By what the server says that this user may.
fn judged(user: &UserFacts, patient: &Patient) -> Finding {
    let name = if user.user.is_empty() { "nobody in particular" } else { &user.user };
    let wanted = needed(patient.namespace(), &patient.names().desired);
    let missing: Vec<_> = wanted.iter().filter(|need| !may_publish(user, &need.subject)).collect();
    if missing.is_empty() {
        return Finding::ok(format!("we are {name} of account {}, and may do what an operator does", user.account));
    }
    let named: Vec<&str> = missing.iter().map(|need| need.what).collect();
    let seen = format!("we are {name} of account {}, and may not {}", user.account, named.join(", "));
    let is_blind = missing.iter().any(|need| need.is_look);
    advised(if is_blind { Finding::error(seen + BLIND) } else { Finding::warning(seen) })
}

/// By what is refused, where the server does not even say who this user is.
async fn tried(patient: &Patient) -> Finding {
    let is_forbidden = |error: &broker::Error| error.kind() == Kind::Forbidden;
    let streams = patient.all_streams().await.values().any(|facts| facts.as_ref().is_err_and(is_forbidden));
    let queues = patient.queues().await.is_err_and(|unknown| unknown.is_forbidden);
    let stored = patient.agents().await.is_err_and(|unknown| unknown.is_forbidden);
    let looks = [(streams, "look at streams"), (queues, "look at consumers"), (stored, "read what is stored")];
    let refused: Vec<&str> = looks.into_iter().filter(|(is_refused, _)| *is_refused).map(|(_, what)| what).collect();
    if refused.is_empty() {
        return Finding::unknown("this user may not ask what it may ($SYS.REQ.USER.INFO)");
    }
    advised(Finding::error(format!("this user may not {}{BLIND}", refused.join(", "))))
}

/// What follows where not even looking is allowed.
const BLIND: &str = ": little could be examined";

fn advised(finding: Finding) -> Finding {
    finding
        .remedy(format!("be somebody who may, {CREDENTIALS}; what each role needs stands in nats-config/dev.conf"))
        .command("sortie doctor --user NAME")
}

/// A subject that an operator publishes on.
struct Need {
    subject: String,
    /// What it is for.
    what: &'static str,
    /// Whether nothing can be seen without it.
    is_look: bool,
}

/// All of them, by examples.
fn needed(namespace: &Namespace, desired: &str) -> Vec<Need> {
    let sample = |name: &str| Capability::parse(name).ok();
    let mut all = vec![
        ("$JS.API.STREAM.INFO.X".to_owned(), "look at streams"),
        ("$JS.API.CONSUMER.LIST.X".to_owned(), "look at consumers"),
        ("$JS.API.DIRECT.GET.X".to_owned(), "read what is stored"),
        ("$JS.API.STREAM.UPDATE.X".to_owned(), "mend streams"),
        (bucket_subject(desired, "x"), "pause and limit queues"),
        (Subject::Control { instance: None, verb: Verb::Cancel }.render(namespace), "speak to agents"),
        (subject::audit(namespace, &Operator::nearest("x"), "x"), "record what is done"),
    ];
    if let Some(capability) = sample("x") {
        all.push((Subject::Request { lane: Lane::Normal, capability }.render(namespace), "submit requests"));
    }
    if let Ok(id) = RequestId::parse("x") {
        all.push((Subject::Outcome(id).render(namespace), "cancel requests"));
    }
    let is_look = |what: &str| ["look at streams", "look at consumers", "read what is stored"].contains(&what);
    all.into_iter().map(|(subject, what)| Need { subject, what, is_look: is_look(what) }).collect()
}

fn may_publish(user: &UserFacts, subject: &str) -> bool {
    let is_in = |list: &[String]| list.iter().any(|pattern| covers(pattern, subject));
    user.publish_allowed.as_deref().is_none_or(is_in) && !is_in(&user.publish_denied)
}

/// Whether a subject with wildcards covers one without.
fn covers(pattern: &str, subject: &str) -> bool {
    let mut tokens = subject.split('.');
    for part in pattern.split('.') {
        match (part, tokens.next()) {
            (">", Some(_)) => return true,
            ("*", Some(_)) => {}
            (part, Some(token)) if part == token => {}
            _ => return false,
        }
    }
    tokens.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allowed_is_what_a_list_covers_and_none_denies() {
        let user = |allowed: Option<&[&str]>, denied: &[&str]| UserFacts {
            publish_allowed: allowed.map(|list| list.iter().map(|text| (*text).to_owned()).collect()),
            publish_denied: denied.iter().map(|text| (*text).to_owned()).collect(),
            ..UserFacts::default()
        };
        let subject = "$JS.API.STREAM.INFO.X";
        for (allowed, denied, may) in [
            (None, &[][..], true),
            (None, &["$JS.API.>"], false),
            (Some(&["$JS.API.STREAM.INFO.*"][..]), &[], true),
            (Some(&["$JS.API.STREAM.INFO"]), &[], false),
            (Some(&["$JS.API.*.INFO.X", "fleet.>"]), &["fleet.>"], true),
            (Some(&["fleet.>"]), &[], false),
        ] {
            assert_eq!(may_publish(&user(allowed, denied), subject), may, "{allowed:?} {denied:?}");
        }
    }
}
