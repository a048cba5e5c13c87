//! What this connection's account stores, and may store.

use serde::Deserialize;

use crate::{Connection, api, error::Error};

/// How much an account stores in files, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccountStore {
    /// What is stored, every copy counted.
    pub bytes: u64,
    /// What may be stored; none where only the server has a bound, which it does not tell here.
    pub bytes_max: Option<u64>,
}

/// Asks for it.
///
/// # Errors
/// `NoResponders` where JetStream is off, else what the API says.
pub async fn account_store(connection: &Connection) -> Result<AccountStore, Error> {
    let info: Info = api::ask_empty(connection, "INFO").await?;
    Ok(info.store())
}

#[derive(Deserialize)]
struct Info {
    storage: u64,
    limits: Option<Limits>,
}

#[derive(Deserialize)]
struct Limits {
    #[serde(default)]
    max_storage: i64,
}

impl Info {
    fn store(&self) -> AccountStore {
        let bytes_max = self.limits.as_ref().and_then(|limits| u64::try_from(limits.max_storage).ok());
        AccountStore { bytes: self.storage, bytes_max: bytes_max.filter(|bytes| *bytes > 0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_bound_is_written_as_less_than_nothing() {
        for (text, expected) in [
            (r#"{"storage":7,"limits":{"max_storage":-1}}"#, None),
            (r#"{"storage":7,"limits":{"max_storage":9}}"#, Some(9)),
            (r#"{"storage":7}"#, None),
        ] {
            let info: Info = serde_json::from_str(text).unwrap();
            assert_eq!(info.store(), AccountStore { bytes: 7, bytes_max: expected });
        }
    }
}
