//! Contexts of the NATS command line: `~/.config/nats/context/<name>.json`.
//!
//! It is another tool's file, so keys we do not know are none of our business. Keys we know but cannot
//! honour are faults, because connecting without them would reach another place than the user means.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{
    Faults, Secret,
    environment::{Environment, HOME, XDG_CONFIG_HOME},
};

/// What a context says, as it stands in the file. An empty text means that nothing is said.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct NatsContext {
    /// Servers, comma separated.
    pub url: String,
    /// User name.
    pub user: String,
    /// Password of the user.
    pub password: Option<Secret>,
    /// Token.
    pub token: Option<Secret>,
    /// Credentials file.
    pub creds: String,
    /// File with an nkey seed.
    pub nkey: String,
    /// File with our certificate.
    pub cert: String,
    /// File with our certificate's key.
    pub key: String,
    /// File with the certificates to trust.
    pub ca: String,
    /// Prefix of the subjects on which answers arrive.
    pub inbox_prefix: String,

    nsc: String,
    user_jwt: Option<Secret>,
    socks_proxy: String,
    jetstream_domain: String,
    jetstream_api_prefix: String,
    tls_first: bool,
}

impl NatsContext {
    /// Finds and reads a context by its name.
    ///
    /// # Errors
    /// The name is none, the file cannot be read or is no JSON, or it asks for what Sortie cannot do.
    pub fn load(name: &str, environment: &Environment) -> Result<Self, Faults> {
        let path = Self::path(name, environment)?;
        let place = format!("NATS context {name} ({})", path.display());
        let text = std::fs::read_to_string(&path).map_err(|error| {
            Faults::one(&place, format!("cannot be read: {error}; `nats context ls` lists those that exist"))
        })?;
        Self::parse(&place, &text, environment)
    }

    /// Where the context of this name lies.
    ///
    /// # Errors
    /// The name would lead out of the folder, or nothing says where home is.
    pub fn path(name: &str, environment: &Environment) -> Result<PathBuf, Faults> {
        if name.is_empty() || name.contains("..") || name.contains(['/', '\\']) {
            return Err(Faults::one(format!("NATS context {name:?}"), "is no name of a context"));
        }
        let config = match (environment.get(XDG_CONFIG_HOME), environment.get(HOME)) {
            (Some(config), _) => PathBuf::from(config),
            (None, Some(home)) => Path::new(home).join(".config"),
            (None, None) => return Err(Faults::one(HOME, "is not set, so NATS contexts cannot be found")),
        };
        Ok(config.join("nats").join("context").join(format!("{name}.json")))
    }

    fn parse(place: &str, text: &str, environment: &Environment) -> Result<Self, Faults> {
        let mut context: Self =
            serde_json::from_str(text).map_err(|error| Faults::one(place, format!("is not a context: {error}")))?;
        for path in [&mut context.creds, &mut context.nkey, &mut context.cert, &mut context.key, &mut context.ca] {
            if let (Some(rest), Some(home)) = (path.strip_prefix("~/"), environment.get(HOME)) {
                *path = format!("{home}/{rest}");
            }
        }
        let mut faults = Faults::new();
        for (key, used, instead) in context.not_honoured() {
            if used {
                faults.add(format!("{place}: {key}"), format!("is not supported by Sortie; {instead}"));
            }
        }
        faults.finish(context)
    }

    fn not_honoured(&self) -> [(&'static str, bool, &'static str); 6] {
        let user_jwt = self.user_jwt.as_ref().is_some_and(|jwt| !jwt.is_empty());
        [
            ("nsc", !self.nsc.is_empty(), "write a credentials file and name it in `creds`"),
            ("user_jwt", user_jwt, "write a credentials file and name it in `creds`"),
            ("socks_proxy", !self.socks_proxy.is_empty(), "use an address that is reached directly"),
            ("jetstream_domain", !self.jetstream_domain.is_empty(), "connect to a server of that domain"),
            ("jetstream_api_prefix", !self.jetstream_api_prefix.is_empty(), "use an account with its own JetStream"),
            ("tls_first", self.tls_first, "use a tls:// address of a server that does not need it"),
        ]
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
    use super::*;

    fn home(path: &str) -> Environment {
        Environment::of([(HOME, path)])
    }

    #[test]
    fn a_context_is_read_with_keys_we_do_not_know() {
        let text = r##"{
            "description": "prod", "url": "nats://a,nats://b", "user": "bob", "password": "hunter2",
            "token": "", "creds": "~/prod.creds", "nkey": "/n.nk", "cert": "c", "key": "k", "ca": "ca",
            "nsc": "", "jetstream_domain": "", "inbox_prefix": "_MINE", "color_scheme": "red", "later": [1]
        }"##;
        let context = NatsContext::parse("x", text, &home("/home/bob")).unwrap();
        assert_eq!(context.url, "nats://a,nats://b");
        assert_eq!(context.creds, "/home/bob/prod.creds");
        assert_eq!(context.nkey, "/n.nk");
        assert_eq!(context.inbox_prefix, "_MINE");
        assert_eq!(context.password.as_ref().map(Secret::expose), Some("hunter2"));
        assert!(!format!("{context:?}").contains("hunter2"));
    }

    #[test]
    fn what_cannot_be_honoured_is_refused_all_at_once() {
        let text = r#"{"nsc": "nsc://a/b/c", "socks_proxy": "socks5://p", "tls_first": true}"#;
        let faults = NatsContext::parse("ctx", text, &home("/")).unwrap_err();
        let places: Vec<_> = faults.iter().map(|fault| fault.place.as_str()).collect();
        assert_eq!(places, ["ctx: nsc", "ctx: socks_proxy", "ctx: tls_first"]);
    }

    #[test]
    fn the_file_is_found_by_name_and_only_by_name() {
        let path = |name, environment: &Environment| NatsContext::path(name, environment);
        let expected = PathBuf::from("/h/.config/nats/context/ngs.js.json");
        assert_eq!(path("ngs.js", &home("/h")), Ok(expected));
        let xdg = Environment::of([(HOME, "/h"), (XDG_CONFIG_HOME, "/x")]);
        assert_eq!(path("a", &xdg), Ok(PathBuf::from("/x/nats/context/a.json")));
        for name in ["", "../a", "a/b", "a\\b"] {
            assert!(path(name, &xdg).is_err(), "{name}");
        }
        assert!(path("a", &Environment::default()).is_err());
    }

    #[test]
    fn a_missing_or_broken_file_says_which() {
        let folder = tempfile::tempdir().unwrap();
        let environment = Environment::of([(XDG_CONFIG_HOME, folder.path().to_str().unwrap())]);
        let missing = NatsContext::load("prod", &environment).unwrap_err().to_string();
        assert!(missing.contains("prod.json") && missing.contains("nats context ls"), "{missing}");
        std::fs::create_dir_all(folder.path().join("nats/context")).unwrap();
        std::fs::write(folder.path().join("nats/context/prod.json"), "{").unwrap();
        let broken = NatsContext::load("prod", &environment).unwrap_err().to_string();
        assert!(broken.contains("is not a context"), "{broken}");
    }
}
