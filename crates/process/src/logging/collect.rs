//! Collecting what is logged, for the shipper. Whoever logs never waits: what finds no room is counted.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use prometheus::IntCounter;
use protocol::{
    log_line::{Level, trace_id},
    time::{self, Timestamp},
};
use serde_json::{Map, Value};
use tokio::sync::mpsc;
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
    span,
};
use tracing_subscriber::{
    Layer,
    layer::Context,
    registry::{LookupSpan, SpanRef},
};

/// Parts whose lines are never shipped: what they log may be about the shipping itself, and each line would make another
/// one for ever. They stand on standard error all the same.
const NEVER_SHIPPED: [&str; 3] = ["async_nats", "sortie_broker", "sortie_process::logging"];

/// A line before it is known who says it.
#[derive(Debug)]
pub(super) struct Collected {
    pub(super) time: Timestamp,
    pub(super) level: Level,
    pub(super) target: String,
    pub(super) said: Said,
}

/// What the fields of a line or of a span say.
#[derive(Clone, Debug, Default)]
pub(super) struct Said {
    pub(super) message: String,
    pub(super) request: Option<String>,
    pub(super) capability: Option<String>,
    pub(super) attempt: Option<u64>,
    pub(super) trace_id: Option<String>,
    pub(super) fields: Map<String, Value>,
}

/// The layer that collects.
#[derive(Debug)]
pub(super) struct Collector {
    lines: mpsc::Sender<Collected>,
    /// Lines that wait to be shipped.
    waiting: Arc<AtomicU64>,
    dropped: IntCounter,
}

impl Collector {
    pub(super) fn new(lines: mpsc::Sender<Collected>, waiting: Arc<AtomicU64>, dropped: IntCounter) -> Self {
        Self { lines, waiting, dropped }
    }
}

impl<S> Layer<S> for Collector
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(&self, attributes: &span::Attributes<'_>, id: &span::Id, context: Context<'_, S>) {
        let mut work = Work::default();
        attributes.record(&mut work);
        if let Some(span) = context.span(id).filter(|_| work.0.is_about_work()) {
            span.extensions_mut().insert(work.0);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let metadata = event.metadata();
        let is_within = |part: &&str| {
            let rest = metadata.target().strip_prefix(*part);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
        };
        if NEVER_SHIPPED.iter().any(is_within) {
            return;
        }
        let mut said = Said::default();
        event.record(&mut said);
        for span in context.event_scope(event).into_iter().flatten() {
            said.complete(&span);
        }
        let line = Collected {
            time: time::now(),
            level: level_of(metadata.level()),
            target: metadata.target().to_owned(),
            said,
        };
        self.waiting.fetch_add(1, Ordering::AcqRel);
        if self.lines.try_send(line).is_err() {
            self.waiting.fetch_sub(1, Ordering::AcqRel);
            self.dropped.inc();
        }
    }
}

impl Said {
    fn is_about_work(&self) -> bool {
        self.request.is_some() || self.capability.is_some() || self.trace_id.is_some()
    }

    /// What the line itself does not say, its spans do, the innermost first.
    fn complete<'a, S: LookupSpan<'a>>(&mut self, span: &SpanRef<'a, S>) {
        let extensions = span.extensions();
        let Some(of_span) = extensions.get::<Said>() else { return };
        let fill = |own: &mut Option<String>, other: &Option<String>| {
            if own.is_none() {
                own.clone_from(other);
            }
        };
        fill(&mut self.request, &of_span.request);
        fill(&mut self.capability, &of_span.capability);
        fill(&mut self.trace_id, &of_span.trace_id);
        self.attempt = self.attempt.or(of_span.attempt);
    }

    fn take(&mut self, name: &str, value: Value) {
        match (name, value) {
            ("message", Value::String(text)) => self.message = text,
            ("request.id", Value::String(text)) => self.request = Some(text),
            ("capability", Value::String(text)) => self.capability = Some(text),
            ("attempt", Value::Number(number)) => self.attempt = number.as_u64(),
            ("traceparent", Value::String(text)) => self.trace_id = trace_id(&text).map(str::to_owned),
            (_, value) => drop(self.fields.insert(name.to_owned(), value)),
        }
    }
}

/// What the fields of a span say of work, and nothing else of them: every attempt has such a span, and few of them log.
#[derive(Debug, Default)]
struct Work(Said);

impl Visit for Work {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if is_about_work(field) {
            self.0.record_debug(field, value);
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if is_about_work(field) {
            self.0.record_str(field, value);
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        if is_about_work(field) {
            self.0.record_u64(field, value);
        }
    }
}

fn is_about_work(field: &Field) -> bool {
    ["request.id", "capability", "attempt", "traceparent"].contains(&field.name())
}

impl Visit for Said {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.take(field.name(), format!("{value:?}").into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.take(field.name(), value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.take(field.name(), value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.take(field.name(), value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.take(field.name(), value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.take(field.name(), value.into());
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.take(field.name(), value.to_string().into());
    }
}

fn level_of(level: &tracing::Level) -> Level {
    match *level {
        tracing::Level::ERROR => Level::Error,
        tracing::Level::WARN => Level::Warn,
        tracing::Level::INFO => Level::Info,
        tracing::Level::DEBUG => Level::Debug,
        tracing::Level::TRACE => Level::Trace,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    fn collecting(room: usize) -> (impl Subscriber, mpsc::Receiver<Collected>, IntCounter) {
        let (sender, receiver) = mpsc::channel(room);
        let dropped = IntCounter::new("dropped", "dropped").unwrap();
        (
            tracing_subscriber::registry().with(Collector::new(sender, Arc::default(), dropped.clone())),
            receiver,
            dropped,
        )
    }

    #[test]
    fn a_line_says_what_its_spans_say_of_the_work() {
        let (subscriber, mut lines, _) = collecting(10);
        tracing::subscriber::with_default(subscriber, || {
            let traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
            let span =
                tracing::info_span!("attempt", request.id = %"r-1", capability = "tea", attempt = 2_u32, traceparent);
            let _within = span.enter();
            tracing::warn!(target: "mine", attempt = 3_u32, pages = 7_u32, error = %"no paper", "printing");
        });
        let line = lines.try_recv().unwrap();
        assert_eq!((line.level, line.target.as_str(), line.said.message.as_str()), (Level::Warn, "mine", "printing"));
        let said = line.said;
        assert_eq!((said.request.as_deref(), said.capability.as_deref()), (Some("r-1"), Some("tea")));
        assert_eq!((said.attempt, said.trace_id.as_deref()), (Some(3), Some("4bf92f3577b34da6a3ce929d0e0e4736")));
        assert_eq!(Value::Object(said.fields), serde_json::json!({ "pages": 7, "error": "no paper" }));
    }

    #[test]
    fn what_finds_no_room_is_counted_and_nobody_waits() {
        let (subscriber, mut lines, dropped) = collecting(2);
        tracing::subscriber::with_default(subscriber, || {
            for number in 0..5 {
                tracing::info!(target: "mine", number, "one");
            }
        });
        assert_eq!(dropped.get(), 3);
        assert!(lines.try_recv().is_ok() && lines.try_recv().is_ok() && lines.try_recv().is_err());
    }

    #[test]
    fn what_may_be_about_the_shipping_is_not_shipped() {
        let (subscriber, mut lines, dropped) = collecting(10);
        tracing::subscriber::with_default(subscriber, || {
            tracing::error!(target: "async_nats::connector", "no connection");
            tracing::error!(target: "sortie_broker", "refused");
            tracing::error!(target: "sortie_process::logging::ship", "not shipped");
            tracing::error!(target: "sortie_brokers", "another crate");
        });
        assert_eq!(lines.try_recv().unwrap().target, "sortie_brokers");
        assert!(lines.try_recv().is_err());
        assert_eq!(dropped.get(), 0);
    }
}
