//! Server addresses, and the secrets that people write into them.

use percent_encoding::percent_decode_str;
use url::Url;

use super::{Faults, Secret};

/// Where a broker listens unless something else is said.
pub const SERVER_DEFAULT: &str = "nats://127.0.0.1:4222";

const SCHEMES: [&str; 4] = ["nats", "tls", "ws", "wss"];

/// A list of servers, and who to be on them if the addresses say so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ServerList {
    /// Addresses without user, password or token, safe to print.
    pub(super) servers: Vec<String>,
    /// What stood before the `@`.
    pub(super) userinfo: Option<Userinfo>,
}

/// The part of an address before the `@`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Userinfo {
    /// `nats://user:password@host`
    UserPassword(String, Secret),
    /// `nats://token@host`
    Token(Secret),
}

impl ServerList {
    /// Reads `host`, `host:port` or `nats://…`, `tls://…`, `ws://…`, `wss://…`, separated by commas.
    pub(super) fn parse(place: &str, text: &str) -> Result<Self, Faults> {
        let mut faults = Faults::new();
        let mut servers = Vec::new();
        let mut userinfo = None;
        for item in text.split(',').map(str::trim).filter(|item| !item.is_empty()) {
            match parse_one(item) {
                Err(why) => faults.add(place, format!("`{}` {why}", without_secret(item))),
                Ok((server, found)) => {
                    servers.push(server);
                    if userinfo.is_some() && found.is_some() && userinfo != found {
                        faults.add(place, "the addresses name different users; one is used for all servers");
                    }
                    userinfo = userinfo.or(found);
                }
            }
        }
        if servers.is_empty() && faults.iter().next().is_none() {
            faults.add(place, format!("names no server, write for example {SERVER_DEFAULT}"));
        }
        faults.finish(Self { servers, userinfo })
    }
}

fn parse_one(item: &str) -> Result<(String, Option<Userinfo>), String> {
    let text = if item.contains("://") { item.to_owned() } else { format!("nats://{item}") };
    let mut url = Url::parse(&text).map_err(|error| format!("is not a server address: {error}"))?;
    if !SCHEMES.contains(&url.scheme()) {
        return Err(format!("begins with none of {}", SCHEMES.map(|s| format!("{s}://")).join(", ")));
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err("names no host".to_owned());
    }
    let userinfo = userinfo(&url)?;
    // Both can only fail on addresses without a host, which were refused above.
    let _ = url.set_password(None);
    let _ = url.set_username("");
    Ok((url.to_string(), userinfo))
}

fn userinfo(url: &Url) -> Result<Option<Userinfo>, String> {
    let decode = |part: &str| match percent_decode_str(part).decode_utf8() {
        Ok(text) => Ok(text.into_owned()),
        Err(_) => Err("has a user or password that is not UTF-8".to_owned()),
    };
    let user = decode(url.username())?;
    Ok(match url.password() {
        Some(password) => Some(Userinfo::UserPassword(user, Secret::new(decode(password)?))),
        None if user.is_empty() => None,
        None => Some(Userinfo::Token(Secret::new(user))),
    })
}

/// The text as it may stand in a message.
fn without_secret(item: &str) -> String {
    match item.rsplit_once('@') {
        Some((_, host)) => format!("***@{host}"),
        None => item.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
    use super::*;

    #[test]
    fn addresses_come_in_many_spellings() {
        for (text, servers) in [
            ("localhost", vec!["nats://localhost"]),
            ("10.0.0.1:4223, [::1]:4224,", vec!["nats://10.0.0.1:4223", "nats://[::1]:4224"]),
            ("tls://a.example:1,wss://b.example", vec!["tls://a.example:1", "wss://b.example/"]),
        ] {
            let list = ServerList::parse("--server", text).unwrap();
            assert_eq!(list.servers, servers, "{text}");
            assert_eq!(list.userinfo, None);
        }
    }

    #[test]
    fn secrets_leave_the_address() {
        let list = ServerList::parse("x", "nats://bob:p%40ss@a,bob:p%40ss@b:1,c").unwrap();
        assert_eq!(list.servers, ["nats://a", "nats://b:1", "nats://c"]);
        assert_eq!(list.userinfo, Some(Userinfo::UserPassword("bob".into(), Secret::new("p@ss"))));
        let list = ServerList::parse("x", "nats://t0ken@a").unwrap();
        assert_eq!(list.userinfo, Some(Userinfo::Token(Secret::new("t0ken"))));
    }

    #[test]
    fn every_bad_address_is_named_and_none_shows_its_secret() {
        let faults = ServerList::parse("--server", "http://a, bob:hunter2@b:port, ok, nats://").unwrap_err();
        let text = faults.to_string();
        assert_eq!(faults.iter().count(), 3, "{text}");
        assert!(text.contains("`***@b:port`") && !text.contains("hunter2"), "{text}");
        assert!(ServerList::parse("--server", " , ").is_err());
        assert!(ServerList::parse("--server", "a:b@c,d:e@f").is_err());
    }
}
