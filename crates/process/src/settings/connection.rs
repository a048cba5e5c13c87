//! Where the broker is and who we are there.
//!
//! From what goes first to what goes last: flags, a context asked for by `--context`, `SORTIE_…`, `NATS_…`,
//! a context named by `NATS_CONTEXT`, defaults. Who we are is decided by the first of these that says
//! anything about it, so that half of one identity is never mixed with half of another.

use std::path::PathBuf;

use protocol::Namespace;

use super::{
    Environment, Faults, Secret, environment as variable,
    identity::{Identity, identity},
    nats_context::NatsContext,
    server::{SERVER_DEFAULT, ServerList},
};

/// The flags for it.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Connection")]
pub struct ConnectionArgs {
    /// Servers, comma separated [env: SORTIE_SERVER, NATS_URL] [default: nats://127.0.0.1:4222]
    #[arg(long, global = true, value_name = "URL")]
    pub server: Option<String>,
    /// Namespace of the fleet [env: SORTIE_NAMESPACE] [default: fleet]
    #[arg(long, global = true, value_name = "NAME")]
    pub namespace: Option<String>,
    /// Context of the NATS command line to take the rest from [env: NATS_CONTEXT]
    #[arg(long, global = true, value_name = "NAME")]
    pub context: Option<String>,
    /// Credentials file [env: SORTIE_CREDS, NATS_CREDS]
    #[arg(long, global = true, value_name = "FILE")]
    pub creds: Option<String>,
    /// File with an nkey seed [env: SORTIE_NKEY, NATS_NKEY]
    #[arg(long, global = true, value_name = "FILE")]
    pub nkey: Option<String>,
    /// User name; the password comes from SORTIE_PASSWORD [env: SORTIE_USER, NATS_USER]
    #[arg(long, global = true, value_name = "NAME")]
    pub user: Option<String>,
    /// File with the certificates to trust [env: SORTIE_TLS_CA, NATS_CA]
    #[arg(long, global = true, value_name = "FILE")]
    pub tls_ca: Option<String>,
    /// File with our certificate [env: SORTIE_TLS_CERT, NATS_CERT]
    #[arg(long, global = true, value_name = "FILE")]
    pub tls_cert: Option<String>,
    /// File with our certificate's key [env: SORTIE_TLS_KEY, NATS_KEY]
    #[arg(long, global = true, value_name = "FILE")]
    pub tls_key: Option<String>,
    /// Prefix of the subjects on which answers arrive [env: SORTIE_INBOX_PREFIX] [default: _INBOX]
    #[arg(long, global = true, value_name = "SUBJECT")]
    pub inbox_prefix: Option<String>,
}

/// Where the broker is and who we are there, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// Addresses without secrets in them. Defaults to [`SERVER_DEFAULT`].
    pub servers: Vec<String>,
    /// The fleet. Defaults to `fleet`.
    pub namespace: Namespace,
    /// Who we are. Defaults to nobody.
    pub identity: Identity,
    /// Certificates to trust besides the system's. Defaults to none.
    pub tls_ca: Option<PathBuf>,
    /// Our certificate and its key. Defaults to none.
    pub client_certificate: Option<(PathBuf, PathBuf)>,
    /// Prefix of the subjects on which answers arrive. Defaults to the client's `_INBOX`.
    pub inbox_prefix: Option<String>,
}

impl Connection {
    /// What opens it. The server calls the connection `name`, the binary's name as a rule.
    pub fn options(&self, name: &str) -> broker::Options {
        let mut options = broker::Options {
            servers: self.servers.clone(),
            tls_ca: self.tls_ca.clone(),
            tls_client: self.client_certificate.clone(),
            name: name.to_owned(),
            inbox_prefix: self.inbox_prefix.clone(),
            ..Default::default()
        };
        match &self.identity {
            Identity::Nobody => {}
            Identity::Credentials(file) => options.credentials_file = Some(file.clone()),
            Identity::NkeySeed(seed) => options.nkey_seed = Some(seed.expose().to_owned()),
            Identity::UserPassword(user, password) => {
                options.user_password = Some((user.clone(), password.expose().to_owned()));
            }
            Identity::Token(token) => options.token = Some(token.expose().to_owned()),
        }
        options
    }
}

/// A text and where it was written.
#[derive(Debug, Clone)]
pub(super) struct Given {
    pub(super) place: String,
    pub(super) text: Secret,
}

/// What one source says about the connection.
#[derive(Debug, Clone, Default)]
pub(super) struct Layer {
    pub(super) server: Option<Given>,
    pub(super) user: Option<Given>,
    pub(super) password: Option<Given>,
    pub(super) token: Option<Given>,
    pub(super) creds: Option<Given>,
    pub(super) nkey: Option<Given>,
    pub(super) ca: Option<Given>,
    pub(super) cert: Option<Given>,
    pub(super) key: Option<Given>,
    pub(super) inbox_prefix: Option<Given>,
}

impl ConnectionArgs {
    /// Puts flags, environment and contexts together.
    ///
    /// # Errors
    /// Everything that is wrong, files that cannot be read included.
    pub fn resolve(&self, environment: &Environment) -> Result<Connection, Faults> {
        let mut faults = Faults::new();
        let namespace = match given("--namespace", self.namespace.as_deref())
            .or_else(|| from_variable(environment, variable::NAMESPACE))
        {
            None => Namespace::default(),
            Some(given) => Namespace::parse(given.text.expose()).unwrap_or_else(|error| {
                faults.add(given.place, error.to_string());
                Namespace::default()
            }),
        };
        let layers = self.layers(environment, &mut faults);
        let connection = combine(&layers, namespace, &mut faults);
        faults.finish(connection)
    }

    /// The sources, first the one that goes first.
    fn layers(&self, environment: &Environment, faults: &mut Faults) -> Vec<Layer> {
        let ours = Layer::of_variables(environment, OURS);
        let natss = Layer::of_variables(environment, NATSS);
        let password = ours.password.clone().or_else(|| natss.password.clone());
        let mut context = |name: Option<&str>| {
            let loaded = name.map(|name| Layer::of_context(name, environment))?;
            faults.absorb(loaded)
        };
        let asked = context(self.context.as_deref());
        let named = match self.context {
            Some(_) => None,
            None => context(environment.get(variable::NATS_CONTEXT)),
        };
        let mut layers: Vec<_> =
            [Some(self.flags()), asked, Some(ours), Some(natss), named].into_iter().flatten().collect();
        // There is no flag for the password, so it may come from elsewhere than the user's name.
        for layer in layers.iter_mut().filter(|layer| layer.user.is_some() && layer.password.is_none()) {
            layer.password.clone_from(&password);
        }
        layers
    }

    fn flags(&self) -> Layer {
        Layer {
            server: given("--server", self.server.as_deref()),
            user: given("--user", self.user.as_deref()),
            creds: given("--creds", self.creds.as_deref()),
            nkey: given("--nkey", self.nkey.as_deref()),
            ca: given("--tls-ca", self.tls_ca.as_deref()),
            cert: given("--tls-cert", self.tls_cert.as_deref()),
            key: given("--tls-key", self.tls_key.as_deref()),
            inbox_prefix: given("--inbox-prefix", self.inbox_prefix.as_deref()),
            password: None,
            token: None,
        }
    }
}

/// Names of variables, in the order of [`Layer`]'s fields.
type Variables = [Option<&'static str>; 10];

const OURS: Variables = [
    Some(variable::SERVER),
    Some(variable::USER),
    Some(variable::PASSWORD),
    Some(variable::TOKEN),
    Some(variable::CREDS),
    Some(variable::NKEY),
    Some(variable::TLS_CA),
    Some(variable::TLS_CERT),
    Some(variable::TLS_KEY),
    Some(variable::INBOX_PREFIX),
];

const NATSS: Variables = [
    Some(variable::NATS_URL),
    Some(variable::NATS_USER),
    Some(variable::NATS_PASSWORD),
    Some(variable::NATS_TOKEN),
    Some(variable::NATS_CREDS),
    Some(variable::NATS_NKEY),
    Some(variable::NATS_CA),
    Some(variable::NATS_CERT),
    Some(variable::NATS_KEY),
    None,
];

impl Layer {
    fn of_variables(environment: &Environment, names: Variables) -> Self {
        let [server, user, password, token, creds, nkey, ca, cert, key, inbox_prefix] =
            names.map(|name| name.and_then(|name| from_variable(environment, name)));
        Self { server, user, password, token, creds, nkey, ca, cert, key, inbox_prefix }
    }

    fn of_context(name: &str, environment: &Environment) -> Result<Self, Faults> {
        let context = NatsContext::load(name, environment)?;
        let given = |key: &str, text: &str| given(&format!("NATS context {name}: {key}"), Some(text));
        let secret = |text: &Option<Secret>| text.as_ref().map_or(String::new(), |text| text.expose().to_owned());
        let mut layer = Self {
            server: given("url", &context.url),
            user: given("user", &context.user),
            password: given("password", &secret(&context.password)),
            token: given("token", &secret(&context.token)),
            creds: given("creds", &context.creds),
            nkey: given("nkey", &context.nkey),
            ca: given("ca", &context.ca),
            cert: given("cert", &context.cert),
            key: given("key", &context.key),
            inbox_prefix: given("inbox_prefix", &context.inbox_prefix),
        };
        layer.keep_what_the_nats_command_line_would_use();
        Ok(layer)
    }

    /// Contexts may hold several identities; that tool takes user, then creds, then nkey, then token.
    fn keep_what_the_nats_command_line_would_use(&mut self) {
        let mut taken = self.user.is_some();
        for identity in [&mut self.creds, &mut self.nkey, &mut self.token] {
            if taken {
                *identity = None;
            }
            taken |= identity.is_some();
        }
    }
}

fn combine(layers: &[Layer], namespace: Namespace, faults: &mut Faults) -> Connection {
    let first = |field: fn(&Layer) -> &Option<Given>| layers.iter().find_map(|layer| field(layer).as_ref());
    let servers = first(|layer| &layer.server)
        .and_then(|given| faults.absorb(ServerList::parse(&given.place, given.text.expose())))
        .map_or_else(|| vec![SERVER_DEFAULT.to_owned()], |list| list.servers);
    let identity =
        layers.iter().find_map(|layer| identity(layer, first(|layer| &layer.server), faults)).unwrap_or_default();
    let tls_ca = first(|layer| &layer.ca).and_then(|given| readable(given, faults));
    let pair = layers.iter().find(|layer| layer.cert.is_some() || layer.key.is_some());
    let client_certificate = pair.and_then(|layer| match (&layer.cert, &layer.key) {
        (Some(cert), Some(key)) => readable(cert, faults).zip(readable(key, faults)),
        (Some(given), None) | (None, Some(given)) => {
            faults.add(&given.place, "certificate and key are given together or not at all");
            None
        }
        (None, None) => None,
    });
    let inbox_prefix = first(|layer| &layer.inbox_prefix).map(|given| given.text.expose().to_owned());
    Connection { servers, namespace, identity, tls_ca, client_certificate, inbox_prefix }
}

/// The file's path, if it can be opened. Found out here so that it is told with the other faults.
pub(super) fn readable(given: &Given, faults: &mut Faults) -> Option<PathBuf> {
    let path = PathBuf::from(given.text.expose());
    match std::fs::File::open(&path) {
        Ok(_) => Some(path),
        Err(error) => {
            faults.add(&given.place, format!("{} cannot be read: {error}", path.display()));
            None
        }
    }
}

fn given(place: &str, text: Option<&str>) -> Option<Given> {
    let text = text.filter(|text| !text.is_empty())?;
    Some(Given { place: place.to_owned(), text: Secret::new(text) })
}

fn from_variable(environment: &Environment, name: &'static str) -> Option<Given> {
    given(name, environment.get(name))
}
