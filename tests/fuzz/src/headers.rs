//! Messages as other programs publish them: requests, starts, outcomes, dead letters.

use chrono::SubsecRound;
use protocol::{
    Capability, DeadLetter, Headers, Lane, Outcome, Request, RequestId, TraceContext, cron::CronTie, dead_letter,
    event, header, replay, run::Start, trigger,
};

use crate::message::Message;

/// Feeds a message: what is read of it is written in a way that reads as the same, and can be stored.
pub fn headers(data: &[u8]) {
    let message = Message::read(data);
    for fallback in [RequestId::of_sequence(7), RequestId::of_unique_sequence(7)] {
        request(&message, &fallback);
    }
    start(&message, &RequestId::of_sequence(7));
    outcome(&message);
    letter(&message);
    let headers = &message.headers;
    if let Some(tie) = CronTie::read(headers) {
        assert_eq!(tie.to_string().parse(), Ok(tie));
    }
    trigger::identity(headers, 7);
    replay::times_replayed(&RequestId::of_sequence(7), headers);
    assert!(headers.foreign().size() <= headers.handed_on().size());
    event::headers("1", "/fuzz", &message.subject, chrono::DateTime::UNIX_EPOCH);
}

/// What a schedule adds when it fires, so that an id by sequence is taken for what the fleet gave.
fn fired() -> Headers {
    let mut headers = Headers::new();
    headers.push(header::NATS_SCHEDULER, "fleet.later.seq-7");
    headers
}

fn request(message: &Message<'_>, fallback: &RequestId) {
    let Ok(mut read) = Request::read(&message.headers, fallback.clone()) else { return };
    let mut retry = message.headers.handed_on();
    read.write(&mut retry);
    assert_eq!(retry.check(), Ok(()), "what could be read can be sent again");
    let mut written = fired();
    read.write(&mut written);
    // A moment is written to the millisecond.
    read.deadline = read.deadline.map(|moment| moment.trunc_subsecs(3));
    assert_eq!(Request::read(&written, fallback.clone()), Ok(read.clone()));
    for lane in Lane::ALL {
        let capability = Capability::parse("echo").expect("a capability");
        if let Ok(start) = Start::of_request(read.clone(), capability, lane) {
            assert!(start.reply_to.is_none() || start.run.as_str().starts_with("sub-"));
        }
    }
}

fn start(message: &Message<'_>, fallback: &RequestId) {
    let Ok(mut read) = Start::read(&message.headers, fallback.clone()) else { return };
    let mut written = fired();
    read.write(&mut written);
    read.request.deadline = read.request.deadline.map(|moment| moment.trunc_subsecs(3));
    assert_eq!(Start::read(&written, fallback.clone()), Ok(read));
}

fn outcome(message: &Message<'_>) {
    let id = RequestId::of_sequence(7);
    let mut read = Outcome::read(id.clone(), &message.headers, message.body);
    let headers = read.headers();
    if TraceContext::read(&headers) != read.trace {
        read.trace = TraceContext::default();
    }
    assert_eq!(Outcome::read(id, &headers, message.body), read);
    let _ = read.result::<serde_json::Value>();
    let document = read.document();
    assert!(document.is_object());
    if let Some(failure) = read.failure() {
        let again = Outcome::not_completed(read.id.clone(), read.status, &failure);
        assert_eq!(again.failure(), Some(failure));
    }
}

fn letter(message: &Message<'_>) {
    let Some(letter) = DeadLetter::read(&message.headers) else { return };
    let stored = letter.headers(&message.headers);
    assert_eq!(stored.check(), Ok(()), "a letter can be stored");
    assert!(stored.get(dead_letter::STORY).is_some_and(|story| story.len() <= 8 * 1024));
    let read = DeadLetter::read(&stored).expect("a story is read");
    assert_eq!((&read.id, &read.capability), (&letter.id, &letter.capability));
    assert!(!letter.summary().is_empty());
    letter.sent_again_to(&stored);
    let id = RequestId::parse("again-1").expect("an id");
    let again = letter.headers_again(&stored, id.clone());
    let read = Request::read(&again, RequestId::of_sequence(8));
    assert_eq!(read.map(|request| request.id), Ok(id), "a request that is sent again is not refused for its headers");
}
