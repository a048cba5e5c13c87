//! Carrying frames, and acting on them.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{self, Signal},
    unistd::Pid,
};
use tokio::{
    io::{AsyncWriteExt, BufReader},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{mpsc, watch},
};

use crate::victim::stands_still;

use super::{
    Direction, Flow,
    frame::Frame,
    script::{Action, Moment, Trigger},
};

/// Frames that are read before they may pass: more than arrive in the longest delay that a test asks for.
const READ_AHEAD: usize = 4_096;

/// Questions whose answer is still to come, remembered per connection: many times what a worker has in flight.
const ASKED_MAX: usize = 100_000;

/// The state of the link, as all connections of a proxy see it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Link {
    to_server: Flow,
    to_worker: Flow,
    /// Nobody gets in.
    is_cut: bool,
    /// The worker was killed: not even what was under way passes.
    is_severed: bool,
    /// Connections begun before the last cut are over.
    cuts: u64,
}

/// What all connections of a proxy share.
#[derive(Debug)]
pub(super) struct Wire {
    server: SocketAddr,
    script: Mutex<Vec<(Trigger, u32)>>,
    link: watch::Sender<Link>,
    victim: watch::Sender<Option<u32>>,
    tripped: watch::Sender<Vec<Instant>>,
    connections: AtomicU64,
    bytes: AtomicU64,
}

/// One connection: what was asked over it, by where the answer goes.
type Asked = Mutex<HashMap<String, String>>;

impl Wire {
    pub(super) fn new(server: SocketAddr, script: Vec<Trigger>) -> Self {
        Self {
            server,
            script: Mutex::new(script.into_iter().map(|trigger| (trigger, 0)).collect()),
            link: watch::Sender::default(),
            victim: watch::Sender::default(),
            tripped: watch::Sender::default(),
            connections: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        }
    }

    pub(super) fn set_victim(&self, pid: u32) {
        self.victim.send_replace(Some(pid));
    }

    pub(super) fn tripped(&self) -> watch::Receiver<Vec<Instant>> {
        self.tripped.subscribe()
    }

    pub(super) fn set_flow(&self, direction: Direction, flow: Flow) {
        self.link.send_modify(|link| match direction {
            Direction::ToServer => link.to_server = flow,
            Direction::ToWorker => link.to_worker = flow,
        });
    }

    pub(super) fn cut(&self) {
        self.link.send_modify(|link| {
            link.is_cut = true;
            link.cuts += 1;
        });
    }

    pub(super) fn mend(&self) {
        self.link.send_modify(|link| *link = Link { is_severed: link.is_severed, cuts: link.cuts, ..Link::default() });
    }

    pub(super) fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Triggers that this frame sets off, each for the only time.
    fn set_off(&self, frame: &Frame, asked: Option<&str>) -> Vec<Trigger> {
        let mut script = self.script.lock().unwrap_or_else(PoisonError::into_inner);
        let mut set_off = Vec::new();
        for (trigger, count) in script.iter_mut().filter(|(trigger, _)| trigger.counts(frame, asked)) {
            *count += 1;
            if *count == trigger.nth {
                set_off.push(*trigger);
            }
        }
        set_off
    }

    async fn act(&self, action: Action) {
        let signal = match action {
            Action::Kill => Some(Signal::SIGKILL),
            Action::Signal(signal) => Some(signal),
            Action::Cut => {
                self.cut();
                None
            }
            Action::Flow(direction, flow) => {
                self.set_flow(direction, flow);
                None
            }
        };
        if let Some(signal) = signal {
            let mut victim = self.victim.subscribe();
            let pid = victim.wait_for(Option::is_some).await.ok().and_then(|pid| *pid);
            if let Some((pid, number)) = pid.and_then(|pid| Some((pid, i32::try_from(pid).ok()?))) {
                // Whoever started it has not waited for it yet, so the number is still its own.
                let _ = signal::kill(Pid::from_raw(number), signal);
                if signal == Signal::SIGSTOP {
                    let _ = stands_still(pid).await;
                }
            }
        }
        self.tripped.send_modify(|tripped| tripped.push(Instant::now()));
    }
}

/// Carries one connection of a worker to its end.
pub(super) async fn carry(wire: Arc<Wire>, worker: TcpStream) {
    let link = *wire.link.borrow();
    if link.is_cut || link.is_severed {
        return;
    }
    wire.connections.fetch_add(1, Ordering::Relaxed);
    // A server that is down is a connection that ends at once.
    let Ok(server) = TcpStream::connect(wire.server).await else { return };
    let _ = (worker.set_nodelay(true), server.set_nodelay(true));
    let (from_worker, to_worker) = worker.into_split();
    let (from_server, to_server) = server.into_split();
    let asked = Asked::default();
    let mut cut = wire.link.subscribe();
    let upward = pump(&wire, Direction::ToServer, &asked, from_worker, to_server);
    let downward = pump(&wire, Direction::ToWorker, &asked, from_server, to_worker);
    tokio::select! {
        // Each direction ends on its own, so that what the server was sent is read to its end before it hears of it.
        _ = async { tokio::join!(upward, downward) } => {}
        _ = cut.wait_for(|now| now.cuts > link.cuts) => {}
    }
}

/// Carries one direction to its end, and then tells the other side of it.
async fn pump(wire: &Wire, direction: Direction, asked: &Asked, from: OwnedReadHalf, mut to: OwnedWriteHalf) {
    let mut from = BufReader::new(from);
    let mut link = wire.link.subscribe();
    let (ahead, mut frames) = mpsc::channel(READ_AHEAD);
    let reading = async move {
        while let Ok(Some(frame)) = Frame::read(&mut from).await {
            // The other end may still be saying something: unread, it would turn this end into a reset, and what was sent
            // last could be lost with it.
            let _ = ahead.send((tokio::time::Instant::now(), frame)).await;
        }
    };
    let passing = async {
        while let Some((arrived, frame)) = frames.recv().await {
            if pass(wire, direction, asked, &mut link, (arrived, frame), &mut to).await.is_err() {
                break;
            }
        }
        drop(frames);
        let _ = to.shutdown().await;
    };
    tokio::join!(reading, passing);
}

async fn pass(
    wire: &Wire,
    direction: Direction,
    asked: &Asked,
    link: &mut watch::Receiver<Link>,
    (arrived, mut frame): (tokio::time::Instant, Frame),
    to: &mut OwnedWriteHalf,
) -> io::Result<()> {
    let question = remember(direction, asked, &frame);
    frame.without_other_ways();
    let set_off = wire.set_off(&frame, question.as_deref());
    for trigger in set_off.iter().filter(|trigger| trigger.moment == Moment::Before) {
        if trigger.action == Action::Kill {
            wire.link.send_modify(|link| link.is_severed = true);
        }
        wire.act(trigger.action).await;
    }
    let is_last = set_off.iter().any(|trigger| trigger.moment == Moment::After && trigger.action == Action::Kill);
    let flow_of = |link: &Link| match direction {
        Direction::ToServer => link.to_server,
        Direction::ToWorker => link.to_worker,
    };
    let now =
        *link.wait_for(|link| link.is_severed || flow_of(link) != Flow::Stalled).await.map_err(io::Error::other)?;
    if now.is_severed {
        return Err(io::ErrorKind::BrokenPipe.into());
    }
    if is_last {
        // Nothing else passes in either direction, not even the answer.
        wire.link.send_modify(|link| link.is_severed = true);
    }
    match flow_of(&now) {
        Flow::Late(late) => tokio::time::sleep_until(arrived + late).await,
        Flow::Slow { bytes_per_second } => {
            let bytes = u64::try_from(frame.raw.len()).unwrap_or(u64::MAX);
            tokio::time::sleep(Duration::from_micros(bytes * 1_000_000 / bytes_per_second)).await;
        }
        Flow::Open | Flow::Stalled | Flow::Dropped => {}
    }
    if flow_of(&now) != Flow::Dropped {
        to.write_all(&frame.raw).await?;
        wire.bytes.fetch_add(u64::try_from(frame.raw.len()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
    for trigger in set_off.iter().filter(|trigger| trigger.moment == Moment::After) {
        wire.act(trigger.action).await;
    }
    if is_last { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(()) }
}

/// Remembers what is asked, and gives the question that an answer answers.
fn remember(direction: Direction, asked: &Asked, frame: &Frame) -> Option<String> {
    let mut asked = asked.lock().unwrap_or_else(PoisonError::into_inner);
    match (direction, &frame.reply) {
        (Direction::ToServer, Some(reply)) if frame.is_publish() && asked.len() < ASKED_MAX => {
            asked.insert(reply.clone(), frame.subject.clone());
            None
        }
        (Direction::ToWorker, _) if frame.is_message() => asked.remove(&frame.subject),
        _ => None,
    }
}
