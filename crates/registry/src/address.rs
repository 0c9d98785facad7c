//! Addresses: what may be asked, and what may be said about it.

use std::net::{IpAddr, Ipv6Addr};

use reqwest::Url;

/// A URL without the parts that may be secret: user, password, query and fragment.
pub(crate) fn shown(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}://{host}{port}{}", url.scheme(), url.path())
}

/// Whether both are the same scheme, host and port: the only place where credentials may go.
pub(crate) fn same_origin(a: &Url, b: &Url) -> bool {
    a.origin() == b.origin()
}

/// Whether a URL leads to this machine by its literal name: 127.0.0.0/8, `::1` or `localhost` (RFC 6761).
pub(crate) fn is_loopback(url: &Url) -> bool {
    let Some(host) = url.host_str() else { return false };
    match ip(host) {
        Some(address) => address.is_loopback(),
        None => host == "localhost" || host.ends_with(".localhost"),
    }
}

/// How far a literal address reaches: a realm may not point deeper into a network than the registry itself lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reach {
    /// A name, or an address of the internet.
    Public,
    /// RFC 1918, RFC 4193 and RFC 6598 addresses.
    Private,
    /// This machine.
    Machine,
    /// 169.254.0.0/16, fe80::/10: where clouds keep their metadata services.
    Link,
}

/// The reach of a URL's host. Names are taken as public: who resolves them decides.
pub(crate) fn reach(url: &Url) -> Reach {
    if is_loopback(url) {
        return Reach::Machine;
    }
    match url.host_str().and_then(ip) {
        None => Reach::Public,
        Some(IpAddr::V4(v4)) => {
            let [a, b, ..] = v4.octets();
            let shared = a == 100 && (64..128).contains(&b);
            match () {
                () if v4.is_link_local() => Reach::Link,
                () if v4.is_unspecified() => Reach::Machine,
                () if v4.is_private() || shared => Reach::Private,
                () => Reach::Public,
            }
        }
        Some(IpAddr::V6(v6)) => match () {
            () if v6.is_unicast_link_local() => Reach::Link,
            () if v6.is_unspecified() => Reach::Machine,
            () if v6.is_unique_local() => Reach::Private,
            () => Reach::Public,
        },
    }
}

fn ip(host: &str) -> Option<IpAddr> {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let address = match bare {
        Some(v6) => IpAddr::V6(v6.parse::<Ipv6Addr>().ok()?),
        None => host.parse().ok()?,
    };
    Some(address.to_canonical())
}

/// The address that a `Location` header names, as seen from `from`.
///
/// # Errors
/// The reason why it is not followed: another scheme, a user in it, encryption given up, or a link-local address.
pub(crate) fn location(from: &Url, header: &str) -> Result<Url, String> {
    let to = from.join(header).map_err(|error| format!("its Location is no address: {error}"))?;
    check_target(from, &to)?;
    Ok(to)
}

fn check_target(from: &Url, to: &Url) -> Result<(), String> {
    if !matches!(to.scheme(), "http" | "https") || to.host_str().is_none() {
        return Err(format!("the scheme {:?} is not http or https", to.scheme()));
    }
    if !to.username().is_empty() || to.password().is_some() {
        return Err("its Location has a user name in it".to_owned());
    }
    if from.scheme() == "https" && to.scheme() == "http" {
        return Err(format!("from https to plain http ({})", shown(to)));
    }
    if reach(to) == Reach::Link && reach(from) != Reach::Link {
        return Err(format!("to the link-local address {}", shown(to)));
    }
    Ok(())
}

/// Whether a registry may name this token server: https or the registry's very origin, and no deeper in a network than it.
///
/// # Errors
/// The reason why not.
pub(crate) fn check_realm(registry: &Url, realm: &Url) -> Result<(), String> {
    check_target(registry, realm)?;
    if same_origin(registry, realm) {
        return Ok(());
    }
    if realm.scheme() != "https" {
        return Err(format!("its token server {} is neither https nor the registry itself", shown(realm)));
    }
    let (near, far) = (reach(registry), reach(realm));
    if far > near {
        return Err(format!("its token server {} is a {far:?} address, the registry's is not", shown(realm))
            .to_lowercase());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
    }

    #[test]
    fn loopback_is_told_from_names_that_look_like_it() {
        for text in [
            "http://127.0.0.1/",
            "http://127.9.9.9:5000/",
            "http://[::1]:1/",
            "http://localhost/",
            "http://127.1/",
            "http://[::ffff:127.0.0.1]/",
        ] {
            assert!(is_loopback(&url(text)), "{text}");
        }
        for text in [
            "http://localhost.example/",
            "http://127.0.0.1.example/",
            "http://128.0.0.1/",
            "http://xlocalhost/",
        ] {
            assert!(!is_loopback(&url(text)), "{text}");
        }
    }

    #[test]
    fn realms_are_https_or_the_registry_itself_and_never_deeper_inside() {
        let table = [
            ("https://r.example/", "https://auth.example/token", true),
            ("https://r.example/", "http://auth.example/token", false),
            ("https://r.example/", "http://r.example/token", false),
            ("http://127.0.0.1:5000/", "http://127.0.0.1:5000/token", true),
            ("http://127.0.0.1:5000/", "http://127.0.0.1:5001/token", false),
            ("http://127.0.0.1:5000/", "http://127.0.0.2:5000/token", false),
            ("http://127.0.0.1:5000/", "https://auth.example/token", true),
            ("https://r.example/", "https://169.254.169.254/latest", false),
            ("http://127.0.0.1:5000/", "https://169.254.169.254/latest", false),
            ("https://r.example/", "https://10.0.0.1/token", false),
            ("https://10.0.0.2/", "https://10.0.0.1/token", true),
            ("https://r.example/", "https://127.0.0.1/token", false),
            ("https://r.example/", "https://localhost/token", false),
            ("https://r.example/", "https://[fe80::1]/token", false),
            ("https://r.example/", "https://[::ffff:169.254.169.254]/token", false),
            ("https://r.example/", "https://u:p@auth.example/token", false),
            ("https://r.example/", "file:///etc/passwd", false),
        ];
        for (registry, realm, allowed) in table {
            assert_eq!(check_realm(&url(registry), &url(realm)).is_ok(), allowed, "{registry} {realm}");
        }
    }

    #[test]
    fn redirects_never_give_encryption_up_nor_carry_a_user() {
        let from = url("https://r.example/v2/a/blobs/x");
        assert_eq!(
            location(&from, "/other?sig=1").map(|u| u.to_string()),
            Ok("https://r.example/other?sig=1".to_owned())
        );
        assert_eq!(
            location(&from, "//cdn.example/x").map(|u| u.to_string()),
            Ok("https://cdn.example/x".to_owned())
        );
        for header in [
            "http://cdn.example/x",
            "ftp://cdn.example/",
            "https://u@cdn.example/",
            "https://169.254.169.254/",
            "https://",
        ] {
            assert!(location(&from, header).is_err(), "{header}");
        }
    }

    #[test]
    fn what_is_shown_of_an_address_has_no_query_and_no_user() {
        assert_eq!(
            shown(&url("https://u:p@h.example:8443/a/b?X-Signature=s#f")),
            "https://h.example:8443/a/b"
        );
    }
}
