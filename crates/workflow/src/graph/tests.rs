use super::*;

const EVERY_KIND: &str = r#"
workflow: kinds
version: 1.0.0
steps:
  list: { call: list }
  each: { needs: [list], foreach: "${ steps.list.output }", call: look, with: "${ item }", on_error: { fallback: other } }
  other: { workflow: slow-look, undo: { call: forget } }
  poll: { repeat: { call: poll, until: "last.state == \"done\"", max: 5, pause: 1s } }
  fast: { race: { a: { call: a }, b: { workflow: b } } }
  nap: { needs: [poll], wait: 1h30m }
  late: { needs_any: [fast, nap], wait: { until: "${ run.started }" }, if: "size(input.list) > 0" }
  ask: { needs: [late], signal: approve, timeout: 1d, otherwise: no }
  tell: { needs: [ask, each], emit: things.done, on_error: continue }
"#;

fn plan(text: &str) -> Plan {
    Plan::parse(text).unwrap_or_else(|faults| panic!("{faults:#?}")).0
}

#[test]
fn every_kind_is_drawn() {
    let text = EVERY_KIND.replace("1h30m", "90m");
    insta::assert_snapshot!("mermaid", mermaid(&plan(&text)));
    insta::assert_snapshot!("terminal", terminal(&plan(&text)));
}

#[test]
fn the_example_is_drawn() {
    let plan = plan(include_str!("../../tests/repo-audit.yaml"));
    insta::assert_snapshot!("repo_audit_mermaid", mermaid(&plan));
    insta::assert_snapshot!("repo_audit_terminal", terminal(&plan));
}
