//! What a process logs, to be changed while it runs.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use broker::Connection;
use prometheus::IntCounter;
use tokio::sync::mpsc;
use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    filter::{FilterExt, LevelFilter, filter_fn},
    layer::SubscriberExt,
    reload,
    util::SubscriberInitExt,
};

use super::{
    LogFormat, LogSettings,
    collect::{Collected, Collector},
    fields::SpanFields,
    filter_of,
    ship::{Sender, Shipper, Shipping},
};

/// Lines that wait to be shipped. The broker takes tens of thousands a second, so this many are those of a moment in which
/// it is away; what comes on top is counted and told.
const WAITING_MAX: usize = 4_096;

/// How often a thread that waits for the shipping looks whether it is done.
const SETTLE_LOOK: Duration = Duration::from_millis(10);

/// Levels that stand for what the process started with.
const DEFAULT: &str = "default";

type Handle = reload::Handle<EnvFilter, Registry>;
type AnyLayer = Box<dyn Layer<Registry> + Send + Sync>;

/// What a process logs. Clones are the same; the default is that of a process whose log is not kept by us.
#[derive(Clone, Debug, Default)]
pub struct Logs {
    inner: Option<Arc<Inner>>,
}

#[derive(Debug)]
struct Inner {
    printed: Handle,
    shipped: Option<Handle>,
    /// What it started with, and what it logs now.
    first: (String, Option<String>),
    level: Mutex<String>,
    waiting: Mutex<Option<mpsc::Receiver<Collected>>>,
    counters: Counters,
}

/// What became of lines.
#[derive(Clone, Debug)]
pub(super) struct Counters {
    pub(super) shipped: IntCounter,
    pub(super) dropped: IntCounter,
    /// Lines that wait to be shipped.
    pub(super) waiting: Arc<AtomicU64>,
}

/// Why the level is not changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LevelError {
    /// It is no level: a sentence that says what is.
    #[error("{0}")]
    Invalid(String),
    /// This process's log is not kept by us.
    #[error("this program keeps its log itself")]
    Foreign,
}

/// Begins to log, unless the process does already.
pub(super) fn begin(settings: &LogSettings, shipped: Option<&str>) -> Logs {
    match begin_ours(settings, shipped) {
        Some(inner) => Logs { inner: Some(Arc::new(inner)) },
        None => Logs::default(),
    }
}

fn begin_ours(settings: &LogSettings, shipped: Option<&str>) -> Option<Inner> {
    let counters = Counters::new().ok()?;
    let filter = |level: &str| EnvFilter::builder().parse_lossy(level);
    let (print, printed) = reload::Layer::new(filter(&settings.level));
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(settings.colour);
    let mut layers: Vec<AnyLayer> = vec![match settings.format {
        LogFormat::Human => lines.with_filter(print).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).fmt_fields(SpanFields).with_filter(print).boxed(),
    }];
    let (mut ship, mut waiting) = (None, None);
    if let Some(level) = shipped {
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        let (filter, handle) = reload::Layer::new(filter(level));
        // A line tells its request by its span, whose own level must not hide that.
        let spans = filter_fn(|metadata| metadata.is_span() && metadata.fields().field("request.id").is_some());
        let filter = filter.or(spans.with_max_level_hint(LevelFilter::INFO));
        layers.push(
            Collector::new(sender, Arc::clone(&counters.waiting), counters.dropped.clone()).with_filter(filter).boxed(),
        );
        (ship, waiting) = (Some(handle), Some(receiver));
    }
    tracing_subscriber::registry().with(layers).try_init().ok()?;
    Some(Inner {
        printed,
        shipped: ship,
        first: (settings.level.clone(), shipped.map(str::to_owned)),
        level: Mutex::new(settings.level.clone()),
        waiting: Mutex::new(waiting),
        counters,
    })
}

impl Logs {
    /// Whether the log is kept by us, so that it can be changed.
    pub fn is_ours(&self) -> bool {
        self.inner.is_some()
    }

    /// Logs something else from now on, on standard error and shipped alike; `default` is what the process started with.
    /// Gives what was logged, and what is.
    ///
    /// # Errors
    /// It is no level, or the log is not kept by us.
    pub fn set_level(&self, level: &str) -> Result<(String, String), LevelError> {
        let inner = self.inner.as_ref().ok_or(LevelError::Foreign)?;
        let (first, first_shipped) = &inner.first;
        let (printed, shipped) = match level.trim() {
            DEFAULT => (first.as_str(), first_shipped.as_deref().unwrap_or(first)),
            level => (level, level),
        };
        let filter = |level: &str| filter_of(level).map_err(LevelError::Invalid);
        let (printed_filter, shipped_filter) = (filter(printed)?, filter(shipped)?);
        let mut now = inner.level.lock().unwrap_or_else(PoisonError::into_inner);
        let gone = |_| LevelError::Foreign;
        inner.printed.reload(printed_filter).map_err(gone)?;
        if let Some(handle) = &inner.shipped {
            handle.reload(shipped_filter).map_err(gone)?;
        }
        let before = std::mem::replace(&mut *now, printed.to_owned());
        Ok((before, printed.to_owned()))
    }

    /// Ships what is logged, and what was since the process began, until the answer is finished or dropped. None where
    /// nothing is shipped, or somebody does already.
    pub fn ship(&self, connection: &Connection, sender: Sender) -> Option<Shipping> {
        let inner = self.inner.as_ref()?;
        let waiting = inner.waiting.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        Some(Shipper::start(connection, sender, waiting, inner.counters.clone()))
    }

    /// Holds this thread until what was logged is shipped, at most this long: for whoever is about to end the process
    /// without a way back. An error is shipped at once, so this takes milliseconds where somebody ships.
    pub fn settle(&self, within: Duration) {
        let Some(inner) = &self.inner else { return };
        let is_shipped = inner.waiting.lock().unwrap_or_else(PoisonError::into_inner).is_none();
        let until = Instant::now() + within;
        while is_shipped && inner.counters.waiting.load(Ordering::Acquire) > 0 && Instant::now() < until {
            std::thread::park_timeout(SETTLE_LOOK);
        }
    }

    /// Registers what it counts: `sortie_logs_shipped_total` and `sortie_logs_dropped_total`.
    ///
    /// # Errors
    /// They are there already.
    pub fn register(&self, registry: &prometheus::Registry) -> Result<(), prometheus::Error> {
        let Some(inner) = &self.inner else { return Ok(()) };
        registry.register(Box::new(inner.counters.shipped.clone()))?;
        registry.register(Box::new(inner.counters.dropped.clone()))
    }
}

impl Counters {
    pub(super) fn new() -> Result<Self, prometheus::Error> {
        Ok(Self {
            shipped: IntCounter::new("sortie_logs_shipped_total", "Log lines that were shipped and stored.")?,
            dropped: IntCounter::new("sortie_logs_dropped_total", "Log lines that could not be shipped.")?,
            waiting: Arc::default(),
        })
    }
}
