//! How the fields of a span are kept for the lines that are logged within it, where lines are JSON.

use std::fmt::{self, Write};

use serde_json::Value;
use tracing::{
    field::{Field, Visit},
    span::Record,
};
use tracing_subscriber::{
    field::RecordFields,
    fmt::{FormatFields, FormattedFields, format::Writer},
};

/// Writes them as a JSON object as they come. Every attempt of a worker has a span, and few of them log: the formatter of
/// the library builds a tree first, and took a tenth of the worker's time. What is for tracers alone (`otel.…`,
/// `messaging.…`) repeats what stands beside it, and is left out.
#[derive(Debug, Default)]
pub(super) struct SpanFields;

struct Object<'w> {
    writer: Writer<'w>,
    is_first: bool,
    result: fmt::Result,
}

impl<'w> FormatFields<'w> for SpanFields {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'w>, fields: R) -> fmt::Result {
        let mut object = Object { writer, is_first: true, result: Ok(()) };
        object.result = object.writer.write_char('{');
        fields.record(&mut object);
        object.result.and_then(|()| object.writer.write_char('}'))
    }

    fn add_fields(&self, current: &'w mut FormattedFields<Self>, fields: &Record<'_>) -> fmt::Result {
        let mut added = String::new();
        self.format_fields(Writer::new(&mut added), fields)?;
        // Both are objects of ours: one goes on where the other ended.
        let kept = current.fields.strip_suffix('}').unwrap_or("{");
        let added = added.strip_prefix('{').unwrap_or("}");
        let between = if kept == "{" || added == "}" { "" } else { "," };
        current.fields = format!("{kept}{between}{added}");
        Ok(())
    }
}

impl Object<'_> {
    fn put(&mut self, field: &Field, value: impl FnOnce(&mut Writer<'_>) -> fmt::Result) {
        let name = field.name();
        if self.result.is_err() || name.starts_with("otel.") || name.starts_with("messaging.") {
            return;
        }
        let comma = if std::mem::take(&mut self.is_first) { "" } else { "," };
        // Raw names such as `r#type` are told as they are meant. A field's name needs no escape.
        let name = name.strip_prefix("r#").unwrap_or(name);
        self.result = write!(self.writer, "{comma}\"{name}\":").and_then(|()| value(&mut self.writer));
    }
}

impl Visit for Object<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, |writer| {
            writer.write_char('"')?;
            write!(Escaped(writer), "{value:?}")?;
            writer.write_char('"')
        });
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, |writer| {
            writer.write_char('"')?;
            Escaped(writer).write_str(value)?;
            writer.write_char('"')
        });
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, |writer| write!(writer, "{value}"));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, |writer| write!(writer, "{value}"));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, |writer| write!(writer, "{value}"));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, |writer| write!(writer, "{}", Value::from(value)));
    }
}

/// What is within the quotes of a JSON string (RFC 8259, section 7).
struct Escaped<'w, 'a>(&'a mut Writer<'w>);

impl Write for Escaped<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some(at) = rest.find(|char: char| char == '"' || char == '\\' || char < ' ') {
            let (plain, odd) = rest.split_at(at);
            self.0.write_str(plain)?;
            let mut chars = odd.chars();
            match chars.next() {
                Some(char @ ('"' | '\\')) => write!(self.0, "\\{char}")?,
                Some(char) => write!(self.0, "\\u{:04x}", u32::from(char))?,
                None => {}
            }
            rest = chars.as_str();
        }
        self.0.write_str(rest)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
    use std::sync::{Arc, Mutex};

    use serde_json::json;
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_has_the_fields_of_its_spans() {
        let sink = Sink::default();
        let writer = sink.clone();
        let lines = tracing_subscriber::fmt::layer().with_writer(move || writer.clone());
        let subscriber = tracing_subscriber::registry().with(lines.json().flatten_event(true).fmt_fields(SpanFields));
        tracing::subscriber::with_default(subscriber, || {
            let odd = "a \"b\\\n\u{1}}ü{";
            let span = tracing::info_span!(
                "attempt",
                otel.name = "process tea",
                messaging.system = "nats",
                request.id = %odd,
                capability = odd,
                attempt = 2_u32,
                share = f64::NAN,
                late = tracing::field::Empty,
                later = tracing::field::Empty,
            );
            span.record("late", true);
            span.record("later", -3);
            let _outer = span.enter();
            let empty = tracing::info_span!("inner", only = tracing::field::Empty);
            let _inner = empty.enter();
            tracing::info!("before");
            empty.record("only", "this");
            tracing::info!("after");
        });
        let text = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let odd = "a \"b\\\n\u{1}}ü{";
        let attempt = json!({
            "name": "attempt", "request.id": odd, "capability": odd, "attempt": 2, "share": null, "late": true, "later": -3,
        });
        assert_eq!(lines[0]["spans"], json!([attempt, { "name": "inner" }]));
        assert_eq!(lines[1]["spans"], json!([attempt, { "name": "inner", "only": "this" }]));
    }
}
