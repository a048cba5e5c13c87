mod signals;
mod start;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, ExitStatus, Stdio},
    time::Duration,
};

use nix::sys::signal::Signal;
use tempfile::TempDir;

use self::start::{address, answered, found};
use crate::{Config, Error, Monitor, config::Place, log::Log, monitor, parent, port::Port};

/// Between two looks at whether a fact holds. A start takes some 50 ms, so this is little of it.
pub(crate) const LOOK: Duration = Duration::from_millis(5);

/// How often other free ports are chosen when one turns out to be taken after all.
const PORT_TRIES: u32 = 5;

/// A nats-server that runs as a child of this process, with JetStream on.
///
/// Dropping it kills the server and removes the folder that it made, also while a panic unwinds. Everything else about
/// its end is a method: [`stop`](Self::stop) in good order, [`kill`](Self::kill) at once.
#[derive(Debug)]
pub struct Server {
    config: Config,
    binary: PathBuf,
    name: String,
    port: Port,
    monitor: Option<Port>,
    store: PathBuf,
    child: Option<Child>,
    /// The configuration file; the log and the store, unless they were put elsewhere.
    folder: TempDir,
}

impl Server {
    /// Starts a server, and returns when it answers clients and JetStream is on.
    ///
    /// # Errors
    /// [`Error::NoServer`] or [`Error::Unusable`] when there is no nats-server, [`Error::PortTaken`] when a port that
    /// `config` insists on is in use, [`Error::Died`] and [`Error::NotReady`] with the end of the server's log, and
    /// [`Error::File`] or [`Error::Process`] when the operating system refuses something.
    pub async fn start(config: Config) -> Result<Self, Error> {
        let binary = found(config.binary.clone()).await?;
        let insists = config.port.is_some() || matches!(config.monitor, Monitor::Port(_));
        for _ in 1..PORT_TRIES {
            match Self::attempt(config.clone(), binary.clone()).await {
                Err(Error::PortTaken { address }) if !insists => {
                    tracing::debug!(%address, "choosing another port")
                }
                settled => return settled,
            }
        }
        Self::attempt(config, binary).await
    }

    async fn attempt(config: Config, binary: PathBuf) -> Result<Self, Error> {
        let folder =
            tempfile::Builder::new().prefix("sortie-nats-").tempdir().map_err(Error::file(std::env::temp_dir()))?;
        let port = config.port.map_or_else(|| Port::free(config.host), |number| Ok(Port::exactly(number)))?;
        let monitor = match config.monitor {
            Monitor::Off => None,
            Monitor::FreePort => Some(Port::free(config.host)?),
            Monitor::Port(number) => Some(Port::exactly(number)),
        };
        let name = config.name.clone().unwrap_or_else(|| format!("sortie-{}", port.number));
        let store = config.store.clone().unwrap_or_else(|| folder.path().join("store"));
        let mut server = Self { config, binary, name, port, monitor, store, child: None, folder };
        server.launch().await?;
        Ok(server)
    }

    async fn launch(&mut self) -> Result<(), Error> {
        let place =
            Place { name: &self.name, port: self.port.number, monitor: self.monitor_port(), store: &self.store };
        let file = self.folder.path().join("nats-server.conf");
        fs::write(&file, self.config.render(&place)).map_err(Error::file(&file))?;
        let path = self.log_path();
        let (log, output) = Log::open(&path).map_err(Error::file(&path))?;
        let errors = output.try_clone().map_err(Error::file(&path))?;
        let mut command = parent::command(&self.binary);
        command.arg("-c").arg(&file).stdin(Stdio::null()).stdout(output).stderr(errors);
        let child = parent::spawn(command).map_err(Error::process("start nats-server"))?;
        tracing::debug!(name = self.name, pid = child.id(), port = self.port.number, "nats-server started");
        let child = self.child.insert(child);
        let answered = answered(child, address(self.config.host, self.port.number), &self.name, &self.config, &log);
        let answered = answered.await;
        if answered.is_err() {
            self.kill()?;
        }
        answered
    }

    /// The URL for clients, `nats://127.0.0.1:<port>`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://{}", address(self.config.host, self.port.number))
    }

    /// The port for clients, the same through every restart.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port.number
    }

    /// The port for monitoring over HTTP, if that is on.
    #[must_use]
    pub fn monitor_port(&self) -> Option<u16> {
        self.monitor.as_ref().map(|port| port.number)
    }

    /// The server's name, as it tells it to clients and to its cluster.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The folder that holds its streams.
    #[must_use]
    pub fn store(&self) -> &Path {
        &self.store
    }

    /// The file that its log is appended to.
    #[must_use]
    pub fn log_path(&self) -> PathBuf {
        self.config.log.clone().unwrap_or_else(|| self.folder.path().join("nats-server.log"))
    }

    /// The id of its process, which leads a process group of its own; none while it is stopped or killed.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Whether its process lives now. It may have ended by itself since it was started.
    pub fn is_running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// Waits until the process ends by itself, and says how; at once if it is not running. May be dropped and called
    /// again, so it can stand in a `select!`.
    ///
    /// # Errors
    /// [`Error::Process`] if it cannot be waited for, [`Error::NotRunning`] after [`stop`](Self::stop) and
    /// [`kill`](Self::kill).
    pub async fn ended(&mut self) -> Result<ExitStatus, Error> {
        loop {
            let child = self.running()?;
            if let Some(status) = child.try_wait().map_err(Error::process("wait for nats-server"))? {
                return Ok(status);
            }
            tokio::time::sleep(LOOK * 10).await;
        }
    }

    /// Stops it in good order (SIGTERM): it writes its state and hands leadership on. If that takes longer than
    /// [`Config::stop_within`], it is killed. Nothing to do if it is not running.
    ///
    /// # Errors
    /// [`Error::Process`] if it can be neither signalled nor waited for.
    pub async fn stop(&mut self) -> Result<(), Error> {
        if !self.is_running() {
            return self.kill();
        }
        // One that was paused hears the first only after the second, by which time any other may have ended.
        for signal in [Signal::SIGTERM, Signal::SIGCONT] {
            match self.signal(signal) {
                Ok(()) | Err(Error::NotRunning { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        if tokio::time::timeout(self.config.stop_within, self.ended()).await.is_err() {
            tracing::warn!(name = self.name, within = ?self.config.stop_within, "nats-server did not stop: killing it");
        }
        self.kill()
    }

    /// Kills it at once (SIGKILL), as a crash would, and waits for its end. Nothing to do if it is not running.
    ///
    /// # Errors
    /// [`Error::Process`] if it cannot be killed or waited for.
    pub fn kill(&mut self) -> Result<(), Error> {
        let Some(child) = &mut self.child else {
            return Ok(());
        };
        child.kill().and_then(|()| child.wait()).map_err(Error::process("kill nats-server"))?;
        self.child = None;
        Ok(())
    }

    /// Starts it again, with the same ports, store and name, after stopping it if it runs: after
    /// [`kill`](Self::kill) this is what comes after a crash.
    ///
    /// # Errors
    /// Those of [`stop`](Self::stop) and [`start`](Self::start).
    pub async fn restart(&mut self) -> Result<(), Error> {
        self.stop().await?;
        self.launch().await
    }

    /// Asks its monitoring endpoint, for instance for `/jsz?streams=true`, and gives the HTTP status and the JSON.
    ///
    /// # Errors
    /// [`Error::Monitor`] if monitoring is off, the server does not answer, or the answer is no JSON.
    pub async fn monitor(&self, path: &str) -> Result<(u16, serde_json::Value), Error> {
        let failed = |reason: String| Error::Monitor { path: path.to_owned(), reason };
        let port = self.monitor_port().ok_or_else(|| failed("monitoring is off".to_owned()))?;
        let (status, body) = monitor::get(address(self.config.host, port), path).await.map_err(failed)?;
        let json = serde_json::from_str(&body).map_err(|error| failed(format!("it is no JSON: {error}")))?;
        Ok((status, json))
    }

    fn running(&mut self) -> Result<&mut Child, Error> {
        self.child.as_mut().ok_or_else(|| Error::NotRunning { name: self.name.clone() })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(error) = self.kill() {
            tracing::warn!(name = self.name, %error, "nats-server may be left behind");
        }
    }
}
