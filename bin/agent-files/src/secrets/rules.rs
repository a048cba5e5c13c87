//! What a secret looks like in a line of text. Forms that their makers published, and words that somebody gave a value.

use std::sync::LazyLock;

use regex::RegexSet;

/// The more certain ones first: a line is told once.
const RULES: [(&str, &str); 9] = [
    ("private key", r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY"),
    ("AWS access key", r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
    ("GitHub token", r"\b(?:gh[pousr]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9_]{60})"),
    ("Slack token", r"\bxox[abprs]-[A-Za-z0-9-]{20}"),
    ("Google API key", r"\bAIza[0-9A-Za-z_-]{35}\b"),
    ("Stripe key", r"\b[rs]k_live_[0-9A-Za-z]{20}"),
    ("NATS seed", r"\bS[UAOCNX][A-Z2-7]{56}\b"),
    ("URL with a password", r"\b[a-z][a-z0-9+]{1,11}://[^\s/:@]+:[^\s/:@${}<>]{6,}@"),
    ("password", r#"(?i)\b[a-z_]*(?:password|passwd|secret|api_?key)["']?\s*[:=]\s*["'][^"'\s${}<>]{8,}["']"#),
];

static ALL: LazyLock<Option<RegexSet>> = LazyLock::new(|| RegexSet::new(RULES.map(|(_, rule)| rule)).ok());

/// What the line looks like, if it looks like it has a secret in it.
pub(super) fn looks_like(line: &str) -> Option<&'static str> {
    let first = ALL.as_ref()?.matches(line).iter().next()?;
    Some(RULES[first].0)
}

/// Whether every rule is one; a test asks, because [`looks_like`] cannot say.
#[cfg(test)]
fn faulty() -> Vec<&'static str> {
    RULES.iter().filter(|(_, rule)| regex::Regex::new(rule).is_err()).map(|(name, _)| *name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_is_one() {
        assert_eq!(faulty(), Vec::<&str>::new());
    }

    #[test]
    fn what_looks_like_a_secret() {
        let (a, z) = ("a".repeat(60), "Z".repeat(60));
        for (line, expected) in [
            ("-----BEGIN PRIVATE KEY-----".to_owned(), Some("private key")),
            ("-----BEGIN PUBLIC KEY-----".to_owned(), None),
            ("key = AKIAIOSFODNN7EXAMPLE".to_owned(), Some("AWS access key")),
            ("AKIAIOSFODNN7EXAMPLEXX".to_owned(), None),
            (format!("ghp_{}", &a[..36]), Some("GitHub token")),
            (format!("ghp_{}", &a[..10]), None),
            (format!("github_pat_{a}"), Some("GitHub token")),
            (format!("xoxb-{}", &a[..20]), Some("Slack token")),
            (format!("AIza{}", &a[..35]), Some("Google API key")),
            (format!("sk_live_{}", &a[..20]), Some("Stripe key")),
            (format!("sk_test_{}", &a[..20]), None),
            (format!("SU{}", &z[..56]), Some("NATS seed")),
            ("postgres://ann:hunter22@db/x".to_owned(), Some("URL with a password")),
            ("postgres://ann:${PASSWORD}@db/x".to_owned(), None),
            ("https://example.com:8080/@x".to_owned(), None),
            (r#"db_password: "correct-horse""#.to_owned(), Some("password")),
            (r#"password = """#.to_owned(), None),
            (r#"password: "${DB_PASSWORD}""#.to_owned(), None),
            ("the password is known to ann".to_owned(), None),
        ] {
            assert_eq!(looks_like(&line), expected, "{line}");
        }
    }
}
