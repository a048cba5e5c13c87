//! The mixed load: everything that can be asked of a fleet, through the client, each acknowledgement noted in a file.

mod wish;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use broker::{
    Connection, Options,
    task::{self, Owned},
};
use client::{AcceptedFile, Client, Error, ErrorKind};
use futures_util::{StreamExt, stream};
use protocol::{CronName, CronSpec, RequestId, WorkflowName};
use rand::rngs::StdRng;
use serde_json::json;
use sortie_tests::Fleet;
use tokio::sync::watch;

pub(crate) use self::wish::Kind;
use self::wish::Wish;

/// What two processors do beside everything else that a fleet on fire does.
const PER_SECOND: u32 = 80;

/// Submissions under way at once: what piles up in the seconds in which a broker is away.
const IN_FLIGHT: usize = 400;

/// How long one thing is said again until it is acknowledged.
const SAID_WITHIN: Duration = Duration::from_secs(60);

const SAID_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// The load while it goes on.
#[derive(Debug)]
pub(crate) struct Load {
    stop: watch::Sender<bool>,
    asker: Arc<Asker>,
    asking: Owned<Result<()>>,
}

/// What it came to.
#[derive(Debug)]
pub(crate) struct Asked {
    /// What was acknowledged, and what it should come to.
    pub(crate) accepted: BTreeMap<RequestId, Kind>,
    /// Submissions that were never acknowledged.
    pub(crate) refused: u64,
    /// Submissions that were said again, by what they were answered.
    pub(crate) said_again: BTreeMap<String, u64>,
    /// The file of acknowledgements.
    pub(crate) file: PathBuf,
}

#[derive(Debug)]
pub(crate) struct Asker {
    client: Client,
    workflow: WorkflowName,
    file: AcceptedFile,
    path: PathBuf,
    accepted: Mutex<BTreeMap<RequestId, Kind>>,
    refused: AtomicU64,
    said_again: Mutex<BTreeMap<String, u64>>,
}

impl Load {
    /// Begins, over a connection of its own to where the broker is said to be, with so many things at the same moment.
    ///
    /// # Errors
    /// When the broker does not take its workflow and its recurring request.
    pub(crate) async fn start(fleet: &Fleet, url: &str, dice: StdRng, burst: u32, folder: &Path) -> Result<Self> {
        let servers = url.split(',').map(str::to_owned).collect();
        let connection = Connection::open(Options { servers, ..Options::default() }).await?;
        let path = folder.join("accepted.jsonl");
        let asker = Arc::new(Asker {
            client: Client::new(connection, fleet.namespace.clone()),
            workflow: WorkflowName::parse(wish::WORKFLOW)?,
            file: AcceptedFile::append_to(&path)?,
            path,
            accepted: Mutex::default(),
            refused: AtomicU64::new(0),
            said_again: Mutex::default(),
        });
        // Three servers that have just begun may still choose who leads.
        let (workflow, name, spec) = (wish::workflow(), beat()?, beats()?);
        again(|| asker.client.workflow_apply(&asker.workflow, &workflow, true)).await?;
        again(|| asker.client.cron_add(&name, &spec, true)).await?;
        let (stop, stopped) = watch::channel(false);
        let asking = task::spawn("load", Arc::clone(&asker).ask(dice, burst, stopped));
        Ok(Self { stop, asker, asking })
    }

    /// Whether it was refused something that it should not be.
    pub(crate) fn has_ended(&self) -> bool {
        self.asking.is_finished()
    }

    /// Asks for nothing more, and waits until what is under way is acknowledged or given up.
    ///
    /// # Errors
    /// When something was refused that should not be.
    pub(crate) async fn stop(self) -> Result<Asked> {
        self.stop.send_replace(true);
        self.asking.join().await.context("the load panicked")??;
        let (asker, beat) = (&self.asker, beat()?);
        again(|| asker.client.cron_remove(&beat)).await.context("the recurring request stays")?;
        let accepted = std::mem::take(&mut *asker.accepted.lock().unwrap());
        Ok(Asked {
            accepted,
            refused: asker.refused.load(Ordering::Relaxed),
            said_again: asker.said_again.lock().unwrap().clone(),
            file: asker.path.clone(),
        })
    }
}

impl Asker {
    async fn ask(self: Arc<Self>, dice: StdRng, burst: u32, stopped: watch::Receiver<bool>) -> Result<()> {
        let mut pace = tokio::time::interval(Duration::from_secs(1) * burst / PER_SECOND);
        pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let wishes = stream::unfold((pace, dice, stopped, 0), |(mut pace, mut dice, stopped, number)| async move {
            if number % u64::from(burst) == 0 {
                pace.tick().await;
            }
            let is_over = *stopped.borrow();
            (!is_over).then(|| (Wish::chosen(&mut dice, number), (pace, dice, stopped, number + 1)))
        });
        let mut granted = std::pin::pin!(wishes.map(|wish| self.grant(wish)).buffer_unordered(IN_FLIGHT));
        while let Some(granted) = granted.next().await {
            granted?;
        }
        Ok(())
    }

    /// Says it until it is acknowledged, under one id from beginning to end, and then what belongs to it.
    async fn grant(&self, wish: Wish) -> Result<()> {
        let end = Instant::now() + SAID_WITHIN;
        let mut id = None;
        let id = loop {
            match self.submit(&wish, id.as_ref()).await {
                Ok(id) => break id,
                // The key is this request's alone: it is its own message that holds it, and that was not noted.
                Err(error) if matches!(error.kind(), ErrorKind::KeyTaken { .. }) => return Ok(()),
                Err(error) if !is_passing(&error) => return Err(error).context(format!("{wish:?}")),
                Err(_) if Instant::now() >= end => {
                    self.refused.fetch_add(1, Ordering::Relaxed);
                    return Ok(());
                }
                Err(error) => {
                    *self.said_again.lock().unwrap().entry(format!("{:?}", error.kind())).or_default() += 1;
                    let own = error.request().cloned().filter(|_| wish.kind != Kind::Unique);
                    id = own.or(id);
                }
            }
            tokio::time::sleep(SAID_AGAIN_AFTER).await;
        };
        self.accepted.lock().unwrap().insert(id.clone(), wish.kind);
        self.follow(&wish, &id).await.with_context(|| format!("{id}, {wish:?}"))
    }
}

/// Whether saying it again can help.
fn is_passing(error: &Error) -> bool {
    use ErrorKind::{Broker, Pending, StoreFull, StreamsMissing, TimedOut, Unreachable};
    // A server that has just been started again knows no streams for a moment.
    matches!(error.kind(), Pending | TimedOut | Unreachable | Broker | StoreFull | StreamsMissing)
}

/// Says something again until the broker does it.
async fn again<T, F: Future<Output = Result<T, Error>>>(say: impl Fn() -> F) -> Result<T, Error> {
    let end = Instant::now() + SAID_WITHIN;
    loop {
        match say().await {
            Err(error) if is_passing(&error) && Instant::now() < end => tokio::time::sleep(SAID_AGAIN_AFTER).await,
            said => return said,
        }
    }
}

fn beat() -> Result<CronName> {
    Ok(CronName::parse("beat")?)
}

fn beats() -> Result<CronSpec> {
    Ok(serde_json::from_value(
        json!({ "schedule": "@every 1s", "capability": "work", "body": wish::task(5, 0, false) }),
    )?)
}
