use proptest::prelude::*;

use super::*;
use crate::RunTimer;

const ID: &str = "[a-zA-Z_][a-zA-Z0-9_~-]{0,40}";
const SLUG: &str = "[a-z][a-z0-9-]{0,20}";

fn any_timer(step: impl Strategy<Value = StepName>) -> impl Strategy<Value = RunTimer> {
    let timer = (step, any::<u64>()).prop_map(|(step, item)| RunTimer::Step { step, item });
    prop_oneof![Just(RunTimer::Run), timer]
}

fn any_fact(step: impl Strategy<Value = StepName> + Clone) -> impl Strategy<Value = RunFact> {
    prop_oneof![
        prop::sample::select(vec![RunFact::Started, RunFact::Cancel, RunFact::Pause, RunFact::Resume]),
        any::<u64>().prop_map(RunFact::Unreadable),
        any_timer(step.clone()).prop_map(RunFact::Timer),
        any_timer(step.clone()).prop_map(RunFact::TimerFired),
        step.prop_map(RunFact::Signal),
    ]
}

fn any_subject() -> impl Strategy<Value = Subject> {
    let id = ID.prop_map(|text: String| RequestId::parse(&text).unwrap());
    let capability = SLUG.prop_map(|text: String| Capability::parse(&text).unwrap());
    let lane = prop::sample::select(Lane::ALL.to_vec());
    let verb = prop::sample::select(Verb::ALL.to_vec());
    let run = "[a-z_][a-z0-9_-]{0,20}".prop_map(|text: String| RunId::parse(&text).unwrap());
    let step = "[a-z_]{1,20}".prop_map(|text: String| StepName::parse(&text).unwrap());
    prop_oneof![
        (lane, capability.clone()).prop_map(|(lane, capability)| Subject::Request { lane, capability }),
        id.clone().prop_map(Subject::Later),
        id.clone().prop_map(Subject::Outcome),
        id.clone().prop_map(Subject::Told),
        id.clone().prop_map(Subject::Progress),
        SLUG.prop_map(|text: String| Subject::Cron(CronName::parse(&text).unwrap())),
        SLUG.prop_map(|text: String| Subject::Fire(CronName::parse(&text).unwrap())),
        SLUG.prop_map(|text: String| Subject::Start(WorkflowName::parse(&text).unwrap())),
        (capability.clone(), ID)
            .prop_map(|(capability, key)| Subject::Unique { capability, key: UniqueKey::parse(&key).unwrap() }),
        (capability.clone(), id.clone()).prop_map(|(capability, id)| Subject::Dead { capability, id }),
        (capability, id.clone(), id).prop_map(|(capability, id, request)| Subject::Replayed {
            capability,
            id,
            request
        }),
        (run.clone(), step.clone(), any::<u64>()).prop_map(|(run, step, item)| Subject::StepOutcome {
            run,
            step,
            item
        }),
        (run.clone(), any_fact(step.clone())).prop_map(|(run, fact)| Subject::Run { run, fact }),
        (run, any_timer(step)).prop_map(|(run, timer)| Subject::Timer { run, timer }),
        (any::<bool>(), verb)
            .prop_map(|(all, verb)| Subject::Control { instance: (!all).then(InstanceId::generate), verb }),
        SLUG.prop_map(|text: String| Subject::Log {
            kind: Kind::parse(&text).unwrap(),
            instance: InstanceId::generate()
        }),
    ]
}

proptest! {
    #[test]
    fn every_built_subject_is_parsed_back(subject in any_subject(), namespace in "[a-z][a-z0-9-]{0,20}") {
        let namespace = Namespace::parse(&namespace).unwrap();
        prop_assert_eq!(Subject::parse(&namespace, &subject.render(&namespace)), Some(subject));
    }

    #[test]
    fn nothing_makes_parsing_panic(text in "\\PC*|fleet\\.[a-z.]*") {
        let _ = Subject::parse(&Namespace::default(), &text);
    }
}

#[test]
fn a_foreign_namespace_is_not_ours() {
    assert_eq!(Subject::parse(&Namespace::default(), "fleet2.request.echo"), None);
    assert_eq!(Subject::parse(&Namespace::default(), "fleet.request"), None);
    assert_eq!(Subject::parse(&Namespace::default(), "fleet.request.a.b"), None);
}

#[test]
fn an_outcomes_place_follows_from_the_id() {
    let place = |text: &str| Subject::outcome_of(&RequestId::parse(text).unwrap()).render(&Namespace::default());
    assert_eq!(place("req_1"), "fleet.outcome.req_1");
    assert_eq!(place("seq-7"), "fleet.outcome.seq-7");
    assert_eq!(place("run-1~scan~3"), "fleet.run.run-1.step.scan.3.outcome");
}
