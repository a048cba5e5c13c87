//! Logs of runs, with whatever anybody may have published into them.

use chrono::{DateTime, TimeDelta, Utc};
use protocol::RunId;
use workflow::{Command, Fact, Folded, State, Why};

use crate::message::Message;

/// Feeds the messages of a run's log: every one of them is folded, what is to be done has an end and is the same whoever
/// folds, and nothing happens after the end.
pub fn log(data: &[u8]) {
    let messages = Message::all(data);
    let facts: Vec<Fact> = (1_u64..).zip(&messages).map(|(sequence, message)| fact(sequence, message)).collect();
    let run = RunId::parse("run-1").expect("a run's id");
    let mut state = State::new(run.clone());
    for fact in &facts {
        let was_ended = state.ending().cloned();
        let before = state.commands_since(0);
        let folded = state.fold(fact);
        assert_eq!(state.last_sequence(), fact.sequence);
        if was_ended.is_some() {
            assert_eq!(state.ending(), was_ended.as_ref(), "an end is the end");
        }
        if let Folded::Nothing(_) = folded {
            assert_eq!(state.commands_since(0), before, "what changes nothing asks for nothing");
        }
        assert_eq!(state.fold(fact), Folded::Nothing(Why::Folded));
    }
    let mut again = State::new(run);
    for fact in &facts {
        again.fold(fact);
    }
    assert_eq!(shown(&again), shown(&state), "the same log is the same state");
    for since in [0, facts.len() as u64 / 2, facts.len() as u64] {
        let after: Vec<Command> = state.commands_since(0).into_iter().filter(|command| command.cause > since).collect();
        assert_eq!(state.commands_since(since), after);
    }
}

fn fact(sequence: u64, message: &Message<'_>) -> Fact {
    let seconds = i64::try_from(sequence).unwrap_or_default();
    let at: DateTime<Utc> = DateTime::UNIX_EPOCH + TimeDelta::seconds(1_800_000_000 + seconds);
    Fact::read(&message.subject, sequence, at, &message.headers, message.body)
}

fn shown(state: &State) -> String {
    format!("{:?} {:?}", state.view(), state.commands_since(0))
}
