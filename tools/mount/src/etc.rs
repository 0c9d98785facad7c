//! The files of /etc that docker gives a container besides the image's: hosts, hostname, resolv.conf.
//!
//! They lie in the bundle and are bind-mounted, so neither the image's own nor the writable layer is touched.

use std::io::{Read, Write};
use std::path::Path;

use cli::{During, Failure};
use descriptor::Exit;
use rustix::fs::{Mode, OFlags};
use store::{CreateDoc, Store};
use sys::{Call, Root};

/// No more is taken of a host's file.
const LIMIT_BYTES: u64 = 1024 * 1024;
/// Everybody in the container reads them.
const MODE: Mode = Mode::from_raw_mode(0o644);

/// A file of the bundle's `files/` and where it is mounted.
#[derive(Debug)]
pub(crate) struct EtcFile {
    pub(crate) name: &'static str,
    pub(crate) target: &'static str,
    /// Whether it is mounted from the start; resolv.conf waits for a run with a network.
    pub(crate) mounted: bool,
}

/// The files of a container. resolv.conf is written for all, as a single run may have the host's network.
pub(crate) fn of(doc: &CreateDoc) -> [EtcFile; 3] {
    let names = &doc.names;
    let chosen = !(names.servers.is_empty() && names.search.is_empty() && names.options.is_empty());
    let mounted = chosen || doc.network == "host" || other(doc).is_some();
    [
        EtcFile { name: "resolv.conf", target: "/etc/resolv.conf", mounted },
        EtcFile { name: "hosts", target: "/etc/hosts", mounted: true },
        EtcFile { name: "hostname", target: "/etc/hostname", mounted: true },
    ]
}

/// The container whose network this one shares, and whose files for it.
pub(crate) fn other(doc: &CreateDoc) -> Option<&str> {
    doc.network.strip_prefix("container:")
}

/// The name of another container, as it was made: its own file is the other's to write to. One without a name of its own has
/// the host's.
pub(crate) fn name_of(store: &Store, id: &str) -> Result<String, Failure> {
    let what = || format!("--net container:{id}");
    let container = store.container(id).during(what)?;
    let config = container.document("config.json").during(what)?.unwrap_or_default();
    config["hostname"].as_str().map_or_else(host_name, |name| Ok(name.into()))
}

/// Writes them into `files`.
pub(crate) fn write(files: &Root, doc: &CreateDoc, hostname: &str) -> Result<(), Failure> {
    let mut hosts = if doc.network == "host" { host_file("/etc/hosts") } else { LOCAL_HOSTS.into() };
    if !hosts.is_empty() && !hosts.ends_with(b"\n") {
        hosts.push(b'\n');
    }
    for line in &doc.names.hosts {
        let (name, address) = line.split_once(':').unwrap_or((line, ""));
        // The host's own loopback interface is the container's with its network.
        let address = if address == "host-gateway" { "127.0.0.1" } else { address };
        hosts.extend(format!("{address}\t{name}\n").bytes());
    }
    if doc.network != "host" {
        // The container's own name is this machine, as Debian has it.
        let full =
            doc.names.domain.as_ref().map(|domain| format!("{hostname}.{domain} ")).unwrap_or_default();
        hosts.extend(format!("127.0.1.1\t{full}{hostname}\n").bytes());
    }
    create(files, "resolv.conf", &resolv_conf(&host_file("/etc/resolv.conf"), doc))?;
    create(files, "hosts", &hosts)?;
    create(files, "hostname", format!("{hostname}\n").as_bytes())
}

/// Docker's lines of every hosts file.
const LOCAL_HOSTS: &str = "127.0.0.1\tlocalhost\n\
    ::1\tlocalhost ip6-localhost ip6-loopback\n\
    fe00::\tip6-localnet\n\
    ff00::\tip6-mcastprefix\n\
    ff02::1\tip6-allnodes\n\
    ff02::2\tip6-allrouters\n";

/// The host's file with what was chosen in place of its lines; servers of its loopback interface are out of reach of a container
/// that does not share its network.
fn resolv_conf(host: &[u8], doc: &CreateDoc) -> Vec<u8> {
    let names = &doc.names;
    let mut text = String::new();
    for line in String::from_utf8_lossy(host).lines() {
        let mut words = line.split_whitespace();
        let kept = match (words.next(), words.next()) {
            (Some("nameserver"), Some(address)) => {
                names.servers.is_empty() && (doc.network == "host" || !is_loopback(address))
            }
            (Some("search" | "domain"), _) => names.search.is_empty(),
            (Some("options"), _) => names.options.is_empty(),
            _ => true,
        };
        if kept {
            text.push_str(line);
            text.push('\n');
        }
    }
    let mut add = |line: String| text.push_str(&(line + "\n"));
    let search: Vec<&str> = names.search.iter().map(String::as_str).filter(|domain| *domain != ".").collect();
    if !search.is_empty() {
        add(format!("search {}", search.join(" ")));
    }
    names.servers.iter().for_each(|server| add(format!("nameserver {server}")));
    if !names.options.is_empty() {
        add(format!("options {}", names.options.join(" ")));
    }
    text.into_bytes()
}

/// A server's address, perhaps with a zone.
fn is_loopback(address: &str) -> bool {
    let bare = address.split('%').next().unwrap_or(address);
    bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// A file of the host as it is now; empty where there is none.
fn host_file(path: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let read =
        std::fs::File::open(Path::new(path)).and_then(|file| file.take(LIMIT_BYTES).read_to_end(&mut bytes));
    if read.is_err() {
        bytes.clear();
    }
    bytes
}

fn create(files: &Root, name: &str, bytes: &[u8]) -> Result<(), Failure> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
    let written = files.open(name, flags, MODE).and_then(|fd| {
        // The umask has no say.
        rustix::fs::fchmod(&fd, MODE).call("fchmod", || name.into())?;
        std::fs::File::from(fd).write_all(bytes).call("write", || name.into())
    });
    written
        .map_err(|source| overlay::Error::Call { what: "writing a file for /etc", source })
        .during(|| name.into())
}

/// The host's own name; what runs with the host's network has it too.
pub(crate) fn host_name() -> Result<String, Failure> {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    if name.is_empty() { Err(Failure::new(Exit::Other, "the host's name", "it is empty")) } else { Ok(name) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str =
        "# host\nsearch a b\nnameserver 127.0.0.53\nnameserver ::1\nnameserver 9.9.9.9\noptions edns0\n";

    fn made(network: &str, change: impl FnOnce(&mut store::Names)) -> String {
        let mut doc = CreateDoc { network: network.into(), ..CreateDoc::default() };
        change(&mut doc.names);
        String::from_utf8(resolv_conf(HOST.as_bytes(), &doc)).expect("UTF-8")
    }

    #[test]
    fn servers_of_the_hosts_loopback_are_left_out_but_with_its_network() {
        assert_eq!(made("private", |_| {}), "# host\nsearch a b\nnameserver 9.9.9.9\noptions edns0\n");
        assert_eq!(made("host", |_| {}), HOST);
    }

    #[test]
    fn what_is_chosen_takes_the_place_of_the_hosts_lines() {
        let text = made("host", |names| names.servers = vec!["1.1.1.1".into(), "127.0.0.1".into()]);
        assert_eq!(text, "# host\nsearch a b\noptions edns0\nnameserver 1.1.1.1\nnameserver 127.0.0.1\n");
        let text = made("private", |names| {
            names.search = vec![".".into()];
            names.options = vec!["ndots:2".into()];
        });
        assert_eq!(text, "# host\nnameserver 9.9.9.9\noptions ndots:2\n");
    }
}
