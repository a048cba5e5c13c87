use broker::{Outgoing, Publisher};
use protocol::{Capability, Headers, Kind, Operator, RedriveRule, RequestId, Subject, header, replay};
use serde_json::json;
use sortie_client::{
    ErrorKind,
    dead::{Again, Archived, ArchivedBody, Filter, GroupBy, How, Imported, Pace},
};

use crate::fleet::{Fleet, echo, id};

async fn letter(fleet: &Fleet, name: &str, body: &[u8]) -> RequestId {
    fleet.give_up(&id(name), &Headers::new(), body).await;
    id(name)
}

async fn queued(fleet: &Fleet) -> u64 {
    fleet.count("FLEET_REQUESTS").await
}

fn once_more() -> Again {
    Again { repeated: true, ..Again::default() }
}

#[tokio::test]
async fn a_replay_is_marked_and_not_done_twice_by_accident() {
    let fleet = Fleet::start().await;
    let dead = letter(&fleet, "order-1", b"1").await;
    let by = Again { by: Some(Operator::nearest("me")), ..Again::default() };
    let first = fleet.client.replay(&dead, &by).await.unwrap();
    assert_eq!((first.how, &first.replay.request), (How::Sent, &replay::replay_id(&dead, 1, None)));
    let second = fleet.client.replay(&dead, &Again::default()).await.unwrap();
    assert_eq!((second.how, &second.replay), (How::Before, &first.replay));
    assert_eq!(queued(&fleet).await, 1);
    let third = fleet.client.replay(&dead, &once_more()).await.unwrap();
    assert_eq!((third.how, third.replay.request), (How::Sent, replay::replay_id(&dead, 2, None)));
    let listed = fleet.client.dead_list(&Filter::default(), 10).await.unwrap();
    assert_eq!(listed[0].replays.iter().map(|replay| replay.by.is_some()).collect::<Vec<_>>(), [true, false]);
    assert_eq!(queued(&fleet).await, 2);
}

/// What a crash leaves between the publish and the mark, found at once, when the broker has forgotten the message's id, and
/// when the replay is done.
#[tokio::test]
async fn a_replay_that_was_broken_off_before_its_mark_is_the_same_request() {
    let fleet = Fleet::start().await;
    let dead = letter(&fleet, "order-1", b"1").await;
    let first = fleet.client.replay(&dead, &Again::default()).await.unwrap().replay.request;
    let lose_mark = async || {
        let marks = "fleet.replayed.*.*.*";
        assert_eq!(broker::topology::purge(fleet.connection(), "FLEET_DEAD", marks, None).await.unwrap(), 1);
    };
    lose_mark().await;
    let again = fleet.client.replay(&dead, &Again::default()).await.unwrap();
    assert_eq!((again.how, &again.replay.request, queued(&fleet).await), (How::Finished, &first, 1));
    lose_mark().await;
    fleet.complete(&first, &json!(1)).await;
    broker::topology::purge(fleet.connection(), "FLEET_REQUESTS", "fleet.urgent.echo", None).await.unwrap();
    let again = fleet.client.replay(&dead, &Again::default()).await.unwrap();
    assert_eq!((again.how, &again.replay.request, queued(&fleet).await), (How::Finished, &first, 0));
    assert_eq!(fleet.client.replay(&dead, &Again::default()).await.unwrap().how, How::Before);
}

#[tokio::test]
async fn another_body_is_another_request_and_keeps_the_letter() {
    let fleet = Fleet::start().await;
    let dead = letter(&fleet, "order-1", b"1").await;
    let with = |body: &str| Again { body: Some(body.to_owned().into()), ..once_more() };
    let mended = fleet.client.replay(&dead, &with("2")).await.unwrap();
    let message = fleet.last("FLEET_REQUESTS", "fleet.urgent.echo").await.unwrap();
    assert!(mended.replay.edited && message.body == "2" && mended.how == How::Sent);
    assert_eq!(message.headers.get(header::REPLAY_OF), Some("order-1"));
    let large = "x".repeat(600 * 1024);
    fleet.client.replay(&dead, &with(&large)).await.unwrap();
    let message = fleet.last("FLEET_REQUESTS", "fleet.urgent.echo").await.unwrap();
    assert!(message.body.is_empty() && message.headers.get(header::PAYLOAD_REF).is_some());
    assert_eq!(fleet.client.dead_letter(&dead).await.unwrap().unwrap().body, "1");
}

#[tokio::test]
async fn the_story_is_told_without_its_body_and_with_what_followed() {
    let fleet = Fleet::start().await;
    let mut original = Headers::new();
    original.set(header::PAYLOAD_REF, "body-that-is-gone");
    original.set(header::REPLAY_OF, "older");
    fleet.give_up(&id("order-1"), &original, b"").await;
    let story = fleet.client.dead_story(&id("order-1")).await.unwrap().unwrap();
    assert!(story.stored.body_fault.unwrap().contains("body-that-is-gone"));
    assert_eq!((story.replay_of, story.followed.len()), (Some(id("older")), 0));
    assert!(fleet.client.dead_letter(&id("order-1")).await.unwrap().unwrap().body_fault.is_some());

    let dead = letter(&fleet, "order-2", b"1").await;
    let first = fleet.client.replay(&dead, &Again::default()).await.unwrap().replay.request;
    fleet.fail(&first, "no_paint").await;
    fleet.give_up(&first, &Headers::new(), b"1").await;
    let second = fleet.client.replay(&first, &Again::default()).await.unwrap().replay.request;
    let story = fleet.client.dead_story(&dead).await.unwrap().unwrap();
    let told: Vec<_> = story
        .followed
        .iter()
        .map(|followed| {
            let failure = followed.outcome.as_ref().and_then(|outcome| outcome.failure());
            (followed.replay.request.clone(), failure.map(|failure| failure.code))
        })
        .collect();
    assert_eq!(told, [(first, Some("no_paint".to_owned())), (second, None)]);
    assert!(fleet.client.dead_story(&id("nobody")).await.unwrap().is_none());
}

#[tokio::test]
async fn letters_are_found_by_whether_they_were_sent_again_and_counted() {
    let fleet = Fleet::start().await;
    for number in 0..300 {
        letter(&fleet, &format!("order-{number}"), b"1").await;
    }
    for number in [3, 7] {
        fleet.client.replay(&id(&format!("order-{number}")), &Again::default()).await.unwrap();
    }
    // One that says nothing but its subject: whoever replays with the `nats` command may write no more.
    let bare = Subject::Replayed { capability: echo(), id: id("order-9"), request: id("mine") };
    let bare = Outgoing::new(bare.render(fleet.client.namespace()), "");
    Publisher::new(fleet.connection()).publish(&bare).await.unwrap();
    let of = |is_replayed| Filter { is_replayed: Some(is_replayed), capability: Some(echo()), ..Filter::default() };
    let ids = fleet.client.dead_ids(&of(true), 10).await.unwrap();
    assert_eq!(ids, ["order-3", "order-7", "order-9"].map(id));
    assert_eq!(fleet.client.dead_ids(&of(false), 1_000).await.unwrap().len(), 297);
    assert_eq!(fleet.client.dead_ids(&Filter::default(), 2).await.unwrap(), ["order-0", "order-1"].map(id));
    let groups = fleet.client.dead_groups(&Filter::default(), GroupBy::Capability).await.unwrap();
    assert_eq!(groups.len(), 1);
    let group = &groups[0];
    assert_eq!((group.key.as_str(), group.count, group.replayed, &group.example), ("echo", 300, 3, &id("order-299")));
    assert!(group.first <= group.last);
}

#[tokio::test]
async fn what_is_exported_dropped_and_imported_is_what_it_was() {
    let fleet = Fleet::start().await;
    let large = format!("\"{}\"", "x".repeat(600 * 1024));
    let receipt = fleet.client.request_encoded(&echo(), Default::default(), large.clone()).submit().await.unwrap();
    let message = fleet.last("FLEET_REQUESTS", "fleet.request.echo").await.unwrap();
    fleet.give_up(receipt.id(), &message.headers, b"").await;
    let mut original = Headers::new();
    original.set("X-Tenant", "blue");
    original.set("Sortie-Timeout", "5s");
    original.set("Content-Type", "application/msgpack");
    fleet.give_up(&id("packed"), &original, b"\xff\x01").await;
    fleet.client.replay(&id("packed"), &Again::default()).await.unwrap();

    let mut lines = Vec::new();
    let all = Filter::default();
    let export = fleet.client.export_dead(&all, |archived| {
        lines.push(serde_json::to_string(&archived).unwrap());
        Ok::<_, sortie_client::Error>(())
    });
    export.await.unwrap();
    assert_eq!(lines.len(), 2);
    let both = [receipt.id().clone(), id("packed")];
    let before = both.each_ref().map(|id| fleet.client.dead_letter(id));
    let before: Vec<_> = futures_util::future::join_all(before).await;
    let archived: Vec<Archived> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    for archived in &archived {
        assert_eq!(fleet.client.import_dead(archived).await.unwrap(), Imported::Present, "never a second one");
        fleet.client.drop_dead(&archived.letter.id).await.unwrap();
    }
    assert_eq!(*fleet.client.drop_dead(&id("packed")).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert!(fleet.client.dead_list(&all, 10).await.unwrap().is_empty());
    for archived in &archived {
        assert_eq!(fleet.client.import_dead(archived).await.unwrap(), Imported::Stored);
        assert_eq!(fleet.client.import_dead(archived).await.unwrap(), Imported::Present);
    }
    for before in before {
        let before = before.unwrap().unwrap();
        let after = fleet.client.dead_letter(&before.letter.id).await.unwrap().unwrap();
        assert_eq!((&after.letter, &after.body, after.body_fault), (&before.letter, &before.body, None));
        for name in ["X-Tenant", "Sortie-Timeout", "Content-Type"] {
            assert_eq!(after.headers.get(name), before.headers.get(name), "{name}");
        }
    }
    assert_eq!(fleet.client.replay(&id("packed"), &Again::default()).await.unwrap().how, How::Before);
    let again = fleet.client.replay(receipt.id(), &Again::default()).await.unwrap();
    assert_eq!(again.how, How::Sent);
    let message = fleet.last("FLEET_REQUESTS", "fleet.urgent.echo").await.unwrap();
    let object = message.headers.get(header::PAYLOAD_REF).unwrap();
    let store = broker::PayloadStore::new(fleet.connection(), "fleet-payloads");
    assert_eq!(store.get(object).await.unwrap(), large.as_bytes());
    let broken = Archived { body: ArchivedBody::Base64("?".to_owned()), ..archived[0].clone() };
    assert_eq!(*fleet.client.import_dead(&broken).await.unwrap_err().kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn many_are_sent_each_once_and_what_is_gone_keeps_none_back() {
    let fleet = Fleet::start().await;
    let mut ids = Vec::new();
    for number in 0..50 {
        ids.push(letter(&fleet, &format!("order-{number}"), b"1").await);
    }
    ids.push(id("gone"));
    fleet.client.replay(&ids[0], &Again::default()).await.unwrap();
    let pace = Pace { waits: false, ..Pace::default() };
    let mut told = 0;
    let tally = fleet.client.replay_many(ids.clone(), &Again::default(), &pace, |_| told += 1).await;
    assert_eq!((tally.sent.len(), tally.before.len(), tally.refused.len(), told), (49, 1, 1, 51));
    assert!(!tally.is_stopped && tally.fault.is_none());
    assert_eq!(queued(&fleet).await, 50);
    let tally = fleet.client.replay_many(ids, &Again::default(), &pace, |_| {}).await;
    assert_eq!((tally.sent.len(), tally.before.len(), queued(&fleet).await), (0, 50, 50));
}

#[tokio::test]
async fn rules_are_kept_by_name() {
    let fleet = Fleet::start().await;
    let name = |text| Kind::parse(text).unwrap();
    let rule = |text: &str| RedriveRule::read(text.as_bytes()).unwrap();
    let slow = rule(r#"{"code":"timeout"}"#);
    fleet.client.add_redrive_rule(&name("slow"), &slow, false).await.unwrap();
    let other = RedriveRule { capability: Capability::parse("other").ok(), ..slow.clone() };
    let refused = fleet.client.add_redrive_rule(&name("slow"), &other, false).await.unwrap_err();
    assert!(refused.to_string().contains("--replace"), "{refused}");
    fleet.client.add_redrive_rule(&name("slow"), &other, true).await.unwrap();
    let bucket = broker::Bucket::new(fleet.connection(), &Publisher::new(fleet.connection()), "fleet-config");
    bucket.put("redrive.broken", r#"{"code":""}"#, None).await.unwrap();
    let rules = fleet.client.redrive_rules().await.unwrap();
    assert!(rules[0].name == name("broken") && rules[0].rule.is_err());
    assert_eq!((&rules[1].name, rules[1].rule.as_ref().unwrap()), (&name("slow"), &other));
    fleet.client.remove_redrive_rule(&name("slow")).await.unwrap();
    assert_eq!(*fleet.client.remove_redrive_rule(&name("slow")).await.unwrap_err().kind(), ErrorKind::NotFound);
    fleet.client.add_redrive_rule(&name("slow"), &slow, false).await.unwrap();
    assert_eq!(fleet.client.redrive_rules().await.unwrap().len(), 2);
}
