use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::json;

use super::*;

/// Data for expressions.
pub(crate) struct Data {
    pub(crate) input: Payload,
    pub(crate) run: Value,
    pub(crate) steps: BTreeMap<&'static str, (Payload, Value)>,
    pub(crate) locals: BTreeMap<&'static str, Payload>,
}

impl Scope for Data {
    fn input(&self) -> &Payload {
        &self.input
    }
    fn run(&self) -> &Value {
        &self.run
    }
    fn step(&self, name: &str) -> Option<StepInScope<'_>> {
        let (output, error) = self.steps.get(name)?;
        Some(StepInScope { output, status: if error.is_null() { "completed" } else { "failed" }, error })
    }
    fn local(&self, name: &str) -> Option<&Payload> {
        self.locals.get(name)
    }
}

pub(crate) fn held() -> Payload {
    Payload::Held { reference: "object".into(), content_type: "application/json".into() }
}

pub(crate) fn data() -> Data {
    let input = json!({
        "path": "/src", "n": 3, "big": 18_446_744_073_709_551_615_u64, "half": 0.5, "none": null, "with-dash": 1,
        "list": [3, 1, 2], "names": {"b": 2, "a": 1, "c": 3}, "text": "süß",
    });
    let files = json!([{"name": "a", "size": 10}, {"name": "b", "size": 2000}]);
    Data {
        input: input.into(),
        run: json!({"id": "r1", "workflow": "w", "version": "1.0.0", "started": "2026-01-01T00:00:00Z"}),
        steps: BTreeMap::from([
            ("files", (files.into(), Value::Null)),
            ("large", (held(), Value::Null)),
            ("broken", (Payload::default(), json!({"code": "x", "message": "no"}))),
            ("write-report", (json!("done").into(), Value::Null)),
        ]),
        locals: BTreeMap::from([("item", json!({"name": "a"}).into()), ("index", json!(0).into())]),
    }
}

pub(crate) fn names() -> Names<'static> {
    let has_step = &|name: &str| matches!(name, "files" | "large" | "broken" | "write-report");
    Names { has_step, locals: &["item", "index"] }
}

fn compile(source: &str) -> Result<Expression, Vec<Fault>> {
    Expression::compile(source, &names())
}

fn value(source: &str) -> Value {
    compile(source).unwrap_or_else(|faults| panic!("{source}: {faults:?}")).evaluate(&data()).unwrap()
}

fn failure(source: &str) -> String {
    let failure = compile(source).unwrap().evaluate(&data()).unwrap_err();
    assert_eq!((failure.code.as_str(), failure.retryable), (codes::EXPRESSION_FAILED, false));
    failure.message
}

#[test]
fn values() {
    let cases = [
        ("input.path", json!("/src")),
        ("input.n", json!(3)),
        ("input['with-dash']", json!(1)),
        ("input.`with-dash`", json!(1)),
        ("steps.files.output[1].name", json!("b")),
        ("steps['write-report'].output", json!("done")),
        ("steps.files.status + '/' + steps.broken.status", json!("completed/failed")),
        ("steps.broken.error.code == 'x'", json!(true)),
        ("steps.broken.output == null", json!(true)),
        ("item.name + string(index)", json!("a0")),
        ("run.id", json!("r1")),
        ("run", json!({"id": "r1", "workflow": "w", "version": "1.0.0", "started": "2026-01-01T00:00:00Z"})),
        // Whole numbers are int both ways; only what is larger is uint.
        ("input.n + 1", json!(4)),
        ("type(input.n) == int && type(input.big) == uint && type(input.half) == double", json!(true)),
        ("input.big", json!(18_446_744_073_709_551_615_u64)),
        ("[input.n, input.big, input.half, input.none]", json!([3, 18_446_744_073_709_551_615_u64, 0.5, null])),
        ("1.0", json!(1.0)),
        ("size(steps.files.output) > 0", json!(true)),
        ("steps.files.output.filter(f, f.size > 100).map(f, f.name)", json!(["b"])),
        ("steps.files.output.map(f, f.size > 100, f.name)", json!(["b"])),
        ("steps.files.output.all(f, f.size > 1) && steps.files.output.exists(f, f.name == 'a')", json!(true)),
        ("steps.files.output.exists_one(f, f.name == 'a')", json!(true)),
        ("[[1, 2], [3]].map(l, l.map(n, n * 2))", json!([[2, 4], [6]])),
        ("has(input.path) && !has(input.other)", json!(true)),
        ("has(input.names.a) ? input.names.a : 0", json!(1)),
        ("has(input.other) ? input.other.x : 'none'", json!("none")),
        ("input.other.x == 1 || true", json!(true)),
        ("{'a': input.n, 'b': [item]}", json!({"a": 3, "b": [{"name": "a"}]})),
        ("input.list[input.n - 1]", json!(2)),
        ("2 in input.list && 'a' in input.names", json!(true)),
        ("input.text.size() == 3 && input.text.startsWith('s')", json!(true)),
        ("input.path.matches('^/[a-z]+$')", json!(true)),
        ("timestamp(run.started) + duration('1h')", json!("2026-01-01T01:00:00+00:00")),
        ("duration('90s')", json!("90s")),
        ("int('12') + int(2.9)", json!(14)),
        ("type(1)", json!("int")),
        // What CEL's standard library lacks.
        ("steps.files.output.map(f, f.name).join(', ') + ['a', 'b'].join()", json!("a, bab")),
        ("'a,b,,c'.split(',')", json!(["a", "b", "", "c"])),
        ("' Aä '.trim().lowerAscii() + 'x'.upperAscii() + 'aXbX'.replace('X', '--')", json!("aäXa--b--")),
        ("[[1, 2], 3, [[4]]].flatten()", json!([1, 2, 3, [4]])),
        ("[3, 1.5, 2, 9, 2, 0, 7].sort()", json!([0, 1.5, 2, 2, 3, 7, 9])),
        ("[].sort() + ['b', 'a'].sort()", json!(["a", "b"])),
        ("[input.list.sum(), input.list.min(), input.list.max(), [].sum()]", json!([6, 1, 3, 0])),
        ("[duration('1m'), duration('30s')].sum()", json!("90s")),
        // A variable of a comprehension hides what is called like it.
        ("[1].map(input, input + 1)", json!([2])),
        ("['x'].map(item, item)", json!(["x"])),
    ];
    for (source, expected) in cases {
        assert_eq!(value(source), expected, "{source}");
    }
}

#[test]
fn a_map_is_gone_through_in_the_same_order_everywhere() {
    for _ in 0..20 {
        assert_eq!(value("input.names.map(k, k)"), json!(["a", "b", "c"]));
        assert_eq!(value("{3: 'c', 1: 'a', 2: 'b'}.map(k, k)"), json!([1, 2, 3]));
        assert_eq!(value("{'1': 'text', 1: 'number', 'x': true}"), json!({"1": "text", "x": true}));
        assert!(failure("{'a': b'', 'b': 0.0 / 0.0, 'c': 1}").contains("bytes"));
    }
}

#[test]
fn failures_say_what_is_wrong() {
    let cases = [
        ("input.other", "`input.other`: `input` has no `other`"),
        ("input.path.x.y", "`input.path` is text and has no `x`"),
        ("steps.files.output[7].name", "`steps.files.output` has 2 items and no [7]"),
        ("input.names[0]", "`input.names` is a map and has no [0]"),
        ("input.other + 1", "`input` has no `other`"),
        ("input.list.map(n, n.x)", "`.` cannot be applied to int and string"),
        ("item.name > 1", "`>` cannot be applied to string and int"),
        ("input.path + 1", "`add` cannot be applied to string and int"),
        ("input.list[5 - 1]", "the list has no [4]"),
        // The message shows no data: a map of the interpreter is in another order each time.
        ("[input.names][0.5]", "float is no index of a list"),
        ("input.list[0 - 1]", "the list has no [-1]"),
        ("1 / (input.n - 3)", "it divides by zero"),
        ("9223372036854775807 + input.n", "a number becomes too large"),
        ("input.n ? 1 : 2", "it has int where bool belongs"),
        ("input.half / 0.0", "its value is not a finite number"),
        ("b'abc'", "its value is of type bytes, which JSON does not have"),
        ("int('x')", "`int`"),
        ("input.path.matches('(')", "`matches`"),
        ("has(input.none.x)", "`input.none` is null and has no `x`"),
        ("steps.large.output", "`steps.large.output` is too large to be read, and can only be handed on"),
        ("size(steps.large.output)", "too large to be read"),
        ("[1, 'a'].sort()", "string cannot be compared with int"),
        ("[].max()", "`max`: is not known of an empty list"),
        ("['a', 'b'].sum()", "joined with `join`"),
        ("[1].join(',')", "`join`: is for text, not for int"),
        ("input.path.flatten()", "`flatten`: is for a list, not for string"),
        ("input.names.map(k, input.names[k]).map(k, {k: 1, k: 2})", "a map has the same key twice"),
    ];
    for (source, expected) in cases {
        let message = failure(source);
        assert!(message.contains(expected) && message.contains(source), "{source}: {message}");
    }
}

/// Everything that is wrong with a source, as `column: message`.
fn faults(source: &str) -> Vec<String> {
    let faults = compile(source).expect_err(source);
    faults.into_iter().map(|fault| format!("{}:{} {}", fault.line, fault.column, fault.message)).collect()
}

#[test]
fn faults_are_told_all_at_once_and_where() {
    let cases: [(&str, &[&str]); 24] = [
        ("", &["1:1 something is missing at the end"]),
        ("input.path +", &["1:13 something is missing at the end"]),
        ("input.path path", &["1:12 `path` is not expected here"]),
        ("\"open", &["1:1 the text \"open does not end"]),
        ("a # b", &["1:3 `#` is not part of the language"]),
        (
            "inptu.x + outptu.y",
            &["1:1 `inptu` is not known; known are input, run, steps, item, index", "1:11 `outptu`"],
        ),
        ("turn + input.n", &["1:1 `turn` is known only in a `repeat` and its `undo`"]),
        ("steps", &["1:1 `steps` is followed by the name of a step"]),
        ("steps[input.n].output", &["1:1 `steps` is followed by the name of a step"]),
        ("steps.other.output", &["1:7 there is no step `other`"]),
        (
            "steps.write-report.output",
            &["1:7 a name with `-` is written in brackets: `steps[\"write-report\"]`", "1:13 `report` is not known"],
        ),
        ("steps.files", &["1:7 a step is no value; it has output, status, error"]),
        ("steps.files.outptu", &["1:13 a step has output, status, error: `steps.files.output`"]),
        ("run.nmae", &["1:5 `run` has no `nmae`; it has id, workflow"]),
        ("foo(1) + bar(2)", &["1:4 there is no function `foo`", "1:13 there is no function `bar`"]),
        ("input.path.size(1)", &["1:16 `size` with 1 arguments"]),
        ("input.list.map(input.n)", &["1:15 `map` is written `list.map(x, …)`"]),
        ("has(input)", &["1:5 invalid argument to has() macro"]),
        ("input.list.map(1, 2)", &["1:16 argument must be a simple name"]),
        ("input.?x", &["1:6 unsupported syntax '.?'"]),
        ("optional.of(1)", &["1:1 `optional` is not known", "1:12 there is no function `of`"]),
        ("Point{x: 1}", &["1:6 `Point` cannot be built here"]),
        ("1 +\n  foo +\n    bar", &["2:3 `foo` is not known", "3:5 `bar` is not known"]),
        ("'ü' + foo", &["1:7 `foo` is not known"]),
    ];
    for (source, expected) in cases {
        let found = faults(source);
        assert_eq!(found.len(), expected.len(), "{source}: {found:?}");
        for (fault, expected) in found.iter().zip(expected) {
            assert!(fault.contains(expected), "{source}: {found:?}");
        }
    }
}

#[test]
fn sources_are_bounded() {
    let long = format!("'{}'", "x".repeat(SOURCE_BYTES_MAX));
    assert!(faults(&long)[0].contains("4096 are the limit"), "{:?}", faults(&long));
    let two = "[1].map(a, [a].map(b, b)) + [1].map(c, [c].all(d, d > 0))";
    assert!(compile(two).is_ok());
    let three = "[1].map(a, [a].map(b, [b].map(c, c)))";
    assert!(faults(three)[0].contains("at most 2 of map"), "{:?}", faults(three));
    let deep = format!("1{}", " + 1".repeat(DEPTH_MAX));
    assert!(faults(&deep)[0].contains("nested more than 100 deep"), "{:?}", faults(&deep));
    let brackets = format!("{}1{}", "(".repeat(500), ")".repeat(500));
    assert!(faults(&brackets)[0].contains("nested too deep"), "{:?}", faults(&brackets));
    // As deep as it gets, on a thread with the stack of a task.
    let deepest = format!("1{}", " + 1".repeat(DEPTH_MAX - 1));
    let brackets = format!("{}input.n{}", "[".repeat(40), "]".repeat(40));
    let thread = std::thread::Builder::new().stack_size(512 * 1024).spawn(move || {
        assert_eq!(value(&deepest), json!(DEPTH_MAX));
        assert!(value(&brackets).is_array());
    });
    thread.unwrap().join().unwrap();
}

#[test]
fn data_is_bounded() {
    let mut data = data();
    data.input = json!({"list": vec![json!("0123456789abcdef"); 400_000], "small": 1}).into();
    let evaluate = |source: &str| compile(source).unwrap().evaluate(&data).map_err(|failure| failure.message);
    for source in ["size(input.list)", "input.list", "input.list.exists(x, true) || true"] {
        let message = evaluate(source).unwrap_err();
        assert!(message.contains("8388608 bytes, counting 8 for every value"), "{message}");
    }
    // Only what is named is read.
    assert_eq!(evaluate("input.small + 1"), Ok(json!(2)));
    assert_eq!(evaluate("input.list[7] + '!'"), Ok(json!("0123456789abcdef!")));
    let mut nested = json!(1);
    for _ in 0..500 {
        nested = json!([nested]);
    }
    data.input = nested.into();
    assert!(compile("size(input)").unwrap().evaluate(&data).unwrap_err().message.contains("nested 128 deep"));
}

#[test]
fn work_is_bounded() {
    let mut data = data();
    data.input = json!({"list": (0..20_000).collect::<Vec<_>>(), "text": "x".repeat(1_000_000)}).into();
    let cases = [
        "input.list.map(x, input.list.filter(y, y == x))",
        "input.list.filter(x, x in input.list)",
        "input.list.map(x, input.list)",
        "input.list.map(x, input.text + string(x))",
    ];
    for source in cases {
        let message = compile(source).unwrap().evaluate(&data).unwrap_err().message;
        assert!(message.contains("too much work"), "{source}: {message}");
    }
    for source in [
        "input.text.replace('x', input.text)",
        "input.list.map(x, '').join(input.text)",
        "input.text.split('').map(x, input.text.split('')) == []",
    ] {
        let message = compile(source).unwrap().evaluate(&data).unwrap_err().message;
        assert!(message.contains("too much work"), "{source}: {message}");
    }
    let doubling = format!("input.text{}", " + input.text".repeat(60));
    let message = compile(&doubling).unwrap().evaluate(&data).unwrap_err().message;
    assert!(message.contains("too much work"), "{message}");
    // What people do is far from the bound.
    let small = compile("input.list.filter(x, x % 2 == 0).map(x, {'n': x})").unwrap();
    assert_eq!(small.evaluate(&data).unwrap().as_array().map(Vec::len), Some(10_000));
}

#[test]
fn a_plain_name_hands_on_what_is_held() {
    let hand_on = |source: &str| compile(source).unwrap().hand_on(&data()).unwrap();
    assert_eq!(hand_on("steps.large.output"), held());
    let Payload::Value(item) = hand_on("item") else { panic!("held") };
    let data = data();
    let Payload::Value(original) = &data.locals["item"] else { panic!("held") };
    assert_eq!(&item, original);
    assert!(compile("item").unwrap().only_names() && !compile("item.name").unwrap().only_names());
}

#[test]
fn references_are_what_is_named() {
    let expression =
        compile("steps.files.output[0].size > input.n && has(steps.broken.error.code) && [1].all(item, item > 0)");
    let shown: Vec<_> =
        expression.unwrap().references().iter().map(|reference| (reference.root.clone(), reference.column)).collect();
    let expected = [(Root::StepOutput("files".into()), 1), (Root::Input, 30), (Root::StepError("broken".into()), 45)];
    assert_eq!(shown, expected);
}

fn json_values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-c ]{0,3}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map("[a-c]", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn sources() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("input".to_owned()),
        Just("input.a".to_owned()),
        Just("steps.files.output".to_owned()),
        Just("item".to_owned()),
        Just("x".to_owned()),
        Just("null".to_owned()),
        any::<i32>().prop_map(|number| number.to_string()),
        Just("1.5".to_owned()),
        Just("2u".to_owned()),
        "'[a-c]{0,2}'",
    ];
    leaf.prop_recursive(5, 40, 3, |inner| {
        let one = inner.clone();
        let two = (inner.clone(), inner.clone());
        prop_oneof![
            (two.clone(), "(\\+|-|\\*|/|%|==|!=|<|<=|&&|\\|\\||in)")
                .prop_map(|((left, right), operator)| format!("({left} {operator} {right})")),
            (two.clone(), "(map|filter|all|exists|exists_one)")
                .prop_map(|((list, each), name)| format!("{list}.{name}(x, {each})")),
            two.clone().prop_map(|(list, index)| format!("{list}[{index}]")),
            two.clone().prop_map(|(left, right)| format!("[{left}, {right}]")),
            two.clone().prop_map(|(key, value)| format!("{{{key}: {value}}}")),
            (two, inner).prop_map(|((a, b), c)| format!("({a} ? {b} : {c})")),
            (one.clone(), "[a-c]").prop_map(|(of, key)| format!("{of}.{key}")),
            (one.clone(), "[a-c]").prop_map(|(of, key)| format!("has({of}.{key})")),
            (one.clone(), "(sort|sum|min|max|flatten|join|trim|upperAscii)")
                .prop_map(|(of, function)| format!("{of}.{function}()")),
            (one, "(size|int|uint|double|string|bool|bytes|type|timestamp|duration|dyn)")
                .prop_map(|(of, function)| format!("{function}({of})")),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn no_source_and_no_data_makes_it_panic(source in sources(), input in json_values(), output in json_values()) {
        let mut data = data();
        data.input = input.into();
        data.steps.insert("files", (output.into(), Value::Null));
        if let Ok(expression) = compile(&source) {
            let first = expression.evaluate(&data);
            prop_assert_eq!(first, expression.evaluate(&data));
        }
    }

    #[test]
    fn no_text_makes_it_panic(source in "\\PC{0,60}") {
        let _ = compile(&source);
    }

    #[test]
    fn no_tokens_make_it_panic(
        tokens in proptest::collection::vec(
            "(input|steps|item|has|map|\\.|\\(|\\)|\\[|\\]|\\{|\\}|:|,|\\?|'|\"|`|\\\\|-|!|\\+|1|0x|1e9|b'|r\"|u|in|true|//|\n| |é)", 0..24
        )
    ) {
        let source = tokens.concat();
        if let Ok(expression) = compile(&source) {
            let _ = expression.evaluate(&data());
        }
    }
}
