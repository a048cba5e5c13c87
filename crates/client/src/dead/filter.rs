//! Which dead letters are meant.

use broker::StoredMessage;
use protocol::{Capability, Category, CodePattern, DeadLetter, Replay, time::Timestamp};
use regex::Regex;

/// Which dead letters are meant: those of which everything holds that is said here. The default means all.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Of this capability.
    pub capability: Option<Capability>,
    /// Whose failure has such a code.
    pub code: Option<CodePattern>,
    /// Whose failure is of this category.
    pub category: Option<Category>,
    /// Of which an attempt ran in an agent of this version.
    pub version: Option<String>,
    /// Of which an attempt ran in an instance whose id begins so, or which killed it.
    pub agent: Option<String>,
    /// Given up then or later.
    pub since: Option<Timestamp>,
    /// Given up before.
    pub until: Option<Timestamp>,
    /// Of which this is found in the id, the failure, one of the attempts, or a body that lies in the letter itself.
    pub grep: Option<Regex>,
    /// That were sent again, or that were not.
    pub is_replayed: Option<bool>,
}

impl Filter {
    /// Whether it says nothing, and so means all.
    pub fn is_any(&self) -> bool {
        let Self { capability, code, category, version, agent, since, until, grep, is_replayed } = self;
        let has_letters = code.is_some() || category.is_some() || version.is_some() || agent.is_some();
        let has_rest = capability.is_some() || since.is_some() || until.is_some() || grep.is_some();
        !has_letters && !has_rest && is_replayed.is_none()
    }

    pub(super) fn matches(&self, letter: &DeadLetter, replays: &[Replay], message: &StoredMessage) -> bool {
        let failure = &letter.failure;
        self.capability.as_ref().is_none_or(|capability| *capability == letter.capability)
            && self.code.as_ref().is_none_or(|code| code.matches(&failure.code))
            && self.category.is_none_or(|category| category == failure.category)
            && self.since.is_none_or(|since| letter.dead_at >= since)
            && self.until.is_none_or(|until| letter.dead_at < until)
            && self.is_replayed.is_none_or(|is_replayed| is_replayed != replays.is_empty())
            && self.version.as_ref().is_none_or(|version| ran_in_version(letter, version))
            && self.agent.as_ref().is_none_or(|agent| ran_in(letter, agent))
            && self.grep.as_ref().is_none_or(|grep| says(letter, message, grep))
    }
}

fn ran_in_version(letter: &DeadLetter, version: &str) -> bool {
    let attempts = letter.failure.attempts.iter().filter_map(|attempt| attempt.version.as_deref());
    attempts.chain(letter.version.as_deref()).any(|other| other == version)
}

fn ran_in(letter: &DeadLetter, agent: &str) -> bool {
    let attempts = letter.failure.attempts.iter().filter_map(|attempt| attempt.instance.as_ref());
    let all = attempts.chain(&letter.killed).chain(&letter.instance);
    all.into_iter().any(|instance| instance.as_str().starts_with(agent))
}

fn says(letter: &DeadLetter, message: &StoredMessage, grep: &Regex) -> bool {
    let failure = &letter.failure;
    let details = failure.details.as_ref().map(ToString::to_string).unwrap_or_default();
    let attempts = failure.attempts.iter().flat_map(|attempt| [attempt.code.as_str(), attempt.message.as_str()]);
    let texts = [letter.id.as_str(), &failure.code, &failure.message, &details];
    let mut texts = texts.into_iter().chain(failure.causes.iter().map(String::as_str)).chain(attempts);
    texts.any(|text| grep.is_match(text)) || grep.is_match(&String::from_utf8_lossy(&message.body))
}

#[cfg(test)]
mod tests {
    use protocol::{Failure, Headers, InstanceId, Lane, RequestId, time};

    use super::*;

    fn letter() -> DeadLetter {
        let at = time::parse("2030-01-01T00:00:00Z").unwrap();
        let instance = InstanceId::parse("ins_first").unwrap();
        let mut failure = Failure::new("http_503", "the shop is closed").category(Category::ExternalService);
        failure.causes.push("connection refused".to_owned());
        failure.attempts.push(Failure::new("slow", "took long").record(1, Some(instance), Some("1.0"), at));
        DeadLetter {
            id: RequestId::parse("order-17").unwrap(),
            capability: Capability::parse("buy").unwrap(),
            lane: Lane::Normal,
            failure,
            attempt: 2,
            instance: InstanceId::parse("ins_second").ok(),
            version: Some("2.0".to_owned()),
            killed: vec![InstanceId::parse("ins_killed").unwrap()],
            published_at: None,
            dead_at: at,
        }
    }

    fn is_meant(filter: &Filter) -> bool {
        let message = StoredMessage {
            subject: String::new(),
            sequence: 1,
            time: Timestamp::default(),
            headers: Headers::new(),
            is_readable: true,
            body: r#"{"item":"tea"}"#.into(),
        };
        filter.matches(&letter(), &[], &message)
    }

    #[test]
    fn everything_that_is_said_must_hold() {
        let any = Filter::default;
        let at = |text| Some(time::parse(text).unwrap());
        let text = |text: &str| Some(text.to_owned());
        for (filter, meant) in [
            (any(), true),
            (Filter { capability: Capability::parse("buy").ok(), ..any() }, true),
            (Filter { capability: Capability::parse("sell").ok(), ..any() }, false),
            (Filter { code: CodePattern::parse("http_*").ok(), ..any() }, true),
            (Filter { code: CodePattern::parse("slow").ok(), ..any() }, false),
            (Filter { category: Some(Category::ExternalService), ..any() }, true),
            (Filter { category: Some(Category::Timeout), ..any() }, false),
            (Filter { version: text("1.0"), ..any() }, true),
            (Filter { version: text("2.0"), ..any() }, true),
            (Filter { version: text("3.0"), ..any() }, false),
            (Filter { agent: text("ins_first"), ..any() }, true),
            (Filter { agent: text("ins_sec"), ..any() }, true),
            (Filter { agent: text("ins_killed"), ..any() }, true),
            (Filter { agent: text("first"), ..any() }, false),
            (Filter { since: at("2030-01-01T00:00:00Z"), ..any() }, true),
            (Filter { since: at("2030-01-01T00:00:01Z"), ..any() }, false),
            (Filter { until: at("2030-01-01T00:00:00Z"), ..any() }, false),
            (Filter { until: at("2030-01-01T00:00:01Z"), ..any() }, true),
            (Filter { is_replayed: Some(false), ..any() }, true),
            (Filter { is_replayed: Some(true), ..any() }, false),
            (Filter { code: CodePattern::parse("http_*").ok(), version: text("3.0"), ..any() }, false),
        ] {
            assert_eq!(is_meant(&filter), meant, "{filter:?}");
        }
        assert!(any().is_any() && !Filter { is_replayed: Some(true), ..any() }.is_any());
    }

    #[test]
    fn grep_looks_where_a_person_would() {
        for (pattern, found) in [
            ("closed", true),
            ("refused$", true),
            ("took", true),
            ("^order-1", true),
            (r#""item":"tea""#, true),
            ("coffee", false),
        ] {
            let filter = Filter { grep: Regex::new(pattern).ok(), ..Filter::default() };
            assert_eq!(is_meant(&filter), found, "{pattern}");
        }
    }
}
