//! What is kept in streams and buckets as JSON, where others write too.

use protocol::{
    AttemptRecord, DeadLetter, Failure, InstanceId, Kind, Replay, RunSummary,
    accepted::Accepted,
    audit::AuditRecord,
    breaker::Breaker,
    cron::CronSkipped,
    desired::{QueueWish, Steered},
    log_line::LogLine,
    mark::{Mark, UniqueTries},
    registry::AgentEntry,
    run::{LoggedFact, RunHolders},
    time::Timestamp,
};

use crate::reads_back;

/// Feeds a document to everything that is read from streams and buckets.
pub fn documents(data: &[u8]) {
    reads_back::<AttemptRecord>(data);
    reads_back::<DeadLetter>(data);
    reads_back::<Failure>(data);
    reads_back::<Replay>(data);
    reads_back::<RunSummary>(data);
    reads_back::<AuditRecord>(data);
    reads_back::<Breaker>(data);
    reads_back::<CronSkipped>(data);
    reads_back::<QueueWish>(data);
    reads_back::<Steered>(data);
    reads_back::<LogLine>(data);
    reads_back::<Mark>(data);
    reads_back::<UniqueTries>(data);
    reads_back::<AgentEntry>(data);
    reads_back::<RunHolders>(data);
    if let Ok(fact) = serde_json::from_slice::<LoggedFact>(data) {
        logged(&fact);
    }
    for line in data.split(|byte| *byte == b'\n').take(20) {
        if let Ok(accepted) = Accepted::read(line) {
            assert_eq!(Accepted::read(accepted.line().as_bytes()), Ok(accepted));
        }
    }
    if let Ok(entry) = serde_json::from_slice::<AgentEntry>(data) {
        assert!(entry.load() >= 0.0, "{}", entry.load());
    }
    let (kind, instance) = (Kind::parse("k").expect("a kind"), InstanceId::parse("i").expect("an instance"));
    let line = LogLine::read(Timestamp::UNIX_EPOCH, kind, instance, data).bounded();
    assert!(serde_json::to_vec(&line).is_ok());
}

fn logged(fact: &LoggedFact) {
    let body = fact.bytes();
    let again = LoggedFact::new(fact.sequence, fact.at, fact.name.clone(), &fact.headers(), &body);
    assert_eq!((again.bytes(), again.headers()), (body, fact.headers()));
}
