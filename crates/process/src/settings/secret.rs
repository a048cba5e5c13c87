//! A value that must not be seen.

use std::fmt;

use protocol::settings::{MASK, Reference};

use serde::{Deserialize, Serialize, Serializer};

/// A password, token or key. Printed, logged or serialized it reads `***`.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Hides a value.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// What a variable of this process holds, for references such as `secret://env/SHOP_TOKEN`; none where it is not set
    /// or empty.
    #[allow(clippy::disallowed_methods, reason = "this crate is the one door, and the name comes from a file")]
    pub fn of_variable(name: &str) -> Option<Self> {
        std::env::var(name).ok().filter(|value| !value.is_empty()).map(Self)
    }

    /// The value itself, for whoever has to send it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// What a reference refers to, looked up now. The end of a file's last line does not count.
    ///
    /// # Errors
    /// It is not there, in a sentence that does not show it.
    pub fn find(reference: &Reference) -> Result<Self, String> {
        match reference {
            Reference::Variable(name) => super::environment::variable(name)
                .map(Self)
                .ok_or_else(|| format!("environment variable {name} is not set for this process")),
            Reference::File(path) => match std::fs::read_to_string(path) {
                Ok(text) => Ok(Self(text.trim_end_matches(['\r', '\n']).to_owned())),
                Err(error) => Err(format!("{path} cannot be read: {error}")),
            },
        }
    }

    /// Whether there is nothing to hide.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(MASK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_way_of_printing_shows_it() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret} {secret:?} {:?}", Some(&secret)), "*** *** Some(***)");
        assert_eq!(serde_json::json!({ "password": &secret }).to_string(), r#"{"password":"***"}"#);
        assert_eq!(secret.expose(), "hunter2");
    }
}
