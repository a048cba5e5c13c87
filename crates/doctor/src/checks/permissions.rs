//! What the broker allows to us.

use broker::topology::inspect::{self, UserFacts};
use protocol::{
    Capability, Lane, Namespace, Operator, RequestId, Subject,
    subject::{self, Verb},
    topology::bucket_subject,
};

use super::Found;
use crate::{Patient, finding::Finding};

pub(super) async fn permissions(patient: &Patient) -> Found {
    let user = inspect::user(patient.connection()).await?;
    let name = if user.user.is_empty() { "nobody in particular" } else { &user.user };
    let wanted = needed(patient.namespace(), &patient.names().desired);
    let missing: Vec<&str> =
        wanted.iter().filter(|(subject, _)| !may_publish(&user, subject)).map(|(_, what)| *what).collect();
    if missing.is_empty() {
        return Ok(vec![Finding::ok(format!(
            "we are {name} of account {}, and may do what an operator does",
            user.account
        ))]);
    }
    Ok(vec![
        Finding::warning(format!("we are {name} of account {}, and may not {}", user.account, missing.join(", ")))
            .remedy("give credentials that may, with --creds, --user or SORTIE_CREDS; what each role needs stands in nats-config/dev.conf")
            .command("sortie doctor --creds FILE"),
    ])
}

/// Subjects that an operator publishes on, with what each is for.
fn needed(namespace: &Namespace, desired: &str) -> Vec<(String, &'static str)> {
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
    all
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
