//! Which addresses may be connected to: a service must not be made to call what stands beside it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::{Host, Url};

/// Which private addresses may be connected to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum AllowPrivate {
    /// All of them, or none.
    All(bool),
    /// Those of these hosts, by the name or address that the URL has.
    Hosts(Vec<String>),
}

/// Why nothing was connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) host: String,
}

impl Default for AllowPrivate {
    fn default() -> Self {
        Self::All(false)
    }
}

impl AllowPrivate {
    /// Whether whatever this host has for an address may be connected to.
    pub(crate) fn covers(&self, host: &str) -> bool {
        let bare = |text: &str| text.trim_matches(['[', ']']).trim_end_matches('.').to_ascii_lowercase();
        match self {
            Self::All(all) => *all,
            Self::Hosts(hosts) => hosts.iter().any(|allowed| bare(allowed) == bare(host)),
        }
    }

    /// Whether a URL may be called as far as it can be told before its name is looked up: an address in it is not.
    pub(crate) fn check(&self, url: &Url) -> Result<(), Refused> {
        let address = match url.host() {
            Some(Host::Ipv4(address)) => IpAddr::V4(address),
            Some(Host::Ipv6(address)) => IpAddr::V6(address),
            _ => return Ok(()),
        };
        let host = url.host_str().unwrap_or_default();
        if is_public(address) || self.covers(host) { Ok(()) } else { Err(Refused { host: host.to_owned() }) }
    }
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} has a private address; where that is meant, say so with `allow_private: [{}]`",
            self.host, self.host
        )
    }
}

impl std::error::Error for Refused {}

/// Whether an address is one of the public network.
pub(crate) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [first, second, third, _] = address.octets();
    !(address.is_unspecified()
        || address.is_loopback()
        || address.is_private()
        || address.is_link_local()
        || address.is_broadcast()
        || address.is_multicast()
        || address.is_documentation()
        || first == 0
        || first >= 240
        // Shared by carriers, protocol assignments, 6to4 relays, benchmarks.
        || (first == 100 && (64..128).contains(&second))
        || (first == 192 && second == 0 && third == 0)
        || (first == 192 && second == 88 && third == 99)
        || (first == 198 && (second == 18 || second == 19)))
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    let embedded = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    match segments {
        // Addresses of the older kind in the clothes of the newer: mapped, compatible, translated, 6to4.
        [0, 0, 0, 0, 0, 0xffff | 0, high, low] => embedded(high, low),
        [0x0064, 0xff9b, 0, 0, 0, 0, high, low] => embedded(high, low),
        [0x2002, high, low, ..] => embedded(high, low),
        [0x0064, 0xff9b, ..] => false,
        // Teredo, benchmarks, documentation.
        [0x2001, second, ..] if second < 0x0200 || second == 0x0db8 => false,
        // Only this part is given out for public use; loopback, unique local, link local and multicast lie outside.
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_public() {
        for public in ["1.1.1.1", "93.184.216.34", "192.0.1.1", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::1.1.1.1"]
        {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
        for private in [
            "127.0.0.1",
            "127.9.9.9",
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "100.127.0.1",
            "192.0.0.8",
            "198.18.0.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "192.0.2.1",
            "::",
            "::1",
            "fc00::1",
            "fd12::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::127.0.0.1",
            "64:ff9b::10.0.0.1",
            "64:ff9b:1::1",
            "2002:7f00:1::",
            "2002:a00:1::",
            "2001::1",
            "2001:db8::1",
        ] {
            assert!(!is_public(private.parse().unwrap()), "{private}");
        }
    }

    #[test]
    fn an_address_in_a_url_is_seen_however_it_is_written() {
        let check = |allow: &AllowPrivate, url: &str| allow.check(&Url::parse(url).unwrap());
        let none = AllowPrivate::default();
        for url in [
            "http://127.0.0.1/",
            "http://2130706433/",
            "http://0x7f.1/",
            "http://017700000001/",
            "http://127.1/",
            "http://[::1]:80/",
            "http://[::ffff:7f00:1]/",
            "http://169.254.169.254/latest/meta-data",
        ] {
            assert!(check(&none, url).is_err(), "{url}");
            assert!(check(&AllowPrivate::All(true), url).is_ok(), "{url}");
        }
        assert!(check(&none, "http://1.1.1.1/").is_ok());
        let some = AllowPrivate::Hosts(vec!["127.0.0.1".into(), "::1".into(), "shop.local".into()]);
        assert!(check(&some, "http://127.0.0.1/").is_ok() && check(&some, "http://[::1]/").is_ok());
        assert!(check(&some, "http://127.0.0.2/").is_err());
        assert!(some.covers("Shop.Local.") && !some.covers("local"));
    }
}
