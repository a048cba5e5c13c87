//! What a refusal of the broker is to whoever started the process.

use broker::{Error, Kind};

use super::{ExitCode, ExitError};

/// What to do where the broker does not know us, or does not allow it to us.
pub const CREDENTIALS_ADVICE: &str = "say who you are with --user NAME and SORTIE_PASSWORD, --creds FILE (SORTIE_CREDS), \
                                      --nkey FILE, SORTIE_TOKEN or --context NAME; or have that one allowed to do it";

/// What to do where the broker's store is full.
pub const STORE_FULL_ADVICE: &str =
    "make room first: `sortie doctor` says what takes it, and what gives some back; then try again";

impl ExitError for Error {
    fn exit_code(&self) -> ExitCode {
        match self.kind() {
            Kind::Unreachable | Kind::TimedOut | Kind::NoResponders => ExitCode::BrokerUnreachable,
            Kind::Forbidden => ExitCode::Refused,
            Kind::Invalid => ExitCode::Configuration,
            Kind::Fenced => ExitCode::Internal,
            Kind::Contended | Kind::StoreFull => ExitCode::Again,
            Kind::NotFound | Kind::WrongSequence | Kind::SubjectFull | Kind::Exists | Kind::TooLarge => {
                ExitCode::WorkFailed
            }
            Kind::Api(_) => ExitCode::Internal,
        }
    }

    fn advice(&self) -> Option<String> {
        let advice = match self.kind() {
            Kind::Unreachable => "start one with `sortie up`, or say where it is with --server or SORTIE_SERVER",
            Kind::TimedOut => "see whether the broker has a leader and its disk has room, then try again",
            Kind::NoResponders => "see whether JetStream is on, and what `sortie topology plan` would add",
            Kind::Forbidden => CREDENTIALS_ADVICE,
            Kind::StoreFull => STORE_FULL_ADVICE,
            _ => return None,
        };
        Some(advice.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_can_tell_refusals_apart() {
        for (kind, number) in [
            (Kind::Unreachable, 69),
            (Kind::Forbidden, 77),
            (Kind::Invalid, 64),
            (Kind::StoreFull, 75),
            (Kind::NotFound, 1),
            (Kind::Api(10_003), 70),
        ] {
            assert_eq!(Error::new(kind, "no").exit_code().number(), number, "{kind:?}");
        }
    }

    #[test]
    fn an_unreachable_broker_comes_with_advice() {
        let problem = crate::Problem::from(Error::new(Kind::Unreachable, "nobody answers at nats://127.0.0.1:4222"));
        let text = problem.to_string();
        assert!(text.starts_with("nobody answers at nats://127.0.0.1:4222\n") && text.contains("sortie up"), "{text}");
    }
}
