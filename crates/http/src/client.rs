//! The clients that calls are made with: they connect to allowed addresses only, wherever a redirect leads.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use reqwest::{
    Client, Url,
    dns::{Addrs, Name, Resolve, Resolving},
    redirect::Policy,
};
use rustls::crypto::ring;

use crate::address::{AllowPrivate, Refused, is_public};

/// How long a connection may take to be made.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// Redirects of one call.
const REDIRECTS_MAX: usize = 5;

/// A client.
///
/// # Errors
/// A sentence, where the system has no roots of trust or no randomness.
pub(crate) fn build(allow: &AllowPrivate, has_secrets: bool, agent: &str) -> Result<Client, String> {
    // The one that the broker's client uses, too. An error says that there is one already.
    let _ = ring::default_provider().install_default();
    let client = Client::builder()
        .user_agent(agent)
        .connect_timeout(CONNECT_WITHIN)
        // A proxy would connect in our place, to whatever it likes.
        .no_proxy()
        .dns_resolver(Arc::new(Guarded { allow: allow.clone() }))
        .redirect(policy(allow.clone(), has_secrets));
    client.build().map_err(|error| format!("no HTTP client can be made: {error}"))
}

/// Looks names up, and leaves out what must not be connected to. What it gives is what is connected to: nobody looks a
/// second time, so a name that changes its address in between gains nothing.
struct Guarded {
    allow: AllowPrivate,
}

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        let (host, is_covered) = (name.as_str().to_owned(), self.allow.covers(name.as_str()));
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((host.as_str(), 0)).await?.collect();
            let allowed: Vec<SocketAddr> =
                found.into_iter().filter(|address| is_covered || is_public(address.ip())).collect();
            if allowed.is_empty() {
                return Err(Box::new(Refused { host }) as Box<dyn std::error::Error + Send + Sync>);
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

/// Names are looked at where they are resolved; addresses in a URL, which are not, are looked at here.
fn policy(allow: AllowPrivate, has_secrets: bool) -> Policy {
    Policy::custom(move |attempt| {
        let from = attempt.previous().last().cloned();
        if attempt.previous().len() > REDIRECTS_MAX {
            return attempt.error(Astray(format!("there are more than {REDIRECTS_MAX} redirects")));
        }
        if let Some(from) = from
            && let Err(astray) = may_follow(&from, attempt.url(), has_secrets)
        {
            return attempt.error(astray);
        }
        match allow.check(attempt.url()) {
            Ok(()) => attempt.follow(),
            Err(refused) => attempt.error(refused),
        }
    })
}

/// A redirect that is not followed.
#[derive(Debug)]
pub(crate) struct Astray(String);

impl std::fmt::Display for Astray {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Astray {}

/// Headers go along with a redirect, and with them secrets: those must reach nobody but whom they are meant for.
fn may_follow(from: &Url, to: &Url, has_secrets: bool) -> Result<(), Astray> {
    let whom = to.host_str().unwrap_or_default();
    if from.scheme() == "https" && to.scheme() != "https" {
        return Err(Astray(format!("a redirect to {whom} leaves https")));
    }
    let is_same = from.host() == to.host() && from.port_or_known_default() == to.port_or_known_default();
    let is_upgrade = from.host() == to.host() && from.scheme() == "http" && to.scheme() == "https";
    if has_secrets && !is_same && !is_upgrade {
        return Err(Astray(format!("a redirect to {whom} would take secrets along; put its URL into the definition")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_redirects_are_followed() {
        let may = |from: &str, to: &str, has_secrets| {
            may_follow(&Url::parse(from).unwrap(), &Url::parse(to).unwrap(), has_secrets).is_ok()
        };
        assert!(may("https://a.b/x", "https://a.b/y", true));
        assert!(may("http://a.b/x", "https://a.b/x", true));
        assert!(may("https://a.b/x", "https://c.d/y", false));
        assert!(!may("https://a.b/x", "https://c.d/y", true));
        assert!(!may("https://a.b/x", "https://a.b:8443/y", true));
        assert!(!may("https://a.b/x", "http://a.b/x", false));
    }
}
