//! Who we are on the broker.

use std::path::PathBuf;

use super::{
    Faults, Secret,
    connection::{Given, Layer, readable},
    server::{ServerList, Userinfo},
};

/// Who we are on the broker. Defaults to nobody.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Identity {
    /// Whoever the server takes us for.
    #[default]
    Nobody,
    /// A JWT and its seed, in a file.
    Credentials(PathBuf),
    /// The seed of an nkey.
    NkeySeed(Secret),
    /// User and password.
    UserPassword(String, Secret),
    /// A token.
    Token(Secret),
}

/// What one source says about it, `None` when it says nothing.
///
/// The user in an address counts only where that address is the one in use, else it would be sent elsewhere.
pub(super) fn identity(layer: &Layer, server: Option<&Given>, faults: &mut Faults) -> Option<Identity> {
    let address = layer.server.as_ref().filter(|own| server.is_some_and(|used| used.place == own.place));
    let in_address = address.and_then(|given| {
        let list = ServerList::parse(&given.place, given.text.expose()).ok()?;
        Some((given, list.userinfo?))
    });
    let places: Vec<&str> = [&layer.creds, &layer.nkey, &layer.user, &layer.token]
        .into_iter()
        .flatten()
        .chain(in_address.as_ref().map(|(given, _)| *given))
        .map(|given| given.place.as_str())
        .collect();
    if let [first, .., last] = places.as_slice() {
        faults.add(*last, format!("says who we are, and so does {first}; give one of them"));
    }
    if let Some(given) = &layer.creds {
        return Some(readable(given, faults).map(Identity::Credentials).unwrap_or_default());
    }
    if let Some(given) = &layer.nkey {
        return Some(seed(given, faults).map(Identity::NkeySeed).unwrap_or_default());
    }
    if let Some(user) = &layer.user {
        let Some(password) = &layer.password else {
            faults.add(&user.place, "needs a password, in SORTIE_PASSWORD");
            return Some(Identity::Nobody);
        };
        return Some(Identity::UserPassword(user.text.expose().to_owned(), password.text.clone()));
    }
    if let Some(token) = &layer.token {
        return Some(Identity::Token(token.text.clone()));
    }
    in_address.map(|(_, userinfo)| match userinfo {
        Userinfo::UserPassword(user, password) => Identity::UserPassword(user, password),
        Userinfo::Token(token) => Identity::Token(token),
    })
}

/// The seed in an nkey file: the line that begins with S, as the tools write it.
fn seed(given: &Given, faults: &mut Faults) -> Option<Secret> {
    let path = given.text.expose();
    let found = match std::fs::read_to_string(path) {
        Ok(text) => text.lines().map(str::trim).find(|line| line.starts_with('S')).map(Secret::new),
        Err(error) => {
            faults.add(&given.place, format!("{path} cannot be read: {error}"));
            return None;
        }
    };
    if found.is_none() {
        faults.add(&given.place, format!("{path} holds no nkey seed"));
    }
    found
}
