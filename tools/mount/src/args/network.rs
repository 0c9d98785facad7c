//! The container's network and how it finds other hosts.

use std::net::IpAddr;

use cli::Failure;
use descriptor::Exit;
use store::{CreateDoc, Store};

use super::spaces::{Kind, Space};

/// Stands for the host's own address in `--add-host`.
const GATEWAY: &str = "host-gateway";

/// Network and names.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Network and names")]
pub(crate) struct Network {
    /// The network: none, private (a loopback interface of its own), host, or container:NAME
    #[arg(
        long,
        visible_alias = "network",
        value_name = "NET",
        env = "OCIPIPE_NET",
        default_value = "private",
        value_parser = |text: &str| Space::parse(Kind::Net, text)
    )]
    net: Space,

    /// The host name [default: 12 digits of the id, or the host's with --net host]
    #[arg(short = 'h', long, value_name = "NAME", value_parser = hostname)]
    hostname: Option<String>,

    /// The NIS domain name
    #[arg(long, value_name = "NAME", value_parser = hostname)]
    domainname: Option<String>,

    /// A line for /etc/hosts; host-gateway stands for the host's address
    #[arg(long, value_name = "HOST:ADDRESS", value_parser = host)]
    add_host: Vec<String>,

    /// A name server, in place of the host's
    #[arg(long, value_name = "ADDRESS", value_parser = server)]
    dns: Vec<String>,

    /// A domain to search names in, in place of the host's; "." for none
    #[arg(long, value_name = "DOMAIN", value_parser = domain)]
    dns_search: Vec<String>,

    /// An option for resolv.conf, in place of the host's
    #[arg(long, visible_alias = "dns-opt", value_name = "OPTION", value_parser = resolver_option)]
    dns_option: Vec<String>,

    /// Do not pass the caller's proxy variables on to a container with a network
    #[arg(long)]
    pub(crate) no_http_proxy: bool,
}

impl Network {
    /// Writes the choices down; `host_names` says that the names of the host are the container's (`--uts host`).
    pub(crate) fn record(&self, doc: &mut CreateDoc, store: &Store, host_names: bool) -> Result<(), Failure> {
        doc.network = self.net.recorded(Kind::Net, store)?.unwrap_or_else(|| "private".into());
        doc.hostname.clone_from(&self.hostname);
        doc.http_proxy = self.no_http_proxy.then_some(false);
        doc.names = store::Names {
            hosts: self.add_host.clone(),
            servers: self.dns.clone(),
            search: self.dns_search.clone(),
            options: self.dns_option.clone(),
            domain: self.domainname.clone(),
        };
        self.check(host_names)
    }

    /// What docker's daemon refuses.
    fn check(&self, host_names: bool) -> Result<(), Failure> {
        let joined = matches!(self.net, Space::Container(_));
        let given = [
            (self.hostname.is_some(), "--hostname", joined || host_names),
            (self.domainname.is_some(), "--domainname", host_names),
            (!self.add_host.is_empty(), "--add-host", joined),
            (!self.dns.is_empty(), "--dns", joined),
            (!self.dns_search.is_empty(), "--dns-search", joined),
            (!self.dns_option.is_empty(), "--dns-option", joined),
        ];
        if let Some((_, flag, _)) = given.iter().find(|(given, _, taken)| *given && *taken) {
            let whose = if host_names {
                "the host's, with --uts host"
            } else {
                "the other container's, with --net container"
            };
            return Err(Failure::usage(
                "command line",
                format!("conflicting options: {flag}, as the names are {whose}"),
            ));
        }
        let wants_gateway = self.add_host.iter().any(|line| line.ends_with(&format!(":{GATEWAY}")));
        if wants_gateway && self.net != Space::Host {
            let why = format!("{GATEWAY}: a network without --net host has no way to the host");
            return Err(Failure::new(Exit::Privilege, "--add-host", why));
        }
        Ok(())
    }
}

/// A host name goes into files and into the kernel: letters, digits, `-` and `.`, as many as the kernel takes.
fn hostname(text: &str) -> Result<String, String> {
    const LONGEST: usize = 64;
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    if text.is_empty() || text.len() > LONGEST || !text.bytes().all(legal) || text.starts_with(['-', '.']) {
        return Err(format!("1 to {LONGEST} letters, digits, - _ and . , the first a letter or a digit"));
    }
    Ok(text.into())
}

/// `HOST:ADDRESS` or `HOST=ADDRESS`, an IPv6 address perhaps in brackets.
fn host(text: &str) -> Result<String, String> {
    let wrong = || format!("bad format for --add-host: {text:?}");
    let at = text.find(['=', ':']).ok_or_else(wrong)?;
    let (name, address) = (&text[..at], &text[at + 1..]);
    if name.is_empty() || name.chars().any(|c| c.is_whitespace() || c.is_control() || c == '#') {
        return Err(wrong());
    }
    if address == GATEWAY {
        return Ok(format!("{name}:{GATEWAY}"));
    }
    let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
    let address: IpAddr =
        bare.parse().map_err(|_| format!("invalid IP address in --add-host: {address:?}"))?;
    Ok(format!("{name}:{address}"))
}

fn server(text: &str) -> Result<String, String> {
    let address: IpAddr = text.trim().parse().map_err(|_| format!("{text:?} is not an ip address"))?;
    Ok(address.to_string())
}

/// Docker's rule, and `.` for no domain at all.
fn domain(text: &str) -> Result<String, String> {
    const LONGEST: usize = 255;
    let text = text.trim();
    if text == "." {
        return Ok(text.into());
    }
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    let plain = text.trim_end_matches('.');
    let labels =
        plain.split('.').all(|label| !label.is_empty() && !label.starts_with('-') && !label.ends_with('-'));
    if plain.is_empty() || text.len() > LONGEST || !text.bytes().all(legal) || !labels {
        return Err(format!("{text:?} is not a valid domain"));
    }
    Ok(text.into())
}

fn resolver_option(text: &str) -> Result<String, String> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | ':');
    if text.is_empty() || !text.chars().all(legal) {
        return Err(format!("{text:?} is no option of resolv.conf"));
    }
    Ok(text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_dockers() {
        for (text, want) in [
            ("myhost:8.8.8.8", "myhost:8.8.8.8"),
            ("myhost=8.8.8.8", "myhost:8.8.8.8"),
            ("my-ipv6host:2001:db8::33", "my-ipv6host:2001:db8::33"),
            ("my-ipv6host=[2001:db8::33]", "my-ipv6host:2001:db8::33"),
            ("host.docker.internal:host-gateway", "host.docker.internal:host-gateway"),
        ] {
            assert_eq!(host(text).as_deref(), Ok(want), "{text}");
        }
        for text in [
            "",
            "myhost",
            "myhost:",
            ":8.8.8.8",
            "my host:8.8.8.8",
            "a\n:1.1.1.1",
            "myhost:1.2.3",
            "myhost:[::1",
        ] {
            host(text).expect_err(text);
        }
    }

    #[test]
    fn what_goes_into_resolv_conf_is_one_word() {
        assert_eq!(server("::1").as_deref(), Ok("::1"));
        server("1.2.3").expect_err("no address");
        for good in ["example.com", "a.b.", "_tcp.x", "."] {
            domain(good).expect(good);
        }
        for bad in ["", "a b", "-a", "a..b", "a\nnameserver 1.1.1.1"] {
            domain(bad).expect_err(bad);
        }
        for bad in ["", "a b", "a\nnameserver 1.1.1.1"] {
            resolver_option(bad).expect_err(bad);
        }
        resolver_option("ndots:2").expect("an option");
    }
}
