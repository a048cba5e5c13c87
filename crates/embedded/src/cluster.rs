use std::{
    process,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use serde::Deserialize;

use crate::{Config, Error, Membership, Monitor, Server, port::Port, server::LOOK};

/// Several servers on this machine that are one JetStream cluster.
///
/// Each member is a [`Server`] with ports and a store of its own, and is killed, paused and restarted like any. What
/// streams there are is not known here: who leads one is asked of the broker, by name, and
/// [`index_by_name`](Self::index_by_name) finds that member.
#[derive(Debug)]
pub struct Cluster {
    members: Vec<Server>,
    within: Duration,
    /// Held, so that a member that is down finds its port again.
    _routes: Vec<Port>,
}

impl Cluster {
    /// Starts `members` servers with the default [`Config`]. Returns when they have a leader and JetStream answers on
    /// each; three is the fewest for streams that survive the loss of one.
    ///
    /// # Errors
    /// Those of [`Server::start`], and [`Error::ClusterNotReady`].
    pub async fn start(members: usize) -> Result<Self, Error> {
        Self::start_with(members, Config::default()).await
    }

    /// Like [`start`](Self::start), with `config` for every member. Its `name` (defaults to `member`) becomes
    /// `<name>-0`, `<name>-1` …, in its `store` each gets a folder of that name, and to its `log` all append. Ports are
    /// always free ones and monitoring is always on.
    ///
    /// # Errors
    /// Those of [`start`](Self::start).
    pub async fn start_with(members: usize, config: Config) -> Result<Self, Error> {
        let held = (0..members).map(|_| Port::free(config.host)).collect::<Result<Vec<_>, _>>()?;
        let routes: Vec<_> = held.iter().map(|port| port.number).collect();
        let prefix = config.name.clone().unwrap_or_else(|| "member".to_owned());
        let cluster = unused_name();
        let mut started = Self { members: Vec::new(), within: config.start_within, _routes: held };
        for (index, port) in routes.iter().copied().enumerate() {
            let name = format!("{prefix}-{index}");
            let config = Config {
                port: None,
                monitor: Monitor::FreePort,
                store: config.store.as_ref().map(|folder| folder.join(&name)),
                name: Some(name),
                membership: Some(Membership { cluster: cluster.clone(), port, routes: routes.clone() }),
                ..config.clone()
            };
            started.members.push(Server::start(config).await?);
        }
        started.ready().await?;
        Ok(started)
    }

    /// Servers that were started one by one, each with what it says of the cluster in its own
    /// [`Config::extra`](crate::Config::extra), and its monitoring on. Returns when they have a leader and JetStream answers
    /// on each.
    ///
    /// # Errors
    /// [`Error::ClusterNotReady`].
    pub async fn of(members: Vec<Server>) -> Result<Self, Error> {
        let mut joined = Self { members, within: Config::default().start_within, _routes: Vec::new() };
        joined.ready().await?;
        Ok(joined)
    }

    /// The URLs of all members, separated by commas.
    #[must_use]
    pub fn url(&self) -> String {
        self.members.iter().map(Server::url).collect::<Vec<_>>().join(",")
    }

    /// The members, in the order of their names.
    #[must_use]
    pub fn servers(&self) -> &[Server] {
        &self.members
    }

    /// One member.
    ///
    /// # Panics
    /// If there is no such member.
    #[must_use]
    pub fn server(&self, index: usize) -> &Server {
        &self.members[index]
    }

    /// One member, to kill, pause or restart it.
    ///
    /// # Panics
    /// If there is no such member.
    #[must_use]
    pub fn server_mut(&mut self, index: usize) -> &mut Server {
        &mut self.members[index]
    }

    /// The member of this name.
    #[must_use]
    pub fn index_by_name(&self, name: &str) -> Option<usize> {
        self.members.iter().position(|member| member.name() == name)
    }

    /// The member that leads the cluster itself, as its members see it; none while they elect.
    pub async fn meta_leader(&self) -> Option<usize> {
        for member in &self.members {
            if let Ok(Meta { leader: Some(leader), .. }) = meta(member).await {
                return self.index_by_name(&leader);
            }
        }
        None
    }

    /// Waits until all members that run follow one leader, have caught up, and say that they are healthy. A member that
    /// is down is not waited for, so this can be called after killing one as well as after restarting it. A paused one
    /// counts as running. Waits as long as [`Config::start_within`].
    ///
    /// # Errors
    /// [`Error::ClusterNotReady`] with the last thing that was missing.
    pub async fn ready(&mut self) -> Result<(), Error> {
        let deadline = Instant::now() + self.within;
        loop {
            match self.missing().await {
                None => return Ok(()),
                Some(reason) if Instant::now() >= deadline => {
                    return Err(Error::ClusterNotReady { within: self.within, reason });
                }
                Some(_) => tokio::time::sleep(LOOK * 4).await,
            }
        }
    }

    /// What keeps the cluster from being ready, if anything does.
    async fn missing(&mut self) -> Option<String> {
        let size = self.members.len();
        let mut running: Vec<_> = self.members.iter_mut().filter_map(|one| one.is_running().then_some(&*one)).collect();
        let names: Vec<_> = running.iter().map(|member| member.name().to_owned()).collect();
        let mut leaders = Vec::new();
        for member in running.drain(..) {
            let name = member.name();
            match member.monitor("/healthz").await {
                Ok((200, _)) => {}
                Ok((_, said)) => return Some(format!("{name} is not healthy: {said}")),
                Err(error) => return Some(format!("{name}: {error}")),
            }
            let meta = match meta(member).await {
                Ok(meta) => meta,
                Err(error) => return Some(format!("{name}: {error}")),
            };
            if meta.cluster_size != size {
                return Some(format!("{name} sees {} members of {size}", meta.cluster_size));
            }
            let Some(leader) = meta.leader.filter(|leader| names.contains(leader)) else {
                return Some(format!("{name} sees no leader that runs"));
            };
            if leader == name {
                let behind = |name: &&String| !meta.replicas.iter().any(|replica| replica.is(name));
                if let Some(behind) = names.iter().filter(|other| *other != name).find(behind) {
                    return Some(format!("{behind} has not caught up with {name}, the leader"));
                }
            }
            leaders.push(leader);
        }
        leaders.dedup();
        (leaders.len() != 1).then(|| format!("the members do not see one leader: {leaders:?}"))
    }
}

/// What a member knows of the group of all members.
#[derive(Debug, Deserialize)]
struct Meta {
    leader: Option<String>,
    cluster_size: usize,
    #[serde(default)]
    replicas: Vec<Replica>,
}

#[derive(Debug, Deserialize)]
struct Replica {
    name: String,
    current: bool,
    #[serde(default)]
    offline: bool,
}

impl Replica {
    fn is(&self, name: &str) -> bool {
        self.name == name && self.current && !self.offline
    }
}

async fn meta(member: &Server) -> Result<Meta, Error> {
    const PATH: &str = "/jsz";
    let (_, mut jsz) = member.monitor(PATH).await?;
    serde_json::from_value(jsz["meta_cluster"].take())
        .map_err(|error| Error::Monitor { path: PATH.to_owned(), reason: format!("no word of the cluster: {error}") })
}

/// Servers of one machine that find each other under the same cluster name would join, so no name is used twice.
fn unused_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("sortie-{}-{}", process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}
