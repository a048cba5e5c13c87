use std::{
    fmt::Write,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

/// How one server is run.
#[derive(Clone, Debug)]
pub struct Config {
    /// The nats-server to run. Defaults to what [`binary::find`](crate::binary::find) finds.
    pub binary: Option<PathBuf>,
    /// The address to listen on. Defaults to 127.0.0.1.
    pub host: IpAddr,
    /// The port for clients. Defaults to a free one, which the server keeps through every restart.
    pub port: Option<u16>,
    /// The port for monitoring over HTTP. Defaults to [`Monitor::Off`].
    pub monitor: Monitor,
    /// The folder of streams. Defaults to a temporary one, deleted when the [`Server`](crate::Server) is dropped.
    pub store: Option<PathBuf>,
    /// The file that the server's log is appended to. Defaults to one beside the temporary store.
    pub log: Option<PathBuf>,
    /// The server's name, without spaces. Defaults to `sortie-<port>`.
    pub name: Option<String>,
    /// When stored messages reach the disk. Defaults to [`SyncInterval::ServerDefault`].
    pub sync_interval: SyncInterval,
    /// The bound of all streams together, in bytes. Defaults to the server's: three quarters of what the disk has free.
    pub store_bytes_max: Option<u64>,
    /// The cluster to be a member of. Defaults to none. [`Cluster`](crate::Cluster) fills it in.
    pub membership: Option<Membership>,
    /// More lines for the server's configuration file, in its own syntax, after those made from the other fields.
    /// Defaults to nothing.
    pub extra: String,
    /// How long a start may take until the server answers. Defaults to 30 s: a large store takes a while to read.
    pub start_within: Duration,
    /// How long a graceful stop may take before the server is killed. Defaults to 10 s.
    pub stop_within: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            binary: None,
            host: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port: None,
            monitor: Monitor::Off,
            store: None,
            log: None,
            name: None,
            sync_interval: SyncInterval::ServerDefault,
            store_bytes_max: None,
            membership: None,
            extra: String::new(),
            start_within: Duration::from_secs(30),
            stop_within: Duration::from_secs(10),
        }
    }
}

/// Whether the server's HTTP monitoring is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Monitor {
    /// It is off.
    Off,
    /// It is on, at a free port.
    FreePort,
    /// It is on, at this port.
    Port(u16),
}

/// When stored messages reach the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncInterval {
    /// Every two minutes, as the server has it: survives every crash of the process, not every loss of power.
    ServerDefault,
    /// This often. Whole milliseconds.
    Every(Duration),
    /// Before each message is acknowledged.
    Always,
}

/// A server's place in a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// The cluster's name.
    pub cluster: String,
    /// The port that this server listens on for the others.
    pub port: u16,
    /// The ports of all members, at the same host; its own may be among them.
    pub routes: Vec<u16>,
}

/// What is settled when the server is started and the same through all its restarts.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    pub(crate) name: &'a str,
    pub(crate) port: u16,
    pub(crate) monitor: Option<u16>,
    pub(crate) store: &'a Path,
}

impl Config {
    /// The server's configuration file. JSON strings are strings in it as well.
    pub(crate) fn render(&self, place: &Place<'_>) -> String {
        let quote = |text: &str| serde_json::Value::from(text).to_string();
        let listen = |port: u16| quote(&SocketAddr::new(self.host, port).to_string());
        let mut jetstream = vec![format!("store_dir: {}", quote(&place.store.to_string_lossy()))];
        match self.sync_interval {
            SyncInterval::ServerDefault => {}
            SyncInterval::Every(interval) => jetstream.push(format!("sync_interval: \"{}ms\"", interval.as_millis())),
            SyncInterval::Always => jetstream.push("sync_interval: always".to_owned()),
        }
        jetstream.extend(self.store_bytes_max.map(|bytes| format!("max_file_store: {bytes}")));

        let mut text = format!("server_name: {}\nlisten: {}\n", quote(place.name), listen(place.port));
        if let Some(port) = place.monitor {
            let _ = writeln!(text, "http: {}", listen(port));
        }
        let _ = writeln!(text, "jetstream {{\n  {}\n}}", jetstream.join("\n  "));
        if let Some(member) = &self.membership {
            let routes: Vec<_> = member
                .routes
                .iter()
                .map(|port| quote(&format!("nats-route://{}", SocketAddr::new(self.host, *port))))
                .collect();
            let _ = writeln!(
                text,
                "cluster {{\n  name: {}\n  listen: {}\n  routes: [{}]\n}}",
                quote(&member.cluster),
                listen(member.port),
                routes.join(", "),
            );
        }
        text + &self.extra + "\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: fn(&Path) -> Place<'_> = |store| Place { name: "one", port: 4222, monitor: None, store };

    #[test]
    fn the_defaults_render_to_a_small_file() {
        assert_eq!(
            Config::default().render(&PLACE(Path::new("/a \"b\""))),
            "server_name: \"one\"\nlisten: \"127.0.0.1:4222\"\njetstream {\n  store_dir: \"/a \\\"b\\\"\"\n}\n\n",
        );
    }

    #[test]
    fn every_field_is_rendered() {
        let config = Config {
            sync_interval: SyncInterval::Every(Duration::from_millis(10)),
            store_bytes_max: Some(1_000_000),
            membership: Some(Membership { cluster: "three".to_owned(), port: 7001, routes: vec![7001, 7002] }),
            extra: "lame_duck_duration: \"30s\"".to_owned(),
            ..Config::default()
        };
        let text = config.render(&Place { monitor: Some(8222), ..PLACE(Path::new("/s")) });
        for line in [
            "http: \"127.0.0.1:8222\"",
            "  sync_interval: \"10ms\"",
            "  max_file_store: 1000000",
            "  name: \"three\"",
            "  listen: \"127.0.0.1:7001\"",
            "  routes: [\"nats-route://127.0.0.1:7001\", \"nats-route://127.0.0.1:7002\"]",
            "lame_duck_duration: \"30s\"",
        ] {
            assert!(text.lines().any(|one| one == line), "{line:?} is missing:\n{text}");
        }
    }
}
