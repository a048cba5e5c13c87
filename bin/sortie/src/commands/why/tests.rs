use protocol::{BreakerName, InstanceId, Kind, Lane, Operator, topology::Source};

use client::SentAgain;

use super::*;

fn at(second: u32) -> Timestamp {
    time::parse(&format!("2030-01-01T00:00:{second:02}Z")).unwrap()
}

#[test]
fn every_answer_is_a_sentence_with_what_helps_next() {
    let text = |text: &str| Some(text.to_owned());
    let scheduled = |after, put_off_for, due| Answer::Scheduled { due: Some(at(due)), attempt: 2, after, put_off_for };
    let pause = |by: Option<&str>, until| Answer::Paused {
        by: by.map(Operator::nearest),
        reason: text("disk\nfull"),
        since: Some(at(0)),
        until,
    };
    let breaker = |state, until| {
        let name = BreakerName::parse("bank").unwrap();
        Answer::BreakerOpen { name, state, until, after: text("bank_down") }
    };
    let dead = |code: &str, again: Option<Option<Status>>| {
        let id = RequestId::parse("order-18").unwrap();
        let sent_again = again.map(|status| SentAgain { id, at: at(5), status });
        Answer::Dead { code: code.to_owned(), message: "page 7 of 3".to_owned(), attempt: 3, sent_again }
    };
    let silent = |pids: &[u32]| {
        let agent = |pid: &u32| SilentAgent {
            instance: InstanceId::parse(&format!("ins_{pid}")).unwrap(),
            kind: Kind::parse("resizer").unwrap(),
            host: "box".to_owned(),
            pid: *pid,
        };
        Answer::Taken { silent: pids.iter().map(agent).collect() }
    };
    let answers = [
        Answer::Completed,
        Answer::Failed { code: "no_such_page".to_owned(), message: "page 7 of 3".to_owned() },
        dead("no_such_page", None),
        dead("poison", None),
        dead("poison", Some(None)),
        dead("poison", Some(Some(Status::Completed))),
        Answer::Cancelled,
        Answer::Expired,
        scheduled(None, None, 30),
        scheduled(None, None, 50),
        scheduled(text("bank_busy"), None, 30),
        scheduled(text("bank_busy"), None, 50),
        scheduled(None, text("circuit_open"), 50),
        Answer::RateLimited { due: Some(at(50)) },
        Answer::Running {
            instance: InstanceId::parse("ins_1").unwrap(),
            kind: Kind::parse("resizer").unwrap(),
            host: "box".to_owned(),
            attempt: 1,
            since: at(3),
        },
        Answer::Retrying { attempt: 2, after: text("bank_busy"), put_off_for: None },
        silent(&[]),
        silent(&[7]),
        silent(&[7, 8]),
        Answer::GivenUp,
        pause(Some("ann"), None),
        pause(None, Some(at(40))),
        breaker(State::Open, Some(at(30))),
        breaker(State::HalfOpen, None),
        Answer::Unserved { was_delivered: false },
        Answer::Unserved { was_delivered: true },
        Answer::AgentsPaused,
        Answer::AllBusy { agents: 0, slots: 0 },
        Answer::LimitReached { max: 3, running: 3 },
        Answer::AllBusy { agents: 2, slots: 8 },
        Answer::AllBusy { agents: 1, slots: 1 },
        Answer::Behind { others: 1 },
        Answer::Behind { others: 412 },
        Answer::Next,
        Answer::Forgotten,
        Answer::NotFound { looked_at: 12, was_all: true },
        Answer::NotFound { looked_at: 30_000, was_all: false },
    ];
    let told = answers.map(|answer| {
        let why = Why {
            id: RequestId::parse("order-17").unwrap(),
            capability: Some(Capability::parse("resize").unwrap()),
            lane: Some(Source::Lane(Lane::Normal)),
            besides: match answer {
                Answer::Paused { .. } => vec![Answer::Unserved { was_delivered: false }],
                Answer::Running { .. } => vec![Answer::Suspected { deaths: 2, set_aside_at: 3 }],
                _ => Vec::new(),
            },
            answer,
        };
        human(&why, at(45))
    });
    insta::assert_snapshot!(told.join("\n"));
}
